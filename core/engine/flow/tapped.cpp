// A flow that is captured (core/engine/capture.hpp): what it hands over of the bytes that go through its
// rings.

#include "core/engine/capture.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/flow.hpp"

namespace rsock::engine {

void Flow::tap(Capture* capture) {
  seen_.tap = capture && capture->concerns(local_.port, remote_.port) ? capture : nullptr;
}

wire::CaptureRecord Flow::record(bool outgoing) const {
  wire::CaptureRecord record;
  record.outgoing = outgoing;
  record.accepted = role_ == Role::acceptor;
  record.v6 = local_.address.v6;
  record.local_port = local_.port, record.remote_port = remote_.port;
  record.flow = id_;
  record.local = local_.address.bytes, record.remote = remote_.address.bytes;
  return record;
}

// The last bytes that were written into the ring.
void Flow::tap_out(size_t bytes) {
  auto written = record(true);
  written.position = traffic().out - bytes;
  const auto first = binding_.tx.written() - bytes;
  seen_.tap->take(written, bytes, [&](uint64_t position, std::span<std::byte> to) {
    binding_.tx.copy_part(first + (position - written.position), to);
  });
}

// The next bytes that are taken out of the ring.
void Flow::tap_in(std::span<const std::byte> bytes) {
  auto read = record(false);
  read.position = traffic().in;
  seen_.tap->take(read, bytes.size(), [&](uint64_t position, std::span<std::byte> to) {
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(position - read.position), to.size(), to.begin());
  });
}

// All that is unread is taken out of the ring.
void Flow::tap_rest() {
  auto rest = record(false);
  rest.position = traffic().in;
  const auto& rx = binding_.rx;
  seen_.tap->take(rest, rx.readable(), [&](uint64_t position, std::span<std::byte> to) {
    for (auto skip = position - rest.position; !to.empty();)
      for (const auto& part : rx.peek(skip, to.size()).parts) {
        std::copy(part.begin(), part.end(), to.begin());
        skip += part.size(), to = to.subspan(part.size());
      }
  });
}

void Flow::tap_end() {
  seen_.tap->end(record(true));
  seen_.tap = nullptr;
}

}  // namespace rsock::engine
