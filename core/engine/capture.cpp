#include "core/engine/capture.hpp"

#include <bit>
#include <utility>

#include "core/base/clock.hpp"

namespace rsock::engine {

Result<std::unique_ptr<Capture>> Capture::make(uint64_t ring, uint16_t port, UniqueFd& descriptor) {
  if (ring < wire::kCaptureLeast || ring > wire::kCaptureMost || !std::has_single_bit(ring)) return Errno{EINVAL};
  auto memory = SealedMemory::make("rsock-capture", wire::kCaptureRing + ring, descriptor);
  if (!memory) return Errno{memory.error()};
  return std::unique_ptr<Capture>(new Capture(std::move(*memory), port));
}

Capture::Capture(SealedMemory memory, uint16_t port)
    : memory_(std::move(memory)), writer_({memory_.base(), memory_.size()}), port_(port) {}

bool Capture::begin(wire::CaptureRecord& record) const {
  if (!writer_.wanted()) return false;
  record.time = time_of_day();
  return true;
}

void Capture::end(wire::CaptureRecord record) {
  record.kind = wire::CaptureKind::end;
  if (begin(record) && writer_.begin(record)) writer_.commit();
}

}  // namespace rsock::engine
