// The way back to TCP: why a flow leaves, what it takes along, and what comes after.

#include <sys/socket.h>

#include <utility>

#include "core/base/log.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/flow.hpp"
#include "core/engine/link.hpp"

namespace rsock::engine {

using flow::Event;
using flow::State;

void Flow::leave(Reason reason) {
  take_up_to_mark();  // which the kernel could not step over
  if (departure_.leaving() || settled()) return;
  departure_.leave(reason);
  if (reason == Reason::shared) way_.forgo_rest();
  if (state() == State::tcp) return settle(reason);
  if (over()) return end_on_kernel();
  apply(Event::fault);
}

void Flow::break_off() {
  if (kernel_follows() || over()) return;
  socket_.reset();
  fail(ECONNRESET);
}

void Flow::step_aside(Reason reason) {
  if (departure_.leaving() || settled() || over() || state() == State::tcp) return;
  departure_.step_aside(reason);
  apply(Event::fault);
}

void Flow::link_failed(Reason reason) {
  log::info("flow {} to {} loses its link: {}", to_string(local_), to_string(remote_), key(reason));
  if (applying_) {
    link_failure_ = reason;
    return;
  }
  const Change change(*this);
  departure_.fault(reason);
  const bool was_claimed = state() == State::claimed;
  if (ends_.peer_closed() || state() == State::tcp || state() == State::broken)
    freeze();
  else
    apply(Event::fault);
  binding_.release();
  if (was_claimed && free_to_enter()) eligible() ? engine_.declined(*this) : not_now();
  advance_close();
}

// Takes out of the rings all that may still be needed, in both directions. What lands later does not count.
// What landed and was not read comes again on TCP, where the kernel's own calls find it; ours is for the case
// that the connection dies before.
void Flow::freeze() {
  const bool live = binding_.link() != nullptr;
  if (!way_.freeze(binding_.tx, binding_.rx, live)) return;
  if (ends_.read_shut() && ends_.write_shut() && live && !way_.salvaged()) {
    // They are not to be sent again: the kernel answers bytes for a socket that was shut both ways by RST.
    take_up_to_mark();
    unread_.add(way_.take_unread(binding_.rx));
  } else {
    way_.keep_unread(binding_.rx);
  }
}

void Flow::resend() {
  freeze();
  const auto again = way_.take_sent_again();
  if (!again) return fail(ECONNRESET);
  binding_.sent_again(again->size());
  socket_.say_rest(*again);
}

void Flow::leave_link(bool finished) { binding_.retire(finished, terms_.shown()); }

bool Flow::handle(const wire::Retire& retire) {
  if (binding_.peer_retired() || !binding_.peer_known()) return false;
  binding_.note_peer_retired();
  const Change change(*this);
  // As long as the application may read, what is in the ring is its own.
  const bool finished = retire.finished && ends_.told_all();
  // C has shown no token, and will not: that is what raw bytes in its place would tell.
  const bool gave_up = !retire.begun && (state() == State::confirmed || state() == State::yielded);
  const bool was_claimed = state() == State::claimed;  // C's word was kept for later, and does not count now
  if (!finished && !ends_.peer_closed() && state() != State::tcp && state() != State::broken)
    apply(gave_up ? Event::raw_seen : Event::fault);
  leave_link(false);
  binding_.release();
  if (was_claimed && free_to_enter()) not_now();
  advance_close();
  return true;
}

// What the kernel has, it can give.
bool Flow::awaits_rest() const {
  const auto taken = socket_.raw_in();
  return state() == State::tcp && way_.awaits_rest(taken) && way_.awaits_rest(taken + socket_.unread().value_or(0));
}

// Raw again both ways. Unless somebody wanted that, a lane is looked for once more.
void Flow::returned() {
  const auto reason = departure_.reason();
  const bool had_lane = candidacy_.leave(now());
  if (had_lane) statistics.returned(reason);
  if (departure_.for_good() || half_closed()) return settle(reason);
  candidacy_.lose_lane();
  if (!had_lane && !departure_.wanted()) {
    log::info("flow {} to {} is back on TCP: its cutover was given up", to_string(local_), to_string(remote_));
    return not_now();
  }
  log::info("flow {} to {} is back on TCP: {}", to_string(local_), to_string(remote_), key(reason));
  if (!departure_.aside()) return not_served(reason);
  // Nothing failed, so nothing is counted. At the end whose gate is shut, the operator's next word begins the
  // search.
  candidacy_.forget_pauses();
  if (admitted()) engine_.again(*this);
}

// For the statistics: how long the way back takes.
void Flow::time_way_back(State before) {
  if (state() == before) return;
  if (before == State::lane) {
    departure_.begin(now());
    if (binding_.link()) binding_.link()->note_return();
  }
  if (state() != State::tcp) return;
  if (const auto begun = departure_.take_begin()) statistics.way_back.add(now() - *begun);
}

}  // namespace rsock::engine
