// One end of a ring alone: its windows, and what it does not let the other end do.

#include <limits>

#include "rings_world.hpp"

using namespace rsock;
using namespace rsock::flow;

TEST_CASE("room is what the window leaves", "[rings]") {
  std::vector<std::byte> mirror(16);
  TxRing tx;
  CHECK(tx.room() == 0);
  CHECK(append(tx, 1) == 0);
  tx.begin(block_of(mirror), {1000, 9, 16});
  CHECK(append(tx, 20) == 16);
  CHECK(tx.room() == 0);
  CHECK(append(tx, 1) == 0);
  const auto first = tx.next(100);
  CHECK(first.remote == 1000);
  CHECK(first.remote_key == 9);
  CHECK(first.local_key == 1);
  CHECK(first.length == 16);
  tx.posted(16);
  CHECK(tx.consumed(5));
  CHECK(append(tx, 20) == 5);
  CHECK(tx.next(100).remote == 1000);
  CHECK(tx.next(100).length == 5);
  CHECK(tx.next(2).length == 2);
  tx.posted(5);
  CHECK(tx.consumed(21));
  CHECK(tx.room() == 16);
  append(tx, 16);
  CHECK(tx.next(100).remote == 1005);
  CHECK(tx.next(100).length == 11);  // up to the end of the ring; the rest is a write of its own
  tx.posted(11);
  CHECK(tx.next(100).remote == 1000);
  CHECK(tx.next(100).length == 5);
}

TEST_CASE("a window is told when a quarter was consumed, or room for a small record to a sender that waits",
          "[rings]") {
  constexpr uint32_t kSize = 64 << 10;
  std::vector<std::byte> memory(kSize);
  RxRing rx;
  rx.begin(block_of(memory));
  REQUIRE(rx.landed(kSize));
  rx.consume(kSize / 4 - 1);
  CHECK_FALSE(rx.window_due());
  rx.consume(1);
  CHECK(rx.window_due());
  rx.told_window();
  CHECK_FALSE(rx.window_due());
  rx.sender_blocked();
  CHECK_FALSE(rx.window_due());  // nothing new to tell
  rx.consume(4095);
  CHECK_FALSE(rx.window_due());
  rx.consume(1);
  CHECK(rx.window_due());
  rx.told_window();
  rx.consume(4096);
  CHECK_FALSE(rx.window_due());  // asked for once
  rx.sender_blocked();
  CHECK(rx.window_due());  // told late, but there is news
  rx.told_window();
  rx.sender_blocked();
  rx.consume(100);
  rx.told_window();  // with a larger ring that then could not be had, say
  rx.consume(4096);
  CHECK(rx.window_due());  // the sender still waits
}

TEST_CASE("consuming more than there is consumes what there is", "[rings]") {
  std::vector<std::byte> memory(64);
  RxRing rx;
  rx.begin(block_of(memory));
  REQUIRE(rx.landed(10));
  rx.consume(11);
  CHECK(rx.consumed_total() == 10);
  CHECK(rx.readable() == 0);
  CHECK(rx.peek(0, 5).parts[0].empty());
  CHECK(rx.peek(7, 5).parts[0].empty());
}

TEST_CASE("a sender that writes beyond its window is found out", "[rings]") {
  std::vector<std::byte> memory(64), larger(128);
  RxRing rx;
  CHECK_FALSE(rx.landed(uint64_t{0}));
  CHECK_FALSE(rx.landed(1));
  rx.begin(block_of(memory));
  CHECK_FALSE(rx.landed(65));
  CHECK_FALSE(rx.landed(std::numeric_limits<uint64_t>::max()));
  CHECK(rx.landed(64));
  CHECK_FALSE(rx.landed(1));
  CHECK(rx.landed_total() == 64);
  rx.consume(10);
  CHECK_FALSE(rx.landed(11));
  CHECK(rx.landed(10));
  // The old ring is full and half read: the new one is for what comes, not for what is there.
  rx.offer(block_of(larger));
  CHECK_FALSE(rx.landed(1));
  CHECK(rx.switched());
  CHECK_FALSE(rx.landed(129));
  CHECK(rx.landed(128));
  CHECK_FALSE(rx.landed(1));
}

