#pragma once

#include <chrono>
#include <cstddef>
#include <string>

namespace rsock::config {

/// What becomes of a program that asks for a ring of io_uring: it gets none, or its flows stay on TCP.
enum class IoUring { refuse, tcp };

/// The values of the [options] table. Each member is the option of the same name: what it means, its default
/// and its bounds stand in option_table.cpp, and nowhere else. Invariant of every Options that parse returns:
/// each value is within its bounds, and ring_min <= ring_max.
struct Options {
  /// The defaults.
  Options() noexcept;

  std::chrono::milliseconds rendezvous_ms;
  std::chrono::milliseconds young_ms;
  std::chrono::milliseconds dial_ms;
  std::chrono::microseconds spin_us;
  std::size_t ring_min;
  std::size_t ring_max;
  std::chrono::milliseconds drain_ms;
  std::size_t max_pinned;
  bool check_peer_address;
  std::string device;
  IoUring io_uring;
  std::string secret;
};

}  // namespace rsock::config
