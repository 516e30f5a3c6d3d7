// How a flow enters a lane: the machine's events and actions in terms of links, rings and the shadow socket.

#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "core/base/log.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/flow.hpp"
#include "core/engine/link.hpp"

namespace rsock::engine {

using flow::Action;
using flow::Event;
using flow::State;

namespace {

// The most bytes that are taken out of TCP to get at what is behind them: two kernels hold no more between
// them, as they are set up, and a peer's number need not be true.
constexpr uint64_t kMostTaken = 16 << 20;

}  // namespace

// ---- the messages

bool Flow::bind(Link& link) {
  if (const auto begun = terms_.begin(); !begun) {
    log::warning("flow {} to {} has no random number: errno {}", to_string(local_), to_string(remote_), begun.error());
    return false;
  }
  auto ring = link.connection().allocate(engine_.settings.ring_min);
  if (!ring) return false;
  const auto slot = link.bind(*this);
  if (!slot) {
    link.connection().release(*ring);
    return false;
  }
  binding_.begin(link, *slot, *ring);
  hold_ = {};
  way_ = {};
  departure_ = {};
  ends_ = {};
  learn_options();
  tap(engine_.capture.get());
  return true;
}

// Where this end will write, once it is in its lane. EPROTO: the peer has no such ring.
Status Flow::make_room_at_peer(const wire::RingPlace& place) {
  const auto made = binding_.mirror(place, engine_.settings.ring_max);
  if (made) hold_.kept.begin(std::min(place.size, engine_.settings.ring_min));
  return made;
}

// From now on nothing of the program's goes to TCP, unless the cutover is given up.
void Flow::fix_offset() {
  terms_.fix_own_offset(socket_.position_out());
  socket_.push();  // nothing joins it there
}

// False before the link's secret is agreed on.
bool Flow::agree(const wire::Accept& accept) {
  const auto* secret = binding_.link()->secret();
  if (secret) terms_.agree(*secret, accept);
  return secret != nullptr;
}

void Flow::claim(Link& link) {
  if (!eligible()) return;
  candidacy_.try_link(link.id());
  if (const auto reason = unfit()) return settle(*reason);
  if (!ensure_anchor()) return settle(Reason::descriptors);
  if (!bind(link)) return settle(Reason::locked_memory);
  link.note_claim();
  terms_.set_claim({binding_.slot(), remote_, local_, binding_.rx.place(), terms_.nonce()});
  apply(Event::claim_wanted);
  engine_.in_cutover(*this);
}

bool Flow::claimed(Link& link, const wire::Claim& claim) {
  if (!eligible()) return false;
  if (const auto reason = unfit()) return settle(*reason), false;
  if (!ensure_anchor()) return settle(Reason::descriptors), false;
  if (!bind(link)) return settle(Reason::locked_memory), false;
  if (const auto made = make_room_at_peer(claim.ring); !made) {
    if (made.is(EPROTO)) return link.protocol_fault("a ring that is not there"), false;
    binding_.retire_unused();
    return settle(Reason::locked_memory), false;
  }
  binding_.know_peer(claim.from);
  terms_.set_claim(claim);
  engine_.settled(*this);
  apply(Event::claim_received);
  return true;
}

bool Flow::handle(const wire::Accept& accept) {
  if (binding_.peer_known()) return false;
  binding_.link()->note_answer();
  binding_.know_peer(accept.from);
  if (state() != State::claimed) {  // given up meanwhile; C has to hear of it
    leave_link(false);
    return true;
  }
  if (!agree(accept)) return false;
  hold_.keep(accept);
  go_on();
  return true;
}

bool Flow::handle(const wire::Decline& decline) {
  if (binding_.peer_known()) return false;
  binding_.link()->note_answer();
  if (state() == State::claimed) apply(Event::declined);
  binding_.retire_unused();
  if (closing()) return advance_close(), true;
  switch (decline.cause) {
    case wire::DeclineCause::unknown_flow: engine_.declined(*this); break;
    case wire::DeclineCause::resources: not_served(Reason::peer_declined); break;
    case wire::DeclineCause::unwilling: not_now(); break;
  }
  return true;
}

bool Flow::handle(const wire::Confirm& confirm) {
  if (state() != State::accepted) return role_ == Role::connector;  // it was given up meanwhile
  if (hold_.has_confirm()) return false;
  hold_.keep(confirm);
  go_on();
  if (hold_.has_confirm()) engine_.in_cutover(*this);
  return true;
}

// It comes before all that C writes into the ring; too late where this end left meanwhile, or was lost.
bool Flow::handle(const wire::Witness& witness) {
  if (state() != State::answered)
    return role_ == Role::acceptor && (flow::done_with_link(state()) || state() == State::broken);
  if (!keys::same(witness.code, terms_.witness())) return false;
  apply(Event::witnessed);
  return true;
}

// ---- when it goes on

// A mark that lies behind unread bytes stays there, and what is in front of it cannot be handed on with the
// descriptor, as an accepting program may do that has read the head of a request. So an end goes on with its
// cutover when its program has read all that comes before the lane. Where C's program waits for that, and S's
// does not read, S turns back; C goes on.
bool Flow::waits_for_reader(uint64_t boundary) const {
  return socket_.position_in() < boundary && !hold_.hurried() && !half_closed() && low_water_.bytes == 1 &&
         hold_.kept.empty();
}

// Before that S's word cannot come, and C would be mute as long as a slow path needs for what S has sent.
bool Flow::arrived(uint64_t boundary) const {
  return socket_.position_in() >= boundary || out_of_reach(boundary) ||
         socket_.position_in() + socket_.unread().value_or(0) >= boundary;
}

void Flow::go_on() {
  if (hold_.has_accept() && !waits_for_reader(hold_.accept().offset) && !confirm(hold_.take_accept()))
    return binding_.link()->protocol_fault("a ring that is not there");
  if (!hold_.has_confirm() || waits_for_reader(hold_.confirm().offset) || !arrived(hold_.confirm().offset)) return;
  const auto offset = hold_.take_confirm().offset;
  if (out_of_reach(offset)) return apply(Event::fault);
  terms_.set_peer_offset(offset);
  apply(Event::confirm_received, {.past_boundary = socket_.position_in() > offset});
}

// Another time.
void Flow::turn_back() {
  apply(Event::fault);
  not_now();
}

// False if the peer has no such ring.
bool Flow::confirm(const wire::Accept& accept) {
  const auto made = half_closed() ? Status(Errno{EPIPE}) : make_room_at_peer(accept.ring);
  if (made.is(EPROTO)) return false;
  if (!made || out_of_reach(accept.offset)) {
    apply(Event::fault);
    if (made)
      not_now();
    else if (!half_closed())
      settle(Reason::locked_memory);
    return true;
  }
  terms_.set_peer_offset(accept.offset);
  apply(Event::accept_received, {.past_boundary = socket_.position_in() > accept.offset});
  if (state() == State::tcp && not_yet()) not_now();  // C gave up before its word came
  return true;
}

// A peer's number need not be true.
bool Flow::out_of_reach(uint64_t boundary) const {
  return boundary > socket_.position_in() && boundary - socket_.position_in() > kMostTaken;
}

// ---- the program's bytes meanwhile

Result<size_t> Flow::hold(std::span<const iovec> from, size_t skip) {
  const auto taken = hold_.kept.take(from, skip);
  mind_hold();
  return taken;
}

// The program waits for the cutover.
void Flow::mind_hold() {
  if (!holds() || !hold_.begin_wait(now())) return;
  hold_.hurry();
  go_on();
  // Not as of a ring that is full, which may be so as soon as there is one.
  if ((state() == State::accepted || state() == State::confirmed) && binding_.speaks())
    binding_.link()->send(wire::Blocked{binding_.peer_slot()});
  if (holds()) engine_.in_cutover(*this);
}

// The stream goes on.
void Flow::let_held_go() {
  const auto where = flow::sends(state());
  if (where == flow::Sends::nothing || hold_.kept.empty()) return;
  const auto bytes = hold_.kept.bytes();
  if (where == flow::Sends::ring) {
    const iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
    (void)binding_.tx.append({&piece, 1});  // there is as much room as was held at most
    statistics.bytes_out[binding_.lane()].add(bytes.size());
    if (seen_.tap) tap_out(bytes.size());
  } else {
    socket_.say_rest(bytes);
    statistics.bytes_out[Lane::tcp].add(bytes.size());
  }
  hold_.kept.clear();
}

// ---- how long it may last

Duration Flow::cutover_limit() const {
  // A program that had no room on TCP waits for it, and may not try before it is told.
  const bool felt = holds() && (hold_.waited_on() || !socket_.out_ready());
  return hold_.limit(engine_.settings.dial, claims(), felt);
}

void Flow::give_up() {
  if (holds() || state() == State::yielded) {
    press_on();
  } else if (hold_.has_accept()) {
    hold_.hurry(hold_.reads_on(socket_.position_in()));
    hold_.hurried() ? go_on() : turn_back();
  } else if (claims() && !closing() && !binding_.link()->answered()) {
    // Nobody has ever answered there: the flow's own end may be elsewhere at that address, and still wait to
    // be found.
    binding_.link()->fail(Reason::link_failed);
  } else if (closing()) {
    miss_retire();
  }
  if (closing() && binding_.link() && !finished_) engine_.in_cutover(*this);
}

// The cutover lasts too long.
void Flow::press_on() {
  switch (state()) {
    case State::accepted:
      hold_.hurry();
      go_on();
      if (state() == State::accepted) apply(Event::fault);
      return;
    case State::confirmed: return apply(Event::fault);
    case State::shown:
    case State::answered:
    case State::shown_resuming:
      // Only the peer's word ends this. S's mark may not come because all buffers are full of what the program does
      // not read.
      hold_.press();
      pump_tcp();
      if (!holds()) return;
      if (hold_.too_long(now(), socket_.undelivered())) return fail(ECONNRESET);
      return engine_.in_cutover(*this);
    default:  // yielded
      // C's word would have come by now.
      if (closing()) return owes_yet() ? engine_.in_cutover(*this) : lose();
      hold_.press();
      pump_tcp();
  }
}

// A peer says RETIRE before it lets go of the connection. One that never does would keep the ring for ever.
void Flow::miss_retire() {
  if (finished_ || !binding_.link()) return;
  // The application has gone, and the peer does not answer the claim: its end of the stream must not wait for
  // that.
  if (!binding_.peer_known()) return binding_.link()->fail(Reason::link_failed);
  // It may have been said, and nobody looked: this process was stopped.
  const bool time_is_up =
      binding_.withheld(now()) || (state() == State::tcp ? socket_.let_go_over() : socket_.was_over());
  const bool late = time_is_up && engine_.drain();
  if (!finished_ && binding_.link() && late) binding_.link()->protocol_fault("a slot that is never given back");
}

// ---- the machine

void Flow::apply(Event event, flow::Facts facts) {
  const Change change(*this);
  const auto before = state();
  if (!machine_.allows(event, facts)) return fail(ECONNRESET);
  const auto next = machine_.step(event, facts);
  if (state() != before) hold_.forget_words();  // which were for that state
  if (flow::receives(state()) != flow::Receives::raw_to_boundary) unread_.add_raw(socket_.give_part());
  mind_low_water();
  time_way_back(before);
  log::debug("flow {} to {}: {} in {} gives {}", to_string(local_), to_string(remote_), flow::name(event),
             flow::name(before), flow::name(state()));
  if (state() == State::shown_resuming) freeze();
  applying_ = true;
  for (const auto action : next.actions) act(action);
  if (!holds()) hold_.end_wait();
  let_held_go();
  flush();  // not before the last: a stream whose end was said ends behind what is sent again
  applying_ = false;
  if (link_failure_) link_failed(*std::exchange(link_failure_, {}));
  if (state() == State::lane && before != State::lane) entered();
  if (state() != before && (holds() || state() == State::yielded)) engine_.in_cutover(*this);
  if (flow::done_with_link(state())) leave_link(false);
  if (state() == State::lane) pump();
  if (state() == State::tcp && before != State::tcp) on_tcp_again(before);
  tell_family();
  advance_close();
  stop_watching();
  if (state() == State::lane) advance_reset();
  if (holds() && before != state()) pump_tcp();  // what this waits for may be there
}

void Flow::entered() {
  const auto entry = candidacy_.enter(binding_.lane(), now());
  if (entry.first) {
    statistics.flows[Lane::tcp].count.fetch_sub(1, std::memory_order_relaxed);
    statistics.flows[binding_.lane()].add();
  }
  if (entry.again) statistics.reentries.add();
  log::info("flow {} to {} is in its lane", to_string(local_), to_string(remote_));
}

void Flow::on_tcp_again(State before) {
  ends_.forget_peer();
  const bool by_frames = before == State::lane || before == State::answered || before == State::resuming;
  if (by_frames && !way_.expect_rest(socket_.raw_in())) return fail(ECONNRESET);
  if (!by_frames || departure_.reason() == Reason::shared) way_.forgo_rest();
  if (ends_.read_shut()) {
    (void)sys::shutdown(shadow(), SHUT_RD);
    // Bytes that came behind the peer's frame came after the program had shut it both ways.
    if (socket_.is_shut() && before == State::resuming) socket_.reset_if_unread();
  }
  if (before != State::claimed)
    returned();
  else if (departure_.leaving())
    settle(departure_.leave_reason());
}

void Flow::act(Action action) {
  switch (action) {
    case Action::none: return;
    case Action::send_claim: return binding_.link()->send(terms_.claim());
    case Action::send_accept: {
      fix_offset();
      const wire::Accept accept{binding_.peer_slot(), binding_.slot(), binding_.rx.place(), terms_.nonce(),
                                terms_.own_offset()};
      if (!agree(accept)) return binding_.link()->protocol_fault("a claim before the link's secret is agreed on");
      return binding_.link()->send(accept);
    }
    case Action::send_confirm:
      fix_offset();
      return binding_.link()->send(wire::Confirm{binding_.peer_slot(), terms_.own_offset()});
    case Action::show_token: terms_.note_shown(); return socket_.say(terms_.token());
    case Action::show_no:
      if (!socket_.is_shut()) socket_.say(terms_.no());  // an end of the stream there says the same
      return;
    case Action::send_witness: return binding_.link()->send(wire::Witness{binding_.peer_slot(), terms_.witness()});
    case Action::send_resume:
      freeze();
      return socket_.say(terms_.frame({departure_.frame(), way_.consumed(), way_.written()}));
    case Action::resend_rest: return resend();
    case Action::reset: return;  // fail() has seen to it
  }
}

}  // namespace rsock::engine
