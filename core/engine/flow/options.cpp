// What the program asked of its socket, as far as it matters to a lane. The kernel keeps it, also what an accepted socket has from
// its listener; it is asked when the flow enters a lane, and when something is set.

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <linux/tcp.h>

#include <algorithm>
#include <bit>

#include "core/engine/engine.hpp"
#include "core/engine/flow.hpp"

namespace rsock::engine {
namespace {

struct Name {
  int level, name;
};
// These make the kernel tell of each segment, beside its bytes: no lane has any.
constexpr Name kOfSegments[] = {{SOL_SOCKET, SO_TIMESTAMP_OLD},     {SOL_SOCKET, SO_TIMESTAMPNS_OLD},
                                {SOL_SOCKET, SO_TIMESTAMPING_OLD},  {SOL_SOCKET, SO_TIMESTAMP_NEW},
                                {SOL_SOCKET, SO_TIMESTAMPNS_NEW},   {SOL_SOCKET, SO_TIMESTAMPING_NEW},
                                {IPPROTO_TCP, TCP_INQ}};
#ifndef SO_BUF_LOCK
constexpr int SO_BUF_LOCK = 72;
#endif
constexpr int kReceiveBufferSet = 2;  // SOCK_RCVBUF_LOCK

int option(int fd, Name of, int otherwise) {
  int value = otherwise;
  socklen_t size = sizeof value;
  return sys::getsockopt(fd, of.level, of.name, &value, size) ? value : otherwise;
}

}  // namespace

bool Flow::is_of_segments(int level, int name) {
  return std::any_of(std::begin(kOfSegments), std::end(kOfSegments),
                     [=](Name known) { return known.level == level && known.name == name; });
}

bool Flow::asks_for_segments() const {
  const auto flags = sys::fcntl(shadow(), F_GETFL, 0);
  return (flags && (*flags & O_ASYNC)) ||
         std::any_of(std::begin(kOfSegments), std::end(kOfSegments), [&](Name name) { return option(shadow(), name, 0) > 0; });
}

bool Flow::resets_on_close() const {
  linger now{};
  socklen_t size = sizeof now;
  return sys::getsockopt(shadow(), SOL_SOCKET, SO_LINGER, &now, size) && now.l_onoff && now.l_linger == 0;
}

// With more than 1 in the kernel, tokens and frames would come unnoticed.
void Flow::mind_low_water() {
  const bool keep = low_water_ > 1 && !kernel_follows() && state_ != flow::State::broken;
  if (keep == low_water_kept_) return;
  low_water_kept_ = keep;
  const int value = keep ? 1 : static_cast<int>(low_water_);
  (void)sys::setsockopt(shadow(), SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value);
}

void Flow::low_water_set() {
  low_water_kept_ = false;
  learn_options();
  mind_low_water();
  // As in the kernel, who waits hears of what is enough now, and of an end.
  const auto there = kernel_follows() ? 0 : readable_bytes();
  if (fin_ || (there > 0 && there >= low_water_)) changed(EPOLLIN);
}

void Flow::learn_options() {
  if (!low_water_kept_) low_water_ = static_cast<size_t>(option(shadow(), {SOL_SOCKET, SO_RCVLOWAT}, 1));
  largest_ring_ = engine_.settings.ring_max;
  // What the program set is told doubled; what it did not set grows.
  if (option(shadow(), {SOL_SOCKET, SO_BUF_LOCK}, 0) & kReceiveBufferSet) {
    const auto set = static_cast<uint32_t>(std::max(option(shadow(), {SOL_SOCKET, SO_RCVBUF}, 0) / 2, 1));
    largest_ring_ = std::min(largest_ring_, std::max(std::bit_floor(set), engine_.settings.ring_min));
  }
}

}  // namespace rsock::engine
