#include "core/flow/hold.hpp"

#include <catch2/catch.hpp>

using namespace rsock;
using namespace rsock::flow;

namespace {

constexpr auto kDial = milliseconds(5000);
const Time kStart = Time{} + milliseconds(1000);

}  // namespace

TEST_CASE("a program's wait begins once, and has an end", "[hold]") {
  Hold hold;
  CHECK_FALSE(hold.waited_on());
  CHECK_FALSE(hold.too_long(kStart + milliseconds(1'000'000), 0));
  CHECK(hold.begin_wait(kStart));
  CHECK_FALSE(hold.begin_wait(kStart + milliseconds(20'000)));
  CHECK(hold.waited_on());
  CHECK_FALSE(hold.too_long(kStart + milliseconds(30'000), 0));
  CHECK(hold.too_long(kStart + milliseconds(30'001), 0));
  hold.end_wait();
  CHECK_FALSE(hold.waited_on());
  CHECK_FALSE(hold.too_long(kStart + milliseconds(1'000'000), 0));
}

TEST_CASE("a wait does not count as long as this end's own bytes drain", "[hold]") {
  Hold hold;
  CHECK(hold.begin_wait(kStart));
  CHECK_FALSE(hold.too_long(kStart + milliseconds(40'000), 1000));
  CHECK_FALSE(hold.too_long(kStart + milliseconds(80'000), 999));
  CHECK_FALSE(hold.too_long(kStart + milliseconds(110'000), 999));
  CHECK(hold.too_long(kStart + milliseconds(110'001), 999));
}

TEST_CASE("how long a cutover may last", "[hold]") {
  Hold hold;
  CHECK(hold.limit(kDial, false, false) == kDial);
  CHECK(hold.limit(kDial, false, true) == milliseconds(50));  // somebody feels it
  CHECK(hold.limit(milliseconds(20), false, true) == milliseconds(20));
  CHECK(hold.limit(kDial, true, false) == kDial / 2);  // the peer waits all of it
  hold.keep(wire::Confirm{});
  CHECK(hold.limit(kDial, false, false) == kDial / 2);  // for its own program to read
  CHECK(hold.limit(kDial, false, true) == milliseconds(50));
  hold.forget_words();
  hold.press();
  CHECK(hold.limit(kDial, false, true) == kDial);  // there is nothing to go back to
  Hold blocked;
  CHECK(blocked.peer_blocked(10));
  CHECK(blocked.limit(kDial, true, false) == milliseconds(2));
  CHECK(blocked.limit(milliseconds(1), true, false) == milliseconds(1));
}

TEST_CASE("whether the program reads on while the peer's waits", "[hold]") {
  Hold hold;
  CHECK_FALSE(hold.reads_on(100));
  CHECK(hold.peer_blocked(10));
  CHECK_FALSE(hold.peer_blocked(20));  // the first counts
  CHECK_FALSE(hold.reads_on(10));
  CHECK(hold.reads_on(11));
}

TEST_CASE("the peer's word waits, and is taken once", "[hold]") {
  Hold hold;
  CHECK_FALSE(hold.has_accept());
  CHECK_FALSE(hold.has_confirm());
  hold.keep(wire::Accept{.to = 1, .from = 2, .ring = {}, .nonce = {}, .offset = 3});
  hold.keep(wire::Confirm{4, 5});
  CHECK(hold.accept().offset == 3);
  CHECK(hold.confirm().offset == 5);
  CHECK(hold.take_accept().from == 2);
  CHECK_FALSE(hold.has_accept());
  CHECK(hold.take_confirm().to == 4);
  CHECK_FALSE(hold.has_confirm());
  hold.keep(wire::Confirm{4, 5});
  hold.forget_words();
  CHECK_FALSE(hold.has_confirm());
}
