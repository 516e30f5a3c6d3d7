#include "core/engine/flow/worth.hpp"

#include <catch2/catch.hpp>

#include "core/engine/service/young.hpp"

using namespace rsock;
using namespace rsock::engine;

namespace {

const Time kStart = Time{} + milliseconds(1'000'000);

// How many uses it takes, of a program that turns around each time.
unsigned exchanges_of(bool connector) {
  Worth worth;
  for (unsigned uses = 1;; ++uses)
    if (worth.uses(uses % 2 ? Use::reads : Use::writes, 0, connector)) return uses;
}

}  // namespace

TEST_CASE("a connection on which both ends speak often is worth a lane, to the connector first", "[worth]") {
  CHECK(exchanges_of(false) == Worth::kTurns);
  CHECK(exchanges_of(true) == Worth::kTurns * 3 / 4);
}

TEST_CASE("one request is not worth a lane, in however many pieces it is read and answered", "[worth]") {
  Worth worth;
  for (int i = 0; i < 1000; ++i) CHECK_FALSE(worth.uses(Use::reads, 1000, false));
  for (int i = 0; i < 1000; ++i) CHECK_FALSE(worth.uses(Use::writes, 2000, false));
}

TEST_CASE("many bytes are worth a lane, whichever way they go", "[worth]") {
  Worth server, client;
  CHECK_FALSE(server.uses(Use::writes, Worth::kBytes - 1, false));
  CHECK(server.uses(Use::writes, Worth::kBytes, false));
  CHECK_FALSE(client.uses(Use::reads, Worth::kBytes * 3 / 4 - 1, true));
  CHECK(client.uses(Use::reads, Worth::kBytes * 3 / 4, true));
}

TEST_CASE("of the young, the service is told of the first, and the eldest are old enough first", "[young]") {
  Young young;
  CHECK(young.none());
  CHECK(young.add(1, kStart));
  CHECK_FALSE(young.add(2, kStart + milliseconds(1)));
  CHECK_FALSE(young.add(3, kStart + milliseconds(2)));
  CHECK(young.take(kStart - milliseconds(1)).empty());
  CHECK(young.take(kStart + milliseconds(1)) == std::vector<uint64_t>{1, 2});
  CHECK_FALSE(young.none());
  CHECK_FALSE(young.add(4, kStart + milliseconds(3)));
  CHECK(young.take(kStart + milliseconds(3)) == std::vector<uint64_t>{3, 4});
  CHECK(young.none());
  CHECK(young.add(5, kStart + milliseconds(4)));
}
