// The ring that `rsock capture` maps: whatever lies in it, what is taken lies within it, and there is an end
// to that.

#include "core/wire/capture.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

using namespace rsock::wire;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kRing = 4096;
  alignas(64) static std::array<std::byte, kCaptureRing + kRing> memory;
  uint64_t written = 0;
  if (size < sizeof written) return 0;
  std::memcpy(&written, data, sizeof written);
  memory.fill({});
  std::memcpy(memory.data() + kCaptureRing, data + sizeof written, std::min(size - sizeof written, kRing));
  reinterpret_cast<CaptureHead*>(memory.data())->written = written;
  CaptureReader reader(memory);
  CaptureRecord record;
  std::span<const std::byte> bytes;
  for (size_t taken = 0; reader.take(record, bytes) == CaptureReader::Next::record; taken += record.length) {
    const auto first = static_cast<size_t>(bytes.data() - memory.data());
    if (first < kCaptureRing || first > memory.size() || bytes.size() > memory.size() - first || taken > kRing)
      std::abort();
  }
  return 0;
}
