// Both ends of a ring, joined by a fabric that is a queue: what a write names is copied when it is delivered, so a
// mirror that changes too early, or a ring that is given up too early, shows as wrong bytes.

#include <catch2/catch.hpp>

#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "core/flow/rings.hpp"

using namespace rsock;
using namespace rsock::flow;

namespace {

// The stream that every test sends: each byte depends on its whole offset.
std::byte reference(uint64_t offset) {
  offset ^= offset >> 8, offset *= 0x9e3779b97f4a7c15;
  return static_cast<std::byte>(offset >> 56);
}

std::vector<std::byte> stream(uint64_t from, size_t size) {
  std::vector<std::byte> made(size);
  for (auto& byte : made) byte = reference(from++);
  return made;
}

// Registered memory of one end, by key. A key that was given back names nothing.
class Memory {
 public:
  Block make(uint32_t size) {
    auto& place = blocks_[++last_key_];
    place = std::make_unique<std::byte[]>(size);
    sizes_[last_key_] = size;
    return {place.get(), size, last_key_, last_key_};
  }
  void give_back(Block block) {
    if (!block) return;
    REQUIRE(blocks_.erase(block.local_key) == 1);
    sizes_.erase(block.local_key);
  }
  std::byte* at(uint32_t key, uint64_t address, uint32_t length) {
    REQUIRE(blocks_.count(key) == 1);
    const auto start = reinterpret_cast<uintptr_t>(blocks_[key].get());
    REQUIRE(address >= start);
    REQUIRE(address + length <= start + sizes_[key]);
    return blocks_[key].get() + (address - start);
  }
  size_t count() const { return blocks_.size(); }

 private:
  std::map<uint32_t, std::unique_ptr<std::byte[]>> blocks_;
  std::map<uint32_t, uint32_t> sizes_;
  uint32_t last_key_ = 0;
};

// What the engine does with the two rings, one step at a time.
class Direction {
 public:
  explicit Direction(uint32_t size) {
    const auto ring = ring_memory_.make(size);
    rx.begin(ring);
    tx.begin(mirror_memory_.make(size), ring.place());
  }

  size_t append(size_t size, size_t cut) {
    auto bytes = stream(tx.written(), size);
    cut = std::min(cut, size);
    // The first bytes of the first piece were taken before.
    std::vector<std::byte> first(3 + cut, std::byte{0xee});
    std::copy_n(bytes.begin(), cut, first.begin() + 3);
    const iovec pieces[] = {
        {first.data(), first.size()}, {nullptr, 0}, {bytes.data() + cut, bytes.size() - cut}};
    const auto room = tx.room();
    const auto done = tx.append(pieces, 3);
    CHECK(done == std::min<uint64_t>(room, size));
    return done;
  }

  size_t fill(size_t most, size_t size) {
    const auto room = tx.room();
    const auto places = tx.reserve(most);
    CHECK(places.parts[0].size() + places.parts[1].size() == std::min<uint64_t>(most, room));
    const auto bytes = stream(tx.written(), most);
    size = std::min<size_t>({size, most, room});
    size_t done = 0;
    for (const auto part : places.parts) {
      const auto count = std::min(part.size(), size - done);
      std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(done), count, part.begin());
      done += count;
    }
    tx.commit(done);
    return done;
  }

  bool post(uint32_t most) {
    if (tx.at_switch()) {
      tx.switched();
      mirror_memory_.give_back(tx.take_retired());
      to_rx_.push_back({Packet::switched, {}});
    }
    const auto write = tx.next(most);
    CHECK(write.length <= most);
    CHECK((write.length > 0) == (tx.unposted() > 0 && most > 0));
    if (write.length == 0) return false;
    mirror_memory_.at(write.local_key, reinterpret_cast<uintptr_t>(write.local), write.length);
    to_rx_.push_back({Packet::write, write});
    tx.posted(write.length);
    return true;
  }

  void say_blocked() { to_rx_.push_back({Packet::blocked, {}}); }

  bool deliver_to_receiver() {
    if (to_rx_.empty()) return false;
    const auto [kind, write] = to_rx_.front();
    to_rx_.pop_front();
    switch (kind) {
      case Packet::write:
        std::memcpy(ring_memory_.at(write.remote_key, write.remote, write.length), write.local, write.length);
        REQUIRE(rx.landed(write.length));
        break;
      case Packet::switched:
        REQUIRE(rx.switched());
        ring_memory_.give_back(rx.take_retired());
        break;
      case Packet::blocked: rx.sender_blocked(); break;
    }
    tell_window();
    return true;
  }

  bool deliver_to_sender() {
    if (to_tx_.empty()) return false;
    const auto [consumed, ring] = to_tx_.front();
    to_tx_.pop_front();
    if (ring.size) {
      REQUIRE(tx.grow(mirror_memory_.make(ring.size), ring));
    } else {
      REQUIRE(tx.consumed(consumed));
      mirror_memory_.give_back(tx.take_retired());
    }
    return true;
  }

