#include "core/wire/frame.hpp"

namespace rsock::wire {

FrameBytes encode(const Mark& token, const Frame& frame) {
  FrameBytes bytes{};
  Writer writer(bytes);
  writer.raw(token);
  writer.number(static_cast<uint8_t>(frame.kind));
  writer.raw(std::array<uint8_t, 7>{});
  writer.number(frame.consumed);
  writer.number(frame.written);
  return bytes;
}

std::optional<Frame> decode_frame(std::span<const uint8_t, kFrameSize> bytes, const Mark& token) {
  Reader reader(bytes);
  Mark shown{};
  std::array<uint8_t, 7> zero{};
  reader.raw(shown);
  const auto kind = reader.number<uint8_t>();
  reader.raw(zero);
  const auto consumed = reader.number<uint64_t>(), written = reader.number<uint64_t>();
  if (shown != token || zero != std::array<uint8_t, 7>{}) return {};
  for (const auto known : {FrameKind::resume, FrameKind::leave, FrameKind::aside})
    if (kind == static_cast<uint8_t>(known)) return Frame{known, consumed, written};
  return {};
}

}  // namespace rsock::wire
