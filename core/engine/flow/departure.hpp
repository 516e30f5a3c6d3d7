#pragma once
// Why a flow goes back to TCP, and what its frame says of it. Pure.

#include <optional>
#include <utility>

#include "core/base/clock.hpp"
#include "core/base/reason.hpp"
#include "core/wire/frame.hpp"

namespace rsock::engine {

class Departure {
 public:
  // ---- the wish of this end, or of the peer as its frame says
  // For good.
  void leave(Reason reason) { leaving_ = reason; }
  bool leaving() const { return leaving_.has_value(); }
  Reason leave_reason() const { return *leaving_; }
  // Until it may come again.
  void step_aside(Reason reason) { aside_ = reason; }
  void peer_says(wire::FrameKind kind) { peer_ = kind; }
  // Neither wished it: the link failed.
  void fault(Reason reason) { fault_ = reason; }
  // There is a wish, or a fault. Without one, the other end began it, or a cutover was given up.
  bool wanted() const { return leaving_ || aside_ || fault_ || peer_ != wire::FrameKind::resume; }

  wire::FrameKind frame() const {
    return leaving_ ? wire::FrameKind::leave : aside_ ? wire::FrameKind::aside : wire::FrameKind::resume;
  }
  bool for_good() const { return leaving_ || peer_ == wire::FrameKind::leave; }
  bool aside() const { return aside_ || peer_ == wire::FrameKind::aside; }
  Reason reason() const {
    if (leaving_) return *leaving_;
    if (peer_ == wire::FrameKind::leave) return Reason::peer_left;
    return aside() ? aside_.value_or(Reason::by_operator) : fault_.value_or(Reason::link_failed);
  }

  // ---- how long it takes
  void begin(Time when) { since_ = when; }
  std::optional<Time> take_begin() { return std::exchange(since_, {}); }

 private:
  std::optional<Reason> leaving_, aside_, fault_;
  wire::FrameKind peer_ = wire::FrameKind::resume;
  std::optional<Time> since_;
};

}  // namespace rsock::engine
