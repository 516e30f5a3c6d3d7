#pragma once
// Both ends of a ring, joined by a fabric that is a queue: what a write names is copied when it is delivered, so a
// mirror that changes too early, or a ring that is given up too early, shows as wrong bytes.

#include <sys/uio.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "core/flow/rings.hpp"

namespace rsock::flow {

// The stream that every test sends: each byte depends on its whole offset.
inline std::byte reference(uint64_t offset) {
  offset ^= offset >> 8, offset *= 0x9e3779b97f4a7c15;
  return static_cast<std::byte>(offset >> 56);
}

inline std::vector<std::byte> stream(uint64_t from, size_t size) {
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
    const iovec pieces[] = {{first.data(), first.size()}, {nullptr, 0}, {bytes.data() + cut, bytes.size() - cut}};
    const auto room = tx.room();
    const auto done = *tx.append(pieces, 3);
    CHECK(done == std::min<uint64_t>(room, size));
    return done;
  }

  // By a write into the ring, or as a piece of a message, which has left the mirror for good.
  bool post(uint32_t most, bool as_piece = false) {
    if (tx.at_switch()) {
      tx.switched();
      mirror_memory_.give_back(tx.take_retired());
      to_rx_.push_back({Packet::switched, {}, {}});
    }
    const auto write = tx.next(most);
    CHECK(write.length <= most);
    CHECK((write.length > 0) == (tx.unposted() > 0 && most > 0));
    if (write.length == 0) return false;
    mirror_memory_.at(write.local_key, reinterpret_cast<uintptr_t>(write.local), write.length);
    if (as_piece) {
      const auto* bytes = reinterpret_cast<const uint8_t*>(write.local);
      to_rx_.push_back({Packet::piece, {}, {bytes, bytes + write.length}});
    } else {
      to_rx_.push_back({Packet::write, write, {}});
    }
    tx.posted(write.length);
    return true;
  }

  void say_blocked() { to_rx_.push_back({Packet::blocked, {}, {}}); }

  bool deliver_to_receiver() {
    if (to_rx_.empty()) return false;
    const auto [kind, write, piece] = to_rx_.front();
    to_rx_.pop_front();
    switch (kind) {
      case Packet::write:
        std::memcpy(ring_memory_.at(write.remote_key, write.remote, write.length), write.local, write.length);
        REQUIRE(rx.landed(write.length));
        break;
      case Packet::piece: REQUIRE(rx.landed(piece)); break;
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
  enum class Packet { write, piece, switched, blocked };
  struct ToReceiver {
    Packet kind;
    TxRing::Write write;
    std::vector<uint8_t> piece;
  };

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
  std::deque<ToReceiver> to_rx_;
  std::deque<std::pair<uint64_t, wire::RingPlace>> to_tx_;
};

inline Block block_of(std::vector<std::byte>& memory) {
  return {memory.data(), static_cast<uint32_t>(memory.size()), 1, 2};
}

inline size_t append(TxRing& tx, size_t size) {
  auto bytes = stream(tx.written(), size);
  const iovec piece{bytes.data(), bytes.size()};
  return *tx.append({&piece, 1});
}

}  // namespace rsock::flow
