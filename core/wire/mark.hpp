#pragma once
// What the cutover carries on TCP, and what it is made from. A mark is 40 bytes: a tag that tells that it is one, to
// both ends of this cutover alone, a code that only the two ends of this link can make, and bytes that were never seen
// before, so that whoever answers the mark has read it (core/keys).

#include <array>
#include <cstddef>
#include <cstdint>

namespace rsock::wire {

inline constexpr size_t kMarkSize = 40;
using Mark = std::array<uint8_t, kMarkSize>;
using Nonce = std::array<uint8_t, 16>;        // of one end, for one cutover
using PublicKey = std::array<uint8_t, 32>;    // X25519
using Proof = std::array<uint8_t, 16>;        // that its sender knows the link's secret
using WitnessCode = std::array<uint8_t, 16>;  // that its sender has read the mark of the other end

}  // namespace rsock::wire
