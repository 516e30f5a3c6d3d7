// The flow's side of TCP: raw bytes, marks and frames, and the end of the connection.

#include <array>
#include <utility>

#include "core/base/log.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/flow.hpp"
#include "core/engine/link.hpp"

namespace rsock::engine {

using flow::Ending;
using flow::Event;
using flow::Receives;
using flow::State;

// What the shadow socket's readiness means to the application: nothing where its bytes go by the lane.
uint32_t Flow::heard_by_application(uint32_t tcp_events) const {
  constexpr uint32_t kOut = EPOLLOUT;
  return tcp_events & ((reads_raw() ? ~kOut : 0u) | (flow::sends(state()) == flow::Sends::raw ? kOut : 0u));
}

void Flow::tcp_ready(uint32_t events) {
  if (!socket_.watched()) return;  // the service was told before that ended
  const Change change(*this);
  const bool known = ends_.failed() || socket_.hangup_told();
  const auto heard = heard_by_application(events);  // before bytes are taken off TCP for it, and the edge with them
  socket_.became(events);
  if (socket_.owes()) flush();
  pump_tcp();
  go_on();  // what had to arrive for that may be there
  end_on_kernel();
  tell_family();
  advance_close();
  stop_watching();
  if (!known) changed(heard | heard_by_application(events));
}

// Takes off TCP what is not the application's.
void Flow::pump_tcp() {
  while (!finished_) {
    switch (receives()) {
      case Receives::raw:
      case Receives::nothing: return;
      case Receives::raw_to_boundary:
        closing() ? discard_raw() : take_raw();
        if (!read_mark()) return;
        break;
      case Receives::frames:
        if (!read_frame()) return;
        break;
    }
  }
}

// What stands at the peer's N: where its mark is seen, behind bytes that are not read yet or not. False if
// that is not known, or the mark not reached.
bool Flow::read_mark() {
  if (finished_ || receives() != Receives::raw_to_boundary) return !finished_;
  if (terms_.mark_ahead()) {
    if (boundary_left() > 0) return false;
    const Change change(*this);
    take_mark();
    return true;
  }
  const auto seen = look_at_mark();
  if (!seen || *seen == keys::Seen::partly) return false;
  if (*seen == keys::Seen::unlike) return apply(Event::raw_seen), true;
  terms_.set_mark_ahead(true);
  if (boundary_left() == 0) take_mark();
  if (*seen == keys::Seen::no) return apply(Event::no_seen), true;
  const bool sent_raw = socket_.position_out() > terms_.own_offset() || socket_.rest() > 0;
  auto* const link = binding_.link();
  apply(*seen == keys::Seen::token ? Event::token_seen : Event::foreign_seen, {.raw_sent = sent_raw});
  if (*seen == keys::Seen::foreign && link) link->protocol_fault("a flow's peer is at the other end of another link");
  return true;
}

void Flow::take_mark() {
  socket_.take_mark();
  terms_.set_mark_ahead(false);
}

// Takes nothing that is the program's. EAGAIN: it has not come, or an end of the stream is in its place,
// which is dealt with.
Result<keys::Seen> Flow::look_at_mark() {
  const auto before = boundary_left();
  wire::Mark mark;
  if (before == 0) {
    if (socket_.ended() || socket_.end_suspected()) return Errno{EAGAIN};
    if (socket_.at_urgent_mark()) return keys::Seen::unlike;  // which no mark is, and a read would step over it
  }
  const auto got = socket_.peek(before, mark);
  if (got.is(EAGAIN)) return Errno{EAGAIN};
  if (!got || *got == 0) {
    tcp_ended(got.error());
    return Errno{EAGAIN};
  }
  const auto seen = terms_.judge({mark.data(), *got});
  if (seen != keys::Seen::partly) return seen;
  if (socket_.ended_by_peer()) return keys::Seen::unlike;
  if (before == 0) socket_.take_part_of_mark(*got);
  return seen;
}

// True if there may be more. An end of the stream is dealt with here.
bool Flow::read_frame() {
  if (socket_.ended() || socket_.end_suspected()) return false;
  if (ends_.peer_closed() && socket_.at_end())
    return tcp_ended(0), false;  // its error is the program's, should the flow end there
  // What the peer put on the link before its frame is counted first: a peer that dies then cannot send it again.
  if (state() == State::lane && socket_.unread().value_or(0) > 0) {
    engine_.catch_up();
    if (finished_ || receives() != Receives::frames) return !finished_;
  }
  const auto got = socket_.collect_frame();
  if (got.is(EAGAIN)) return false;
  if (!got || *got == 0) return tcp_ended(got.error()), false;
  if (*got < wire::kFrameSize) return true;
  const auto frame = terms_.decode(socket_.take_frame());
  if (!frame) {
    log::warning("flow {} to {}: bytes on TCP where only frames may be", to_string(local_), to_string(remote_));
    fail(ECONNRESET);
    return false;
  }
  way_.note_peer(frame->consumed, frame->written);
  departure_.peer_says(frame->kind);
  apply(Event::resume_received);
  return true;
}

// The connection ended while its bytes were in a lane, or on the way there or back. What the peer put on the
// link before may still be on its way to us, in the very batch that is being handled: what the end means is
// decided afterwards.
void Flow::tcp_ended(int error) {
  if (socket_.suspect_end(error)) engine_.tcp_ended(*this);
}

void Flow::decide_end() {
  judge_end(socket_.take_suspected_end());
  if (!finished_) advance_reset();
}

// Without the peer's FIN the connection died.
void Flow::judge_end(int error) {
  // The flow has come back to TCP since. The look that found the error took it: the kernel would not tell of it again.
  if (error && !finished_ && (state() == State::tcp || state() == State::claimed)) {
    const Change change(*this);
    return ends_.fail(error);
  }
  // What was on its way may have been the last that a closed flow waited for.
  if (finished_ || state() == State::tcp || state() == State::broken || ends_.peer_closed()) return;
  if (!error && (state() == State::accepted || flow::receives(state()) == Receives::raw_to_boundary)) {
    // Its program ended the stream, in order: it gave the cutover up before, or never began it.
    const Change change(*this);
    socket_.note_input();  // the end is there to be read
    const bool shown = state() == State::shown || state() == State::shown_resuming;
    return apply(state() == State::accepted ? Event::fault : shown ? Event::no_seen : Event::raw_seen);
  }
  if (!ends_.total()) return fail(error ? error : ECONNRESET);
  const Change change(*this);
  // It had ended its stream; what it will no longer take is for our writes to find out.
  ends_.peer_left();
  salvage();
  machine_.end(Ending::over);
  leave_link(false);
  advance_close();
}

Result<size_t> Flow::read_raw(std::span<const iovec> to, size_t at, uint64_t most, bool peek) {
  return taken_raw(socket_.read(to, at, most, peek), peek);
}

Result<size_t> Flow::drop_raw(size_t room, bool peek) { return taken_raw(socket_.drop(room, peek), peek); }

// TCP ends before all has come again that a lane left behind: its peer ended in the middle of its way back.
bool Flow::rest_is_missing(const Result<size_t>& got) {
  if (state() != State::tcp || got.is(EAGAIN) || (got && *got > 0) || !way_.awaits_rest(socket_.raw_in())) return false;
  unread_.add(way_.take_missing(socket_.raw_in()));
  fail(got ? ECONNRESET : got.error());
  return true;
}

// Of what TCP answered to a read.
Result<size_t> Flow::taken_raw(Result<size_t> got, bool peek) {
  if (got && *got > 0 && !peek) go_on();
  if (rest_is_missing(got)) return Errno{EAGAIN};
  if (!got || *got > 0) return got;
  if (state() == State::claimed) apply(Event::fault);
  if (state() != State::tcp) tcp_ended(0);
  if (state() != State::tcp) return Errno{EAGAIN};
  socket_.note_end();
  // The kernel's own error was taken by what it refused. EPIPE: the peer's end had come before.
  return ends_.failed() ? ends_.read_end(socket_.refused() == EPIPE) : Result<size_t>(size_t{0});
}

Result<size_t> Flow::read_nothing(bool to_bad_place, bool peek) {
  auto* const nowhere = reinterpret_cast<void*>(uintptr_t{1});
  return sys::recv(shadow(), nowhere, to_bad_place ? 1 : 0, MSG_DONTWAIT | (peek ? MSG_PEEK : 0));
}

// Sends what must go before anything else, and then the end of the stream.
bool Flow::flush() {
  if (!socket_.flush()) {
    if (socket_.out_ready() && !socket_.refused())
      engine_.unsent(*this);  // there was room, but no memory: no edge follows
    return mind_refusal(), false;
  }
  if (ends_.write_shut() && !socket_.is_shut() && flow::sends(state()) == flow::Sends::raw) socket_.shut();
  return true;
}

// On TCP nothing else would tell of it: a program that has read the end already reads no more.
void Flow::mind_refusal() {
  if (socket_.refused() == 0 || (state() != State::tcp && state() != State::claimed)) return;
  const Change change(*this);
  // EPIPE, too, where the stream was shut here: its own doing, and what the kernel says by itself.
  if (socket_.refused() != EPIPE || (socket_.over() && !socket_.is_shut())) ends_.fail(socket_.refused());
  socket_.unsay();
}

void Flow::catch_up() {
  const auto source = receives();
  const bool raw = source == Receives::raw || source == Receives::raw_to_boundary;
  if (!raw || socket_.in_ready() || on_kernel()) return;
  if (const auto ready = socket_.readiness() & (EPOLLIN | EPOLLPRI)) tcp_ready(ready);
}

// What is in front of a mark or a frame without which this end may send nothing: a program may read no
// further before it has written. The kernel may not have told of these bytes yet, and cannot any more.
void Flow::take_raw() {
  if (state() == State::resuming || (hold_.pressed() && (holds() || state() == State::yielded))) bring_raw();
}

// What lies in the ring goes where what comes before it has to be, too.
void Flow::take_up_to_mark() {
  if (!terms_.mark_ahead()) return;
  socket_.note_input();  // it was seen
  bring_raw();
  if (boundary_left() == 0) take_mark();
}

void Flow::bring_raw() {
  const auto before = socket_.raw_in();
  while (boundary_left() > 0 && socket_.in_ready()) {
    std::byte piece[4096];
    const iovec to{piece, sizeof piece};
    const auto got = read_raw({&to, 1}, 0, boundary_left(), false);
    if (!got || *got == 0) break;
    unread_.add_raw({piece, *got});
  }
  if (socket_.raw_in() > before) changed(EPOLLIN);
}

// The application has closed: nobody will read what is left before the token.
void Flow::discard_raw() {
  std::byte sink[4096];
  const iovec to{sink, sizeof sink};
  while (!finished_ && receives() == Receives::raw_to_boundary && boundary_left() > 0)
    if (const auto got = read_raw({&to, 1}, 0, boundary_left(), false); !got || *got == 0) return;
}

}  // namespace rsock::engine
