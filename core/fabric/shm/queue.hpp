#pragma once
// One direction of a link over shared memory: what its sender has posted, in order, in memory of the receiver that the
// sender has mapped. One writer, one reader. There is no cursor to be lied about: each entry says by its stamp that it
// is complete.
//
//   entry n lives at n % kDepth, n = 1, 2, 3, … modulo 2^32
//
//     0   4   stamp: n once the rest is written, n - kDepth (or 0) before
//     4   4   kind: 1 data, 2 message
//     8   4   length
//    12   4   immediate, of data
//    16  48   the message, if it fits; else it is at n % kDepth of the bodies, kMessageMax bytes each
//
// An entry is written again only after a credit for it came back (see link.hpp): the queue cannot overflow, and if a
// peer returns credits for what it never took, it spoils its own memory. The reader takes each field once, copies
// messages before they are looked at, and believes nothing: an entry that cannot be is a fault of the peer. The
// engine's lock guards either end in its process.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/wire/message.hpp"

namespace rsock::fabric::shm {

inline constexpr uint32_t kDepth = 256;
inline constexpr size_t kInlineMessage = 48;

struct alignas(64) Entry {
  std::atomic<uint32_t> stamp, kind, length, immediate;
  std::array<uint8_t, kInlineMessage> message;
};
static_assert(sizeof(Entry) == 64 && offsetof(Entry, message) == 16 && std::atomic<uint32_t>::is_always_lock_free);

// All of a direction but its rings. The first line is the receiver's word to the sender.
struct QueueMemory {
  alignas(64) std::atomic<uint32_t> sleeping;  // 1: the receiver wants its bell rung; taken back by whoever rings it
  Entry entries[kDepth];
  std::array<uint8_t, wire::kMessageMax> bodies[kDepth];
};

enum class Posted : uint32_t { nothing = 0, data = 1, message = 2, fault = 3 };

class QueueWriter {
 public:
  explicit QueueWriter(QueueMemory& memory) : memory_(memory) {}
  void post_data(uint32_t immediate, uint32_t length);
  void post_message(std::span<const uint8_t> bytes);
  // After posting: whether the receiver sleeps and is to be woken, by the caller of this.
  bool must_wake();

 private:
  Entry& next() { return memory_.entries[(sent_ + 1) % kDepth]; }
  void publish(Entry& entry, Posted kind, uint32_t length, uint32_t immediate);

  QueueMemory& memory_;
  uint32_t sent_ = 0;
};

class QueueReader {
 public:
  explicit QueueReader(QueueMemory& memory) : memory_(memory) {}

  struct Item {
    Posted kind = Posted::nothing;
    uint32_t length = 0;
    uint32_t immediate = 0;
  };
  // Takes the next entry; a message is copied to `message`.
  Item take(std::span<uint8_t, wire::kMessageMax> message);
  // The next post is to wake the receiver. A full fence has to follow, then another look: see Hub::arm().
  void sleep() { memory_.sleeping.store(1, std::memory_order_relaxed); }

 private:
  QueueMemory& memory_;
  uint32_t taken_ = 0;
};

}  // namespace rsock::fabric::shm
