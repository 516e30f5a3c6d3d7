#include "core/flow/way_back.hpp"

#include <sys/uio.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <string>

using namespace rsock;
using namespace rsock::flow;

namespace {

constexpr uint32_t kSize = 16;

// The rings of one end: what it sent, and what came.
struct Rings {
  std::byte mirror[kSize]{}, ring[kSize]{};
  TxRing tx;
  RxRing rx;

  Rings() {
    tx.begin({.base = mirror, .size = kSize}, {1, 1, kSize});
    rx.begin({.base = ring, .size = kSize});
  }
  void send(std::string text) {
    const iovec from{text.data(), text.size()};
    REQUIRE(*tx.append({&from, 1}) == text.size());
    while (tx.unposted() > 0) tx.posted(tx.next(100).length);
  }
  void come(const std::string& text) {
    REQUIRE(rx.landed(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size())));
  }
};

std::string text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

TEST_CASE("what the peer has not consumed goes again, from where it says", "[way_back]") {
  for (const uint64_t had : {3u, 4u, 9u}) {
    Rings rings;
    rings.send("abcdefghi");
    REQUIRE(rings.tx.consumed(3));
    WayBack way;
    CHECK(way.freeze(rings.tx, rings.rx, true));
    std::memset(rings.mirror, 0, kSize);  // its own copy
    CHECK_FALSE(way.freeze(rings.tx, rings.rx, true));
    way.note_peer(had, 0);
    const auto again = way.take_sent_again();
    REQUIRE(again);
    CHECK(text(*again) == std::string("abcdefghi").substr(had));
  }
}

TEST_CASE("a peer that says what cannot be is found out", "[way_back]") {
  for (const uint64_t had : {2u, 10u}) {
    Rings rings;
    rings.send("abcdefghi");
    REQUIRE(rings.tx.consumed(3));
    WayBack way;
    way.freeze(rings.tx, rings.rx, true);
    way.note_peer(had, 0);
    CHECK_FALSE(way.take_sent_again());
  }
}

TEST_CASE("without the rings' memory the peer had all", "[way_back]") {
  Rings rings;
  rings.send("abc");
  WayBack way;
  CHECK(way.freeze(rings.tx, rings.rx, false));
  way.note_peer(3, 0);
  CHECK(way.take_sent_again()->empty());
}

TEST_CASE("unread bytes are kept, come again, or are taken at once", "[way_back]") {
  Rings rings;
  rings.come("abcdef");
  rings.rx.consume(2);
  SECTION("they come again: the copy is for the case that nothing does") {
    WayBack way;
    way.freeze(rings.tx, rings.rx, true);
    way.keep_unread(rings.rx);
    CHECK(way.consumed() == 2);
    CHECK(way.held_in() == 4);
    CHECK(text(way.take_held()) == "cdef");
    CHECK(way.held_in() == 0);
  }
  SECTION("they are taken, and must not come again") {
    WayBack way;
    way.freeze(rings.tx, rings.rx, true);
    CHECK(text(way.take_unread(rings.rx)) == "cdef");
    CHECK(way.consumed() == 6);
    CHECK(way.held_in() == 0);
  }
  SECTION("nothing comes again") {
    WayBack way;
    way.salvage(&rings.rx);
    CHECK(way.salvaged());
    CHECK(rings.rx.readable() == 0);
    CHECK(text(way.take_held()) == "cdef");
    way.salvage(&rings.rx);
    CHECK(way.held_in() == 0);
  }
  SECTION("frozen first: the copy is there already") {
    WayBack way;
    way.freeze(rings.tx, rings.rx, true);
    way.keep_unread(rings.rx);
    way.salvage(&rings.rx);
    CHECK(text(way.take_held()) == "cdef");
  }
  SECTION("salvaged first: there is no second copy") {
    WayBack way;
    way.salvage(&rings.rx);
    way.freeze(rings.tx, rings.rx, true);
    way.keep_unread(rings.rx);
    CHECK(text(way.take_held()) == "cdef");
  }
  SECTION("the ring is gone") {
    WayBack way;
    way.salvage(nullptr);
    CHECK(way.salvaged());
    CHECK(way.held_in() == 0);
  }
}

TEST_CASE("what is sent again is awaited, and kept until it is there", "[way_back]") {
  Rings rings;
  rings.come("abcdef");
  rings.rx.consume(2);
  const uint64_t raw = 100;
  WayBack way;
  way.freeze(rings.tx, rings.rx, true);
  way.keep_unread(rings.rx);
  SECTION("it comes whole") {
    way.note_peer(0, 9);  // three more never got here
    REQUIRE(way.expect_rest(raw));
    CHECK(way.awaits_rest(raw + 6));
    CHECK_FALSE(way.awaits_rest(raw + 7));
    way.forgo_rest();
    CHECK_FALSE(way.awaits_rest(raw));
    CHECK(way.held_in() == 0);
  }
  SECTION("it ends in the middle: what is here goes on from there") {
    way.note_peer(0, 9);
    REQUIRE(way.expect_rest(raw));
    CHECK(text(way.take_missing(raw + 1)) == "def");
    CHECK_FALSE(way.awaits_rest(raw + 1));
  }
  SECTION("it ends behind all that is here") {
    way.note_peer(0, 9);
    REQUIRE(way.expect_rest(raw));
    CHECK(way.take_missing(raw + 6).empty());
  }
  SECTION("nothing is to come") {
    WayBack read;
    rings.rx.consume(4);
    read.freeze(rings.tx, rings.rx, true);
    read.keep_unread(rings.rx);
    read.note_peer(0, 6);
    REQUIRE(read.expect_rest(raw));
    CHECK_FALSE(read.awaits_rest(raw));
  }
  SECTION("a peer that says less than what has landed") {
    way.note_peer(0, 5);
    CHECK_FALSE(way.expect_rest(raw));
  }
}
