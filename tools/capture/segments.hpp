#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "core/base/endpoint.hpp"

namespace rsock::tools {

enum class From : bool { connector, acceptor };

/// A connection as if its bytes had come by TCP: IP packets with headers that are made up. Its two streams
/// begin with a handshake and where they are first seen; bytes that are left out leave a gap in the sequence
/// numbers.
class Segments {
 public:
  using Emit = std::function<void(From, std::span<const std::uint8_t> head, std::span<const std::byte> data)>;
  /// More bytes make several packets.
  static constexpr std::size_t kMost = 32 << 10;

  Segments(const Endpoint& connector, const Endpoint& acceptor) : ends_{connector, acceptor} {}
  void begin(const Emit& emit);
  /// `position`: of the first byte in the stream of that end.
  void data(From from, std::uint64_t position, std::span<const std::byte> bytes, const Emit& emit);
  void end(From first, const Emit& emit);

 private:
  struct Stream {
    std::optional<std::uint64_t> origin;  // the position of its first byte
    std::uint32_t next = 0;               // sequence number
  };
  void segment(From from, std::uint8_t flags, std::span<const std::byte> data, const Emit& emit);

  std::array<Endpoint, 2> ends_;
  std::array<Stream, 2> streams_;
};

}  // namespace rsock::tools
