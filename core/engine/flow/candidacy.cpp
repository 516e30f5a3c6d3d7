#include "core/engine/flow/candidacy.hpp"

#include <algorithm>
#include <utility>

namespace rsock::engine {
namespace {

// A flow that lost its lane enters one again: soon at first, later and later if that does not last.
constexpr auto kFirstPause = milliseconds(100);
constexpr int kMostDoublings = 6;
constexpr auto kSteady = milliseconds(3000);  // so long in its lane, and all is forgotten
constexpr int kMostTries = 8;

// What is lacking comes and goes without either program's doing.
constexpr bool comes_and_goes(Reason reason) {
  return reason == Reason::no_device || reason == Reason::no_route || reason == Reason::dial_timeout;
}

}  // namespace

bool Candidacy::settle(Reason reason) {
  if (settled_for_) return false;
  settled_for_ = reason;
  return true;
}

Candidacy::Entry Candidacy::enter(Lane lane, Time when) {
  const Entry entry{furthest_ == Lane::tcp, std::exchange(been_in_lane_, true)};
  if (entry.first) furthest_ = lane;
  worth_ = true;  // its peer has decided that
  entered_ = when;
  return entry;
}

bool Candidacy::leave(Time when) {
  const auto entered = std::exchange(entered_, {});
  if (entered && when - *entered > kSteady) tries_ = pauses_ = 0;
  return entered.has_value();
}

Candidacy::Next Candidacy::not_served(Reason reason, bool may_come_back) {
  ++pauses_;
  if (!comes_and_goes(reason)) ++tries_;
  return (lost_ || may_come_back) && tries_ <= kMostTries ? Next::again : Next::settle;
}

Duration Candidacy::pause() const {
  return std::min<Duration>(kFirstPause * (1 << std::clamp(pauses_ - 1, 0, kMostDoublings)), kLongestPause);
}

}  // namespace rsock::engine
