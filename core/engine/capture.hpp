#pragma once
// A capture of this process's lanes, while root has one made (`rsock capture`): whatever a flow's program
// writes into a ring or reads from one is copied into a ring of records (core/wire/capture.hpp), which the
// command reads. It never holds anybody up: what has no room is lost, and counted.
//
// Under the engine's lock. A flow that is captured knows it (Flow::tap); the others look at one word of their
// own. A child of fork has neither the memory nor an engine that knows of it.

#include <cstdint>
#include <memory>
#include <span>

#include "core/base/result.hpp"
#include "core/base/sealed_memory.hpp"
#include "core/wire/capture.hpp"

namespace rsock::engine {

class Capture {
 public:
  // `ring`: bytes, a power of two; `port`: of the flows that it is about, at either end; 0: all. Its memory
  // is for `descriptor` to be passed.
  static Result<std::unique_ptr<Capture>> make(uint64_t ring, uint16_t port, UniqueFd& descriptor);
  bool concerns(uint16_t local, uint16_t remote) const { return port_ == 0 || port_ == local || port_ == remote; }

  // The next `size` bytes of a flow, from `record.position` on: copy(position, to) puts them there.
  template <class Copy>
  void take(wire::CaptureRecord record, uint64_t size, Copy copy) {
    if (!begin(record)) return;
    while (size > 0) {
      record.bytes = static_cast<uint32_t>(size < wire::kCapturePiece ? size : wire::kCapturePiece);
      if (auto* to = writer_.begin(record)) {
        copy(record.position, std::span(to, record.bytes));
        writer_.commit();
      }
      record.position += record.bytes, size -= record.bytes;
    }
  }
  void end(wire::CaptureRecord record);

 private:
  Capture(SealedMemory memory, uint16_t port);
  bool begin(wire::CaptureRecord& record) const;

  const SealedMemory memory_;
  wire::CaptureWriter writer_;
  const uint16_t port_;
};

}  // namespace rsock::engine
