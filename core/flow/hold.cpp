#include "core/flow/hold.hpp"

#include <algorithm>
#include <utility>

namespace rsock::flow {
namespace {

// How long a program's bytes may wait for a cutover, and for the peer's word after this end has shown its
// token.
constexpr auto kShortHold = milliseconds(2);  // if it is the peer's program that does not read
constexpr auto kLongestHold = milliseconds(50);
constexpr auto kLongestMute = milliseconds(30'000);

}  // namespace

bool Hold::begin_wait(Time when) {
  if (since_) return false;
  since_ = when;
  return true;
}

bool Hold::too_long(Time when, uint64_t undelivered) {
  if (undelivered < std::exchange(undelivered_, undelivered) && since_) since_ = when;
  return since_ && when - *since_ > kLongestMute;
}

bool Hold::peer_blocked(uint64_t position_in) {
  if (blocked_at_) return false;
  blocked_at_ = position_in;
  return true;
}

Duration Hold::limit(Duration dial, bool claims, bool felt) const {
  if (claims && blocked_at_) return std::min<Duration>(dial, kShortHold);
  if (claims || (confirm_ && !felt)) return dial / 2;
  return felt && !pressed_ ? std::min<Duration>(dial, kLongestHold) : dial;
}

}  // namespace rsock::flow
