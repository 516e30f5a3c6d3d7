#pragma once
// The two ends of one direction's ring, as pure bookkeeping over memory that somebody else owns.
//
// Positions are offsets in the ring stream of that direction: bytes since its cutover, never wrapping (64 bits).
//
//   receiver:   consumed <= landed <= limit          sender:   consumed <= posted <= written <= limit
//
//        consumed        landed / posted   written      limit = max(consumed, start) + size
//   ───────┬──────────────────┬──────────────┬────────────┬──────
//          │  not yet read    │ not yet sent │  window    │
//
// Both ends hold the stretch [consumed, …) at the same places: the sender's memory mirrors the receiver's ring, which
// is why any suffix can be sent again. A ring grows by changing to a larger one at an offset `start`; the old one lives
// until all before `start` is consumed.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/result.hpp"
#include "core/wire/message.hpp"

struct iovec;

namespace rsock::flow {

// Registered memory, and how the fabric names it.
struct Block {
  std::byte* base = nullptr;
  uint32_t size = 0;  // a power of two
  uint32_t local_key = 0;
  uint32_t remote_key = 0;
  uint64_t bias = 0;  // the address by which the peer knows it, less ours

  explicit operator bool() const { return base != nullptr; }
  wire::RingPlace place() const { return {reinterpret_cast<uintptr_t>(base) + bias, remote_key, size}; }
};

// Bytes that may wrap around the end of a ring: at most two stretches.
struct Stretches {
  std::span<std::byte> parts[2];
};

// Less than this is no room for a program's bytes in so many: a small record goes whole, or waits, as for the kernel.
constexpr uint64_t least_room(uint64_t size) { return std::min<uint64_t>(4 << 10, size / 4); }
constexpr bool is_room(uint64_t room, uint64_t size) { return room > 0 && room >= least_room(size); }
// Some of what a program writes is taken: all of a small record, or a part of a larger one.
constexpr bool takes_some(uint64_t asked, uint64_t room, uint64_t size) {
  return room > 0 && (asked <= room || is_room(room, size));
}

// Memory of the program is copied in pieces. One in which there is a byte that cannot be touched is not
// counted, as by the kernel, whose pieces are about as large.
inline constexpr size_t kPiece = 32 << 10;

class TxRing {
 public:
  struct Write {
    const std::byte* local = nullptr;
    uint32_t local_key = 0;
    uint64_t remote = 0;
    uint32_t remote_key = 0;
    uint32_t length = 0;
  };

  void begin(Block mirror, wire::RingPlace place);
  // The receiver offers a larger ring. False if it may not do so now (an earlier offer is still in use).
  bool grow(Block mirror, wire::RingPlace place);
  // Copies from `from`, which is the program's memory, skipping `skip` bytes of it; returns what fitted into
  // the window. EFAULT: the first of the pieces that are copied in one go cannot be read. Bytes in front of a
  // later one are taken, and counted.
  Result<size_t> append(std::span<const iovec> from, size_t skip = 0);

  // The receiver's word on what its application consumed. False if it claims bytes that were never posted.
  bool consumed(uint64_t offset);
  // A mirror that is no longer needed, once. Ask after consumed() and after switched(): until it is taken, the next
  // offer of a larger ring cannot be.
  Block take_retired();

  // The next contiguous bytes to post, at most `most`; SWITCH must be said first when `at_switch`.
  Write next(uint32_t most) const;
  bool at_switch() const { return growing_ && !switched_ && posted_ == current_.start; }
  void switched() { switched_ = true; }
  void posted(uint32_t length) { posted_ += length; }

  uint64_t room() const { return limit() - written_; }
  bool roomy() const { return is_room(room(), size()); }
  uint64_t unposted() const { return written_ - posted_; }
  uint64_t written() const { return written_; }
  uint64_t posted_total() const { return posted_; }
  uint64_t consumed_total() const { return consumed_; }
  uint32_t size() const { return current_.block.size; }
  // The bytes [from, written) for sending them again; from must not be before what is consumed.
  bool copy_from(uint64_t from, std::span<std::byte> to) const;
  // The bytes from `from` on, as many as `to` takes: all of them are written, and not consumed.
  void copy_part(uint64_t from, std::span<std::byte> to) const;
  // Gives both mirrors up.
  Block take_current();

 private:
  struct Segment {
    Block block;
    wire::RingPlace place;
    uint64_t start = 0;
  };
  uint64_t limit() const {
    return current_.block ? std::max(consumed_, current_.start) + current_.block.size : written_;
  }
  const Segment& segment_at(uint64_t offset) const { return offset < current_.start ? old_ : current_; }

  Segment current_, old_;
  bool growing_ = false, switched_ = false;
  uint64_t written_ = 0, posted_ = 0, consumed_ = 0;
};

class RxRing {
 public:
  void begin(Block ring);
  wire::RingPlace place() const { return current_.block.place(); }
  // A larger ring for the sender, to be offered with GROW; it becomes current at SWITCH.
  void offer(Block ring) { offered_ = ring; }
  // False if none was offered.
  bool switched();
  // Not before the sender was told that the ring before the present one is done with: it keeps two at most.
  bool can_grow() const { return !offered_ && !next_.block && told_ >= current_.start; }

  // False if the sender wrote more than its window.
  bool landed(uint64_t length);
  // The same for bytes that did not come by a write into the ring: they are put there.
  bool landed(std::span<const uint8_t> bytes);
  uint64_t readable() const { return landed_ - consumed_; }
  // No more may come until some is consumed.
  bool full() const { return !within_window(least_room(size())); }
  // The readable bytes from `skip` on, at most `most`.
  Stretches peek(uint64_t skip, size_t most) const;
  void consume(uint64_t length);
  // A ring that is no longer needed, once.
  Block take_retired();

  // A window update is due: a quarter of the ring was consumed, or what the sender waits for.
  bool window_due() const;
  void told_window();
  void sender_blocked() { blocked_ = true; }

  uint64_t landed_total() const { return landed_; }
  uint64_t consumed_total() const { return consumed_; }
  uint32_t size() const { return next_.block ? next_.block.size : current_.block.size; }
  Block take_current();
  Block take_offered();

 private:
  struct Segment {
    Block block;
    uint64_t start = 0;
  };
  const Segment& last() const { return next_.block ? next_ : current_; }
  bool within_window(uint64_t length) const;

  Segment current_, next_;
  Block offered_, retired_;
  uint64_t landed_ = 0, consumed_ = 0, told_ = 0;
  bool blocked_ = false;
};

}  // namespace rsock::flow
