// A flow whose descriptor other processes hold as well.

#include "core/engine/engine.hpp"
#include "core/engine/flow.hpp"

namespace rsock::engine {

using Place = Share::Place;

bool Flow::first_use() {
  if (share_ && taken_ && !share_->alone()) return false;  // asked again at the next use
  used = true;
  if (!share_ || taken_ || share_->move(Place::free, Place::owned)) return true;
  const auto place = share_->place();
  if (place == Place::owned || place == Place::wanted) return true;
  settle(Reason::shared);  // another process was first
  return false;
}

void Flow::share_with_child(Family& family) {
  if (taken_ && !share_->alone()) return settle(Reason::shared);
  if (!share_ || taken_) {
    if (taken_) share_->let_go();
    // An accepted connection may be meant for the child. Where this end connected, its rendezvous point is this process's.
    share_ = family.new_share(used || role_ == Role::connector ? Place::owned : Place::free);
    taken_ = false;
  }
  if (share_) share_->hold();
}

void Flow::leave_to_family() {
  leave(Reason::shared);
  tell_family();
}

// Others may go on with it, once it is on TCP for good; or never, if what it was is here.
void Flow::tell_family() {
  if (!share_ || taken_) return;
  const bool unread = rest_in() + held_in_.size() > 0;
  // It may have been on its way back already, to come again.
  if (!settled_ && on_kernel() && wanted_elsewhere()) settle(Reason::shared);
  if (settled_ && on_kernel()) return share_->tell(Place::tcp);
  if (leaving_ && (over() || (tcp_eof_ && kernel_follows()))) return share_->tell(unread || state_ == flow::State::broken ? Place::lost : Place::tcp);
}

// Closed in this process. Those who hold it still find it on TCP, and the connection goes on.
void Flow::let_go() {
  letting_go_ = true;
  observers_.clear();
  leave(used ? Reason::shared : Reason::short_lived);
  advance_close();
}

}  // namespace rsock::engine
