#include "core/fabric/shm/segment.hpp"

#include <utility>

namespace rsock::fabric::shm {

Result<Segment> Segment::make(size_t rings, UniqueFd& descriptor) {
  auto memory = SealedMemory::make("rsock", kRings + rings, descriptor);
  if (!memory) return Errno{memory.error()};
  Segment segment(std::move(*memory));
  segment.queue().sleeping.store(1, std::memory_order_relaxed);
  return segment;
}

Result<Segment> Segment::open(int descriptor) {
  auto memory = SealedMemory::open(descriptor, kRings, kLargestSegment);
  if (!memory) return Errno{memory.error()};
  return Segment(std::move(*memory));
}

std::byte* Segment::rings(uint64_t offset, uint64_t length) const {
  if (offset < kRings || offset > size() || length > size() - offset) return nullptr;
  return base() + offset;
}

}  // namespace rsock::fabric::shm
