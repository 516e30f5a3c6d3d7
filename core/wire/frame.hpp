#pragma once
// A frame: what the TCP connection of a flow carries between the token and the way back. 64 bytes.
//
//   0  40   the sender's token
//  40   1   kind
//  41   7   zero
//  48   8   consumed
//  56   8   written
//
// RESUME: "I have frozen my ring after `consumed` bytes of yours; send the rest raw. Of mine, which were `written`, the
// rest comes raw as soon as I know where to go on." LEAVE says the same, and that the sender stays on TCP from now on;
// ASIDE, that it does so for a while, and that nothing failed.

#include <optional>
#include <span>

#include "core/wire/bytes.hpp"
#include "core/wire/mark.hpp"

namespace rsock::wire {

inline constexpr size_t kFrameSize = 64;
enum class FrameKind : uint8_t { resume = 1, leave = 2, aside = 4 };

struct Frame {
  FrameKind kind = FrameKind::resume;
  uint64_t consumed = 0, written = 0;  // ring bytes, of this cutover
};

using FrameBytes = std::array<uint8_t, kFrameSize>;
FrameBytes encode(const Mark& token, const Frame& frame);
// Nothing unless the bytes are a frame that bears `token`.
std::optional<Frame> decode_frame(std::span<const uint8_t, kFrameSize> bytes, const Mark& token);

}  // namespace rsock::wire
