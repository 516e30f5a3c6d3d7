// What the program asked of its socket, as far as it matters to a lane. The kernel keeps it, also what an
// accepted socket has from its listener; it is asked when the flow enters a lane, and when something is set.

#include <sys/socket.h>

#include <algorithm>
#include <bit>

#include "core/engine/engine.hpp"
#include "core/engine/flow.hpp"

namespace rsock::engine {
namespace {

#ifndef SO_BUF_LOCK
constexpr int SO_BUF_LOCK = 72;
#endif
constexpr int kReceiveBufferSet = 2;  // SOCK_RCVBUF_LOCK

}  // namespace

// With more than 1 in the kernel, tokens and frames would come unnoticed.
void Flow::mind_low_water() {
  const bool keep = low_water_.bytes > 1 && !kernel_follows() && state() != flow::State::broken;
  if (keep == low_water_.kept) return;
  low_water_.kept = keep;
  const int value = keep ? 1 : static_cast<int>(low_water_.bytes);
  (void)sys::setsockopt(shadow(), SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value);
}

void Flow::low_water_set() {
  low_water_.kept = false;
  learn_options();
  mind_low_water();
  // The kernel was silent about what came while the program's value was there, and will not speak of it now.
  if (socket_.watched() && !kernel_follows()) socket_.note_input(), pump_tcp();
  // As in the kernel, who waits hears of what is enough now, and of an end.
  const auto there = kernel_follows() ? 0 : readable_bytes();
  if (ends_.total() || (there > 0 && there >= low_water_.bytes)) changed(EPOLLIN);
}

void Flow::learn_options() {
  if (!low_water_.kept) low_water_.bytes = static_cast<size_t>(socket_.option(SOL_SOCKET, SO_RCVLOWAT, 1));
  auto largest = engine_.settings.ring_max;
  // What the program set is told doubled; what it did not set grows.
  if (socket_.option(SOL_SOCKET, SO_BUF_LOCK, 0) & kReceiveBufferSet) {
    const auto set = static_cast<uint32_t>(std::max(socket_.option(SOL_SOCKET, SO_RCVBUF, 0) / 2, 1));
    largest = std::min(largest, std::max(std::bit_floor(set), engine_.settings.ring_min));
  }
  binding_.set_largest_ring(largest);
}

}  // namespace rsock::engine