  // Reads up to `size` bytes, the last first where there are two stretches of them.
  size_t read(size_t size) {
    const auto from = rx.consumed_total();
    check(rx.peek(0, size), from, size);
    const auto count = std::min<uint64_t>(size, rx.readable());
    rx.consume(count);
    CHECK(rx.consumed_total() == from + count);
    ring_memory_.give_back(rx.take_retired());
    tell_window();
    return count;
  }

  // MSG_PEEK with an offset.
  void look(uint64_t skip, size_t size) {
    if (skip <= rx.readable()) check(rx.peek(skip, size), rx.consumed_total() + skip, size);
  }

  void offer(uint32_t size) {
    if (!rx.can_grow()) return;
    const auto ring = ring_memory_.make(size);
    rx.offer(ring);
    to_tx_.push_back({0, ring.place()});
    CHECK_FALSE(rx.can_grow());
  }

  void check_suffix(uint64_t from) {
    std::vector<std::byte> bytes(tx.written() - from);
    REQUIRE(tx.copy_from(from, bytes));
    REQUIRE(bytes == stream(from, bytes.size()));
  }

  void check_invariants() const {
    REQUIRE(tx.consumed_total() <= rx.consumed_total());
    REQUIRE(rx.consumed_total() <= rx.landed_total());
    REQUIRE(rx.landed_total() <= tx.posted_total());
    REQUIRE(tx.posted_total() <= tx.written());
    REQUIRE(rx.readable() == rx.landed_total() - rx.consumed_total());
    REQUIRE(tx.room() <= tx.size());
  }

  void give_up() {
    while (const auto block = tx.take_current()) mirror_memory_.give_back(block);
    while (const auto block = rx.take_current()) ring_memory_.give_back(block);
    ring_memory_.give_back(rx.take_offered());
    ring_memory_.give_back(rx.take_retired());
    to_rx_.clear();
    to_tx_.clear();
    CHECK(mirror_memory_.count() == 0);
    CHECK(ring_memory_.count() == 0);
    CHECK_FALSE(tx.take_retired());
    CHECK(tx.room() == 0);
  }

  TxRing tx;
  RxRing rx;

 private:
  enum class Packet { write, switched, blocked };

  void tell_window() {
    if (!rx.window_due()) return;
    to_tx_.push_back({rx.consumed_total(), {}});
    rx.told_window();
    CHECK_FALSE(rx.window_due());
  }

  // What peek gives is the stream, as much of it as two stretches hold, and never more than asked for.
  void check(const Stretches& found, uint64_t offset, size_t most) {
    const auto skipped = offset - rx.consumed_total();
    size_t count = 0;
    for (const auto part : found.parts) {
      REQUIRE(std::equal(part.begin(), part.end(), stream(offset + count, part.size()).begin()));
      count += part.size();
    }
    REQUIRE(count <= std::min<uint64_t>(most, rx.readable() - skipped));
    REQUIRE((count > 0 || most == 0 || rx.readable() == skipped));
    if (found.parts[1].empty()) REQUIRE(count == std::min<uint64_t>(most, rx.readable() - skipped));
  }

  Memory mirror_memory_, ring_memory_;
  std::deque<std::pair<Packet, TxRing::Write>> to_rx_;
  std::deque<std::pair<uint64_t, wire::RingPlace>> to_tx_;
};

class Chance {
 public:
  explicit Chance(unsigned seed) : engine_(seed) {}
  uint64_t upto(uint64_t most) { return engine_() % (most + 1); }
  bool one_in(uint64_t n) { return upto(n - 1) == 0; }

 private:
  std::mt19937_64 engine_;
};

void random_step(Direction& ring, Chance& chance, uint32_t largest) {
  const auto size = ring.tx.size();
  switch (chance.upto(9)) {
    case 0:
    case 1: {
      const auto wanted = chance.upto(size);
      if (ring.append(wanted, chance.upto(size)) < wanted) ring.say_blocked();
      break;
    }
    case 2: ring.fill(chance.upto(2 * size), chance.upto(size)); break;
    case 3: ring.post(static_cast<uint32_t>(chance.upto(size / 2))); break;
    case 4:
    case 5: ring.deliver_to_receiver(); break;
    case 6: ring.deliver_to_sender(); break;
    case 7: ring.read(chance.upto(size)); break;
    case 8: ring.look(chance.upto(size), chance.upto(size)); break;
    case 9:
      if (chance.one_in(8) && ring.rx.size() < largest) ring.offer(ring.rx.size() * 2);
      ring.check_suffix(ring.tx.consumed_total() + chance.upto(ring.tx.written() - ring.tx.consumed_total()));
      break;
  }
  ring.check_invariants();
}

