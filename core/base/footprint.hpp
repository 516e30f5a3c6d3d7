#pragma once
// What a link over RDMA registers, and so locks, once it carries a flow; more flows and larger rings add to that.

#include <algorithm>
#include <bit>
#include <cstdint>

namespace rsock {

inline constexpr uint32_t kFirstChunk = 128
                                        << 10;  // of the memory for rings; as much again for the mirrors of the peer's
inline constexpr uint32_t kLinkDepth = 128;     // messages that are on their way in each direction
inline constexpr uint32_t kLinkMessage = 1024;  // bytes of one, at most

constexpr uint64_t link_footprint(uint64_t ring) {
  return std::bit_ceil(2 * kLinkDepth * kLinkMessage) + 2 * std::max<uint64_t>(kFirstChunk, ring);
}

}  // namespace rsock
