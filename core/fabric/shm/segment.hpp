#pragma once
// The memory of one direction of a link: the receiver's, which the sender maps as well
// (core/base/sealed_memory.hpp).
//
//   0 ............... QueueMemory, rounded up to pages ............... rings ............... size

#include <cstddef>
#include <cstdint>

#include "core/base/sealed_memory.hpp"
#include "core/fabric/shm/queue.hpp"

namespace rsock::fabric::shm {

inline constexpr size_t kPage = SealedMemory::kPage;
inline constexpr size_t kRings = (sizeof(QueueMemory) + kPage - 1) / kPage * kPage;  // where they begin
inline constexpr size_t kLargestSegment = 1 << 30;

class Segment {
 public:
  Segment() = default;

  // One of our own with room for `rings` bytes of them, and its descriptor for the peer.
  static Result<Segment> make(size_t rings, UniqueFd& descriptor);
  // The peer's. EPROTO: it is not as it has to be.
  static Result<Segment> open(int descriptor);

  QueueMemory& queue() const { return *reinterpret_cast<QueueMemory*>(base()); }
  std::byte* base() const { return memory_.base(); }
  size_t size() const { return memory_.size(); }
  explicit operator bool() const { return static_cast<bool>(memory_); }
  // Memory for rings at `offset`, nullptr if any of it is not there.
  std::byte* rings(uint64_t offset, uint64_t length) const;

 private:
  explicit Segment(SealedMemory memory) : memory_(std::move(memory)) {}
  SealedMemory memory_;
};

}  // namespace rsock::fabric::shm
