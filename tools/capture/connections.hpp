#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <utility>

#include "core/wire/capture.hpp"
#include "tools/capture/segments.hpp"

namespace rsock::tools {

/// What processes hand over of their flows, made into packets. A connection may have both its ends among the
/// processes: it is told by the end that is heard of first, and the other end is left out.
class Connections {
 public:
  /// `outgoing`: sent by the process that told it.
  using Emit = std::function<void(std::uint32_t process, std::uint64_t time, bool outgoing,
                                  std::span<const std::uint8_t> head, std::span<const std::byte> data)>;
  explicit Connections(Emit emit) : emit_(std::move(emit)) {}

  void take(std::uint32_t process, const wire::CaptureRecord& record, std::span<const std::byte> bytes);
  std::uint64_t count() const { return count_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  struct Connection {
    std::uint32_t process;
    std::uint64_t flow;
    bool accepted;
    bool ended = false;
    std::uint64_t last = 0;  // time
    Segments segments;
  };
  using Ends = std::pair<Endpoint, Endpoint>;  // of the connector, of the acceptor
  void forget_ended(std::uint64_t time);

  Emit emit_;
  std::map<Ends, Connection> known_;
  std::size_t ended_ = 0;
  std::uint64_t count_ = 0, bytes_ = 0;
};

}  // namespace rsock::tools
