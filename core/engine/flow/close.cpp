// How a flow ends: half, whole, by an error, in order or not.

#include <sys/socket.h>

#include <utility>

#include "core/base/log.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/flow.hpp"
#include "core/engine/link.hpp"

namespace rsock::engine {

using flow::Ending;
using flow::Ends;
using flow::Event;
using flow::Sends;
using flow::State;

Status Flow::shutdown(int how) {
  const bool was_shut = ends_.write_shut();
  if (const auto shut = ends_.shutdown(how); !shut) {
    changed();  // the kernel, too, wakes those who wait
    return shut;
  }
  settle_connect();
  if (ends_.write_shut() && !was_shut) {
    if (flow::sends(state()) == Sends::ring)
      pump();
    else
      flush();
  }
  if (ends_.write_shut()) end_hold();
  changed();
  return Done{};
}

void Flow::kernel_shut() {
  socket_.note_shut();
  go_on();
  for (auto* observer : observers()) observer->flow_shut(*this);
}

// An end of the stream does not wait for a cutover that can still be given up.
void Flow::end_hold() {
  if (state() == State::accepted || state() == State::confirmed) apply(Event::fault);
  mind_hold();
}

// For the kernel, a connect(2) that did not wait is over with the next one, or with a shutdown. This is no
// shutdown yet.
void Flow::settle_connect() {
  if (role_ != Role::connector || (socket_.readiness() & EPOLLHUP)) return;
  sockaddr_storage address;
  (void)sys::connect(shadow(), reinterpret_cast<const sockaddr*>(&address), rsock::write(remote_, address));
}

void Flow::dissolved() {
  if (!kernel_follows() || unread_.size() == 0 || !read_nothing(false, true).is(ENOTCONN)) return;
  unread_.clear();
}

// The end of the stream is a record in the ring, after its last byte. Said once for the sending half, and
// once more when the application has closed: from then on it takes nothing either. A close that is no end of
// the stream but an abort is a RESET, and nothing comes after it.
void Flow::send_end() {
  if (!binding_.speaks() || way_.frozen() || state() != State::lane) return;
  const auto word = ends_.next_word(binding_.tx.unposted() == 0);
  auto& link = *binding_.link();
  switch (word) {
    case Ends::Word::nothing: return;
    case Ends::Word::fin:
    case Ends::Word::fin_closed:
      return link.send(wire::Fin{binding_.peer_slot(), binding_.tx.written(), word == Ends::Word::fin_closed});
    case Ends::Word::reset: return link.send(wire::Reset{binding_.peer_slot()});
  }
}

// FIN and RESET come from a peer in `lane`, and C's behind its WITNESS.
bool Flow::peer_may_end() const { return state() == State::lane || state() == State::broken; }

bool Flow::handle(const wire::Fin& fin) {
  if (way_.frozen() || state() == State::broken || state() == State::tcp) return true;
  const Change change(*this);
  const bool first = !ends_.total();
  if (!peer_may_end() || !ends_.fin(fin.total, fin.closed, binding_.rx.landed_total())) return false;
  if (first && state() == State::lane) changed();  // also where its end shows nothing new
  if (fin.closed) {
    salvage();
    leave_link(true);
  }
  advance_close();
  return true;
}

bool Flow::handle(const wire::Reset&) {
  if (way_.frozen() || state() == State::tcp) return true;
  if (!peer_may_end()) return false;
  ends_.reset_comes();
  advance_reset();
  return true;
}

// The stream ends by RST.
void Flow::advance_reset() {
  if (!ends_.reset_due()) return;
  if (!ends_.wrote_past_end())
    socket_.provoke_reset();  // before the peer hears that it may close: an error that is there would be taken
  reset_by_peer();
}

void Flow::abort() {
  ends_.tell_reset();
  binding_.link()->send(wire::Reset{binding_.peer_slot()});
}

// A flow whose peer has gone cannot come back to TCP as others do. But its peer ends the TCP connection, too,
// in the manner in which it ended the flow; so once that has arrived the kernel knows what is true, and gives
// it to the calls that reach it. What was left unread is kept in front.
void Flow::end_on_kernel() {
  const bool here = state() == State::lane || state() == State::broken;
  if (!ends_.peer_closed() || closing() || finished_ || !here || !socket_.at_end()) return;
  if (ends_.take_wrote_past_end() && !(socket_.readiness() & EPOLLHUP)) socket_.provoke_reset();
  if (!departure_.leaving()) return;
  if (state() == State::broken && !(socket_.readiness() & EPOLLHUP)) return;
  const Change change(*this);
  // Where the program has had the error, or is not to have one, the kernel's is none either.
  if (ends_.failure() == Ends::Failure::shown || ends_.both_ended()) {
    int taken = 0;
    socklen_t size = sizeof taken;
    (void)sys::getsockopt(shadow(), SOL_SOCKET, SO_ERROR, &taken, size);
  }
  if (state() == State::lane) {
    if (ends_.read_shut()) (void)sys::shutdown(shadow(), SHUT_RD);
    if (ends_.write_shut()) (void)sys::shutdown(shadow(), SHUT_WR);
  }
  if (ends_.shut_past_end()) (void)sys::shutdown(shadow(), SHUT_RDWR);
  salvage();
  machine_.end(Ending::handed_back);
  if (socket_.readiness() & EPOLLHUP) socket_.note_hangup_told();  // by the change
  socket_.note_end();
  socket_.note_shut();
  ends_.hand_back();
  mind_low_water();
  leave_link(true);
  log::info("flow {} to {} has ended on TCP, too", to_string(local_), to_string(remote_));
  settle(departure_.reason());
  stop_watching();
}

void Flow::reset_by_peer() {
  const int error = ends_.reset();
  salvage();
  leave_link(true);
  if (error) return fail(error);
  advance_close();
  changed();
}

void Flow::close_when_free() {
  if (calls_.within == 0) return close(!on_kernel() && socket_.resets_on_close());
  calls_.close_due = socket_.resets_on_close();
  socket_.make_last_anchor();  // the calls go on by it, since the number may soon be something else's
}

void Flow::release_hold() {
  if (--calls_.within == 0 && calls_.close_due) close(*std::exchange(calls_.close_due, {}));
}

void Flow::close(bool hard) {
  if (closing() || sharing_.letting_go) return;
  if (sharing_.share && sharing_.share->let_go()) return let_go();
  // Bytes that nobody will read make the kernel send RST in the place of FIN. Where all of them are the
  // kernel's it does so by itself, once the last descriptor is closed: others may have one.
  const bool aborts = !ends_.both_ended() && !on_kernel() && (hard || readable_bytes() > 0);
  ends_.close(aborts);
  end_hold();
  const bool had_lane = candidacy_.furthest() != Lane::tcp;
  if (selected() && !settled() && (!had_lane || state() == State::tcp)) {
    engine_.settled(*this);  // one that lost its lane waits for its peer without end (Points)
    if (!had_lane && state() == State::tcp) statistics.fell_back(Reason::short_lived);
  }
  observers_.clear();
  if (aborts) {
    socket_.end_hard();
    send_end();
  } else {
    pump();
  }
  advance_close();
  if (!finished_ && !aborts) socket_.end_in_background();
  if (!finished_ && (binding_.link() || state() == State::yielded)) engine_.in_cutover(*this);
}

void Flow::advance_close() {
  if (sharing_.letting_go && !closing() && (on_kernel() || over())) {
    tell_family();
    ends_.close(false);
    if (!on_kernel()) machine_.end(Ending::lost);  // it is the others' alone
  }
  if (!closing() || finished_) return;
  switch (state()) {
    case State::claimed:
    case State::accepted:
    case State::confirmed: return apply(Event::fault);
    case State::tcp:
    case State::broken:
      if (binding_.link() && !binding_.retired()) leave_link(false);
      if (state() == State::tcp && owes_yet()) return;
      if (!binding_.link()) return finish();
      // Only the slot waits for the peer, who may be another than the one at the other end of the connection.
      if (socket_.has()) (void)socket_.was_over();
      return let_socket_go();
    case State::lane:
      if (!ends_.aborts()) pump();
      send_end();
      if (!binding_.link()) finish();
      return;
    case State::yielded:
      // C's token may be on its way: a socket that is closed would answer it by RST, and lose what was sent.
      if (ends_.aborts()) return lose();
      ends_.shut_write();
      flush();
      return pump_tcp();
    case State::shown:
    case State::answered:
    case State::shown_resuming:
    case State::resuming: return pump_tcp();  // the edge may have come and gone
  }
}

// A peer that has ended its own stream reads on: what it is owed goes as long as there is a connection.
bool Flow::owes_yet() { return socket_.owes() && !flush() && socket_.takes_bytes(); }

// Nothing comes again: unread ring bytes move to where the application finds them.
void Flow::salvage() {
  if (seen_.tap && binding_.link() && !way_.frozen() && !way_.salvaged()) tap_rest();
  way_.salvage(binding_.link() ? &binding_.rx
                               : nullptr);  // without a link the ring is gone, and nobody had a use for it
  binding_.collect_memory();
  take_up_to_mark();
  unread_.add(way_.take_held());
}

// The flow is lost. What arrived is still the application's, then it sees the error.
void Flow::fail(int error) {
  if (state() == State::broken) return;
  const Change change(*this);
  log::info("flow {} to {} fails: errno {}", to_string(local_), to_string(remote_), error);
  salvage();
  machine_.end(Ending::lost);
  ends_.fail(error);
  hold_.kept.clear();
  socket_.unsay();
  socket_.end_hard();
  leave_link(ends_.peer_closed());
  advance_close();
}

// Nobody is interested any more. The peer has yet to say that it will not use the slot.
void Flow::lose() {
  machine_.end(Ending::lost);
  advance_close();
}

void Flow::let_socket_go() {
  if (ends_.ended_before_reset())
    (void)sys::shutdown(shadow(), SHUT_WR);  // to the peer's kernel, too, the end came before the reset
  socket_.forget();
}

// Calls that are under way go on by a descriptor of ours.
void Flow::disown() {
  if (calls_.within > 0) return;
  ends_.close(false);
  finish();
}

void Flow::finish() {
  finished_ = true;
  if (seen_.tap) tap_end();
  let_socket_go();
  binding_.abandon();
  engine_.forget(*this);
}

}  // namespace rsock::engine
