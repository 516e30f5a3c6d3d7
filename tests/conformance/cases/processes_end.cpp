// The end of a process: what it wrote arrives, and then the end of the stream.

#include <stdlib.h>

#include "../child.hpp"

using namespace conformance;

namespace {

void arrives(void (*end)()) {
  const auto bytes = pattern(20000);
  auto peer = peer_that([&](int fd) {
    if (!put(fd, bytes)) return 1;
    end();
    return 2;
  });
  CHECK(receive(peer.fd, bytes.size()) == bytes);
  CHECK(receive(peer.fd, 1).empty());
  CHECK(status_of(peer.child) == 7);
}

// The bytes that come before the end of the stream.
size_t rest_of(int fd) {
  char part[10000];
  size_t got = 0;
  ssize_t n;
  while ((n = read(fd, part, sizeof part)) > 0) got += static_cast<size_t>(n);
  CHECK(n == 0);
  return got;
}

}  // namespace

TEST_CASE("exit: what was written arrives, then the end", "[exit]") {
  arrives([] { exit(7); });
}
TEST_CASE("quick_exit: what was written arrives, then the end", "[quick_exit]") {
  arrives([] { quick_exit(7); });
}
TEST_CASE("_exit: what was written arrives, then the end", "[exit]") {
  arrives([] { _exit(7); });
}
TEST_CASE("_Exit, the same by C's name: what was written arrives, then the end", "[exit]") {
  arrives([] { _Exit(7); });
}
TEST_CASE("_exit: by a thread other than main", "[exit]") {
  arrives([] { std::thread([] { _exit(7); }).join(); });
}
TEST_CASE("exit: more than the peer takes now arrives when it does", "[exit]") {
  const Signal stuffed_it;
  auto peer = peer_that([&](int fd) {
    const auto sent = stuffed(fd);
    stuffed_it.give();
    exit(sent > 0 ? 7 : 1);
    return 2;
  });
  REQUIRE(stuffed_it.wait());
  CHECK(rest_of(peer.fd) > 0);
  CHECK(status_of(peer.child) == 7);
}
TEST_CASE("_exit: a peer that never reads does not hold the process up", "[exit]") {
  auto peer = peer_that([](int fd) { return stuffed(fd) > 0 ? 7 : 1; });
  CHECK(status_of(peer.child) == 7);
}