// From any state, all gets through if each part does what is its turn: nothing waits for a window that does not come.
void drain(Direction& ring, uint64_t more) {
  const auto end = ring.tx.written() + more;
  for (uint64_t idle = 0; ring.rx.consumed_total() < end;) {
    const auto wanted = end - ring.tx.written();
    const auto put = ring.append(wanted, 0);
    bool moved = put > 0;
    if (put < wanted && put == 0 && idle == 0) ring.say_blocked();
    while (ring.post(1000)) moved = true;
    while (ring.deliver_to_receiver()) moved = true;
    if (ring.read(1000) > 0) moved = true;
    while (ring.deliver_to_sender()) moved = true;
    idle = moved ? 0 : idle + 1;
    REQUIRE(idle < 3);
    ring.check_invariants();
  }
}

Block block_of(std::vector<std::byte>& memory) {
  return {memory.data(), static_cast<uint32_t>(memory.size()), 1, 2};
}

size_t append(TxRing& tx, size_t size) {
  auto bytes = stream(tx.written(), size);
  const iovec piece{bytes.data(), bytes.size()};
  return tx.append({&piece, 1});
}

}  // namespace

TEST_CASE("random operations carry the stream", "[rings]") {
  for (unsigned seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    Chance chance(seed);
    Direction ring(8u << seed % 5);
    for (int i = 0; i < 1500; ++i) random_step(ring, chance, 8192);
    drain(ring, 3 * ring.tx.size() + 17);
    ring.give_up();
  }
}

TEST_CASE("a ring can be given up at any moment, and the rest sent again", "[rings]") {
  for (unsigned seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    Chance chance(seed);
    Direction ring(64);
    const auto steps = chance.upto(400);
    for (uint64_t i = 0; i < steps; ++i) random_step(ring, chance, 1024);
    // RESUME names what landed: what follows it and what the receiver still holds are the rest of the stream.
    ring.check_suffix(ring.rx.landed_total());
    uint64_t held = ring.rx.readable();
    while (held > 0) held -= ring.read(held);
    ring.give_up();
  }
}

TEST_CASE("a ring grows several times under full load", "[rings]") {
  Direction ring(16);
  for (uint32_t size = 32; size <= 1u << 16; size *= 2) {
    drain(ring, 5);
    ring.append(1000000, 7);  // full, so that the old ring is full when the new one is offered
    while (ring.post(3)) {
    }
    REQUIRE(ring.rx.can_grow());
    ring.offer(size);
    drain(ring, 3 * size);
    CHECK(ring.tx.size() == size);
    CHECK(ring.rx.size() == size);
    // The receiver must not offer again before the sender knows that the old ring is done with.
    while (!ring.rx.can_grow()) drain(ring, size / 4);
  }
  ring.give_up();
}

// Found by the random test: all of the old ring was consumed, which made room for another offer, but the window that
// tells the sender so was not due yet. The sender took the offer for a breach.
TEST_CASE("a ring is offered only when the sender knows that the one before is done with", "[rings]") {
  Direction ring(16);
  ring.append(2, 0);
  ring.offer(64);
  ring.deliver_to_sender();
  ring.post(2);
  ring.post(1);  // SWITCH
  ring.deliver_to_receiver();
  ring.deliver_to_receiver();
  ring.read(2);
  CHECK_FALSE(ring.rx.window_due());
  CHECK_FALSE(ring.rx.can_grow());
  drain(ring, 64);
  CHECK(ring.rx.can_grow());
  ring.give_up();
}

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

TEST_CASE("a window is told when a quarter was consumed, or at once to a sender that waits", "[rings]") {
  std::vector<std::byte> memory(64);
  RxRing rx;
  rx.begin(block_of(memory));
  REQUIRE(rx.landed(64));
  rx.consume(15);
  CHECK_FALSE(rx.window_due());
  rx.consume(1);
  CHECK(rx.window_due());
  rx.told_window();
  CHECK_FALSE(rx.window_due());
  rx.sender_blocked();
  CHECK_FALSE(rx.window_due());  // nothing new to tell
  rx.consume(1);
  CHECK(rx.window_due());
  rx.told_window();
  rx.consume(1);
  CHECK_FALSE(rx.window_due());  // asked for once
  rx.sender_blocked();
  CHECK(rx.window_due());  // told late, but there is news
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
  CHECK_FALSE(rx.landed(0));
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
  CHECK_FALSE(copies(7, 13));   // consumed: the bytes are gone
  CHECK_FALSE(copies(8, 11));
  CHECK_FALSE(copies(8, 13));
  CHECK_FALSE(copies(21, 0));   // beyond what was written
  CHECK_FALSE(copies(std::numeric_limits<uint64_t>::max(), 0));
  CHECK(copies(20, 0));
  REQUIRE(copies(8, 12));
  to.resize(12);
  CHECK(to == stream(8, 12));
}
