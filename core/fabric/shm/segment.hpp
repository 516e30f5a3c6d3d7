#pragma once
// The memory of one direction of a link: a memfd of the receiver's, which the sender maps as well. Its size is sealed: nothing
// that the peer does to it can make a mapped page go away. Pages are had from the kernel when they are first touched.
// Not in core dumps, not inherited by children.
//
//   0 ............... QueueMemory, rounded up to pages ............... rings ............... size

#include <cstddef>
#include <cstdint>

#include "core/base/result.hpp"
#include "core/base/unique_fd.hpp"
#include "core/fabric/shm/queue.hpp"

namespace rsock::fabric::shm {

inline constexpr size_t kPage = 4096;
inline constexpr size_t kRings = (sizeof(QueueMemory) + kPage - 1) / kPage * kPage;  // where they begin
inline constexpr size_t kLargestSegment = 1 << 30;

class Segment {
 public:
  Segment() = default;
  Segment(Segment&& other) noexcept;
  Segment& operator=(Segment&& other) noexcept;
  ~Segment();

  // One of our own with room for `rings` bytes of them, and its descriptor for the peer.
  static Result<Segment> make(size_t rings, UniqueFd& descriptor);
  // The peer's. EPROTO: it is not as it has to be.
  static Result<Segment> open(int descriptor);

  QueueMemory& queue() const { return *reinterpret_cast<QueueMemory*>(base_); }
  std::byte* base() const { return base_; }
  size_t size() const { return size_; }
  explicit operator bool() const { return base_ != nullptr; }
  // Memory for rings at `offset`, nullptr if any of it is not there.
  std::byte* rings(uint64_t offset, uint64_t length) const;

 private:
  static Result<Segment> map(int descriptor, size_t size);
  std::byte* base_ = nullptr;
  size_t size_ = 0;
};

}  // namespace rsock::fabric::shm
