// A flow whose descriptor other processes hold as well.

#include "core/engine/engine.hpp"
#include "core/engine/flow.hpp"

namespace rsock::engine {

using Place = Share::Place;

bool Flow::first_use() {
  auto* const share = sharing_.share;
  if (share && sharing_.taken && !share->alone()) return false;  // asked again at the next use
  candidacy_.note_used();
  if (!share || sharing_.taken || share->move(Place::free, Place::owned)) return true;
  const auto place = share->place();
  if (place == Place::owned || place == Place::wanted) return true;
  settle(Reason::shared);  // another process was first
  return false;
}

void Flow::share_with_child(Family& family) {
  auto& [share, taken, letting_go] = sharing_;
  if (taken && !share->alone()) return settle(Reason::shared);
  if (!share || taken) {
    if (taken) share->let_go();
    // An accepted connection may be meant for the child. Where this end connected, its rendezvous point is
    // this process's.
    share = family.new_share(candidacy_.used() || role_ == Role::connector ? Place::owned : Place::free);
    taken = false;
  }
  if (share) share->hold();
}

bool Flow::wanted_elsewhere() const {
  return sharing_.share && !sharing_.taken && sharing_.share->place() == Place::wanted;
}

void Flow::leave_to_family() {
  leave(Reason::shared);
  tell_family();
}

// Others may go on with it, once it is on TCP for good; or never, if what it was is here.
void Flow::tell_family() {
  auto* const share = sharing_.share;
  if (!share || sharing_.taken) return;
  // It may have been on its way back already, to come again.
  if (!settled() && on_kernel() && wanted_elsewhere()) settle(Reason::shared);
  if (settled() && on_kernel()) return share->tell(Place::tcp);
  if (!departure_.leaving() || !(over() || (socket_.ended() && kernel_follows()))) return;
  const bool unread = unread_.size() + way_.held_in() > 0;
  share->tell(unread || state() == flow::State::broken ? Place::lost : Place::tcp);
}

// Closed in this process. Those who hold it still find it on TCP, and the connection goes on.
void Flow::let_go() {
  sharing_.letting_go = true;
  observers_.clear();
  leave(candidacy_.used() ? Reason::shared : Reason::short_lived);
  advance_close();
}

}  // namespace rsock::engine