TEST_CASE("a piece beyond the window is found out before it is put anywhere", "[rings]") {
  std::vector<std::byte> memory(64);
  const std::vector<uint8_t> piece(65, 0x77);
  const std::span<const uint8_t> all(piece);
  RxRing rx;
  CHECK_FALSE(rx.landed(all.first(1)));
  rx.begin(block_of(memory));
  CHECK_FALSE(rx.landed(all));
  CHECK(std::all_of(memory.begin(), memory.end(), [](auto byte) { return byte == std::byte{0}; }));
  CHECK(rx.landed(all.first(60)));
  CHECK_FALSE(rx.landed(all.first(5)));
  rx.consume(10);
  CHECK(rx.landed(all.first(14)));  // around the end
  CHECK_FALSE(rx.landed(all.first(1)));
}

TEST_CASE("a switch needs an offer, and uses it up", "[rings]") {
  std::vector<std::byte> memory(64), larger(128);
  RxRing rx;
  rx.begin(block_of(memory));
  CHECK_FALSE(rx.switched());
  rx.offer(block_of(larger));
  CHECK(rx.switched());
  CHECK(rx.take_retired().base == memory.data());  // nothing was in it
  CHECK_FALSE(rx.take_retired());
  CHECK_FALSE(rx.switched());
  CHECK(rx.landed(128));
}

TEST_CASE("a receiver cannot have consumed what was not posted", "[rings]") {
  std::vector<std::byte> mirror(16);
  TxRing tx;
  tx.begin(block_of(mirror), {0, 0, 16});
  CHECK(tx.consumed(0));
  CHECK_FALSE(tx.consumed(1));
  append(tx, 10);
  CHECK_FALSE(tx.consumed(1));  // written, but not posted
  tx.posted(4);
  CHECK(tx.consumed(4));
  CHECK_FALSE(tx.consumed(5));
  CHECK_FALSE(tx.consumed(std::numeric_limits<uint64_t>::max()));
  CHECK(tx.consumed(2));  // old news
  CHECK(tx.consumed_total() == 4);
}

TEST_CASE("a second offer before the first is done with is a breach", "[rings]") {
  std::vector<std::byte> mirror(16), second(32), third(64);
  TxRing tx;
  tx.begin(block_of(mirror), {0, 0, 16});
  append(tx, 4);
  CHECK_FALSE(tx.at_switch());
  CHECK(tx.grow(block_of(second), {0, 0, 32}));
  CHECK_FALSE(tx.at_switch());  // four bytes belong into the old ring
  CHECK_FALSE(tx.grow(block_of(third), {0, 0, 64}));
  append(tx, 4);
  CHECK(tx.next(100).length == 4);
  tx.posted(4);
  CHECK(tx.at_switch());
  tx.switched();
  CHECK_FALSE(tx.at_switch());
  tx.posted(4);
  CHECK_FALSE(tx.grow(block_of(third), {0, 0, 64}));
  CHECK_FALSE(tx.take_retired());
  CHECK(tx.consumed(4));
  CHECK(tx.take_retired().base == mirror.data());
  CHECK_FALSE(tx.take_retired());
  CHECK(tx.grow(block_of(third), {0, 0, 64}));
}

TEST_CASE("a suffix is copied exactly or not at all", "[rings]") {
  std::vector<std::byte> mirror(16), to(32);
  TxRing tx;
  tx.begin(block_of(mirror), {0, 0, 16});
  append(tx, 16);
  tx.posted(16);
  REQUIRE(tx.consumed(8));
  append(tx, 4);
  const auto copies = [&](uint64_t from, size_t size) { return tx.copy_from(from, std::span(to).first(size)); };
  CHECK_FALSE(copies(7, 13));  // consumed: the bytes are gone
  CHECK_FALSE(copies(8, 11));
  CHECK_FALSE(copies(8, 13));
  CHECK_FALSE(copies(21, 0));  // beyond what was written
  CHECK_FALSE(copies(std::numeric_limits<uint64_t>::max(), 0));
  CHECK(copies(20, 0));
  REQUIRE(copies(8, 12));
  to.resize(12);
  CHECK(to == stream(8, 12));
}
