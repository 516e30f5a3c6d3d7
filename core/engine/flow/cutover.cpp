// How a flow enters a lane and comes back: the machine's events and actions in terms of links, rings and the shadow socket.

#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#include <linux/tcp.h>

#include <algorithm>
#include <cstring>
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

// As in the kernel, whose header for them cannot be included together with linux/tcp.h.
constexpr uint8_t kEstablished = 1, kFinWait1 = 4, kFinWait2 = 5;

// A flow that lost its lane enters one again: soon at first, later and later if that does not last.
constexpr auto kFirstPause = milliseconds(100), kLongestPause = milliseconds(5000);
constexpr auto kSteady = milliseconds(3000);  // so long in its lane, and all is forgotten
constexpr int kMostTries = 8;

// What is lacking comes and goes without either program's doing.
constexpr bool comes_back(Reason reason) {
  return reason == Reason::no_device || reason == Reason::no_route || reason == Reason::dial_timeout;
}

}  // namespace

Stage Flow::stage() const {
  if (over()) return link_ ? Stage::leaving : Stage::tcp;
  switch (state_) {
    case State::tcp:
    case State::broken: return link_ ? Stage::leaving : Stage::tcp;
    case State::claimed:
    case State::accepted:
    case State::confirmed:
    case State::shown: return closing_ ? Stage::leaving : Stage::entering;
    case State::lane: return closing_ ? Stage::leaving : Stage::lane;
    case State::shown_resuming:
    case State::resuming: return Stage::leaving;
    case State::yielded:  // raw both ways: only that it was C's choice, too, is not known yet
    case State::yielded_seen: return link_ ? Stage::leaving : Stage::tcp;
  }
  return Stage::tcp;
}

bool Flow::eligible() const { return free_to_enter() && admitted(); }

bool Flow::admitted() const { return engine_.gate.admits(local_.port, remote_.port); }

bool Flow::free_to_enter() const {
  return selected_ && state_ == State::tcp && !settled_ && !leaving_ && !link_ && !close_due_ && !half_closed() && on_kernel();
}

bool Flow::kernel_follows() const {
  return (state_ == State::tcp || state_ == State::claimed) && !rest_out() && arrived_ == 0 && error_ == 0 && !dead_;
}

bool Flow::on_kernel() const { return kernel_follows() && rest_in() == 0; }

void Flow::settle(Reason reason) {
  if (settled_) return;
  settled_ = true;
  settled_for_ = reason;
  statistics.fell_back(reason);
  log::info("flow {} to {} stays on TCP: {}", to_string(local_), to_string(remote_), key(reason));
  engine_.settled(*this);
  tell_family();
}

// The library works on a duplicate of its own: the application may close or replace its descriptor at any time.
bool Flow::ensure_anchor() {
  if (!anchor_) {
    const auto copy = sys::duplicate_high(fd_);
    if (!copy) return false;
    anchor_ = UniqueFd(*copy);
  }
  if (!std::exchange(watched_, true)) {
    tcp_in_ready_ = tcp_out_ready_ = true;  // nobody looked
    engine_.watch(*this);
  }
  return true;
}

// The offsets that the cutover rests on are counted here; the kernel counts too. Where it knows of bytes that did not pass
// through us (a stdio stream, another process), the flow is not ours to move.
std::optional<Reason> Flow::unfit() const {
  constexpr int kTries = 8;
  if (asks_for_segments()) return Reason::unserved_call;
  tcp_info before{}, after{};
  for (int tries = 0; tries < kTries; ++tries) {
    socklen_t size = sizeof before;
    int unread = 0, unacknowledged = 0;
    if (!sys::getsockopt(shadow(), IPPROTO_TCP, TCP_INFO, &before, size) ||
        !sys::ioctl(shadow(), SIOCOUTQ, &unacknowledged) || !sys::ioctl(shadow(), FIONREAD, &unread))
      return Reason::link_failed;
    size = sizeof after;
    if (!sys::getsockopt(shadow(), IPPROTO_TCP, TCP_INFO, &after, size)) return Reason::link_failed;
    if (before.tcpi_bytes_acked != after.tcpi_bytes_acked) continue;  // an acknowledgement came in between
    // One end is shut already. The kernel reads the state before it takes the lock under which it reads the rest, so a FIN that
    // came in between counts as a byte received while the state is still the old one: the later state is asked too.
    if (before.tcpi_state != kEstablished || after.tcpi_state != kEstablished) return Reason::short_lived;
    // The SYN of a connecting end counts as one acknowledged byte.
    const auto sent = before.tcpi_bytes_acked + static_cast<uint64_t>(unacknowledged);
    const auto counted = raw_out_ + control_sent_;
    const bool sent_agrees = sent == counted || (role_ == Role::connector && sent == counted + 1);
    // More may have arrived between the questions: only bytes that somebody else took can make this larger.
    const auto taken = static_cast<int64_t>(before.tcpi_bytes_received) - unread;
    if (sent_agrees && taken <= static_cast<int64_t>(raw_in_ + control_in_)) return {};
    log::info("the kernel sent {} and gave {} bytes, we counted {} and {}", sent, taken, counted, raw_in_ + control_in_);
    return Reason::shared;
  }
  return {};  // a busy connection; nothing speaks against it
}

bool Flow::bind(Link& link) {
  auto ring = link.connection().allocate(engine_.settings.ring_min);
  if (!ring) return false;
  const auto slot = link.bind(*this);
  if (!slot) {
    link.connection().release(*ring);
    return false;
  }
  link_ = &link;
  link_lane_ = link.connection().lane();
  slot_ = *slot;
  rx_.begin(*ring);
  tx_ = {};
  expected_token_ = wire::make_token();
  learn_options();
  peer_slot_known_ = retired_ = peer_retired_ = frozen_ = ring_void_ = ring_counts_ = false;
  said_blocked_ = fin_sent_ = closed_told_ = peer_closed_ = salvaged_ = false;
  peer_left_ = aside_ = peer_aside_ = reset_due_ = waited_ = hurried_ = acknowledged_ = false;
  held_accept_.reset();
  held_confirm_.reset();
  fault_reason_ = Reason::link_failed;
  received_ = peer_received_ = 0;
  fin_.reset();
  held_in_.clear();
  held_out_.clear();
  return true;
}

// EPROTO: the peer has no such ring.
Status Flow::begin_sending(const wire::RingPlace& place) {
  if (place.size > engine_.settings.ring_max) return Errno{ENOMEM};
  const auto mirror = link_->connection().mirror(place);
  if (!mirror) return Errno{mirror.error()};
  tx_.begin(*mirror, place);
  own_offset_ = raw_out_;
  return Done{};
}

void Flow::claim(Link& link) {
  if (!eligible()) return;
  tried.insert(link.id());
  if (const auto reason = unfit()) return settle(*reason);
  if (!ensure_anchor()) return settle(Reason::descriptors);
  if (!bind(link)) return settle(Reason::locked_memory);
  link.note_claim();
  apply(Event::claim_wanted);
  engine_.in_cutover(*this);
}

bool Flow::claimed(Link& link, const wire::Claim& claim) {
  if (!eligible()) return false;
  if (const auto reason = unfit()) return settle(*reason), false;
  if (!ensure_anchor()) return settle(Reason::descriptors), false;
  if (!bind(link)) return settle(Reason::locked_memory), false;
  if (const auto begun = begin_sending(claim.ring); !begun) {
    if (begun.is(EPROTO)) return link.protocol_fault("a ring that is not there"), false;
    retired_ = peer_retired_ = true;
    release_link();
    return settle(Reason::locked_memory), false;
  }
  peer_slot_ = claim.from;
  peer_slot_known_ = true;
  shown_token_ = claim.token;
  engine_.settled(*this);
  apply(Event::claim_received);
  return true;
}

bool Flow::handle(const wire::Accept& accept) {
  if (peer_slot_known_) return false;
  link_->note_answer();
  peer_slot_ = accept.from;
  peer_slot_known_ = true;
  if (state_ != State::claimed) {  // given up meanwhile; C has to hear of it
    leave_link(false);
    return true;
  }
  held_accept_ = accept;
  go_on();
  return true;
}

// What is unread in front of a token can only be brought out of TCP to reach the token, and is in no kernel any more: whoever gets the
// descriptor from this program then would miss it. So an end goes on with its cutover when its program has read all that comes before
// the lane, unless something waits behind that, for the peer or for the program.
bool Flow::waits_for_reader(uint64_t boundary) const {
  return raw_in_ < boundary && !hurried_ && !half_closed() && low_water_ == 1 && tx_.written() == 0;
}

void Flow::go_on() {
  if (held_accept_ && state_ == State::claimed && !waits_for_reader(held_accept_->offset) && !confirm(*std::exchange(held_accept_, {})))
    return link_->protocol_fault("a ring that is not there");
  if (!held_confirm_ || state_ != State::accepted || waits_for_reader(held_confirm_->offset)) return;
  peer_offset_ = std::exchange(held_confirm_, {})->offset;
  apply(Event::confirm_received, {.past_boundary = raw_in_ > peer_offset_});
}

void Flow::look_further() {
  if (rx_.landed_total() == 0) return;
  hurried_ = true;
  go_on();
}

// False if the peer has no such ring.
bool Flow::confirm(const wire::Accept& accept) {
  const bool going = tcp_shut_ || closing_;
  const auto begun = going ? Status(Errno{EPIPE}) : begin_sending(accept.ring);
  if (begun.is(EPROTO)) return false;
  if (!begun) {
    apply(Event::fault);
    if (!going) settle(Reason::locked_memory);
    return true;
  }
  shown_token_ = accept.token;
  peer_offset_ = accept.offset;
  apply(Event::accept_received, {.past_boundary = raw_in_ > accept.offset});
  return true;
}

bool Flow::handle(const wire::Decline& decline) {
  if (peer_slot_known_) return false;
  link_->note_answer();
  if (state_ == State::claimed) apply(Event::declined);
  peer_retired_ = retired_ = true;
  release_link();
  if (closing_) return advance_close(), true;
  switch (decline.cause) {
    case wire::DeclineCause::unknown_flow: engine_.declined(*this); break;
    case wire::DeclineCause::resources: not_served(Reason::peer_declined); break;
    case wire::DeclineCause::unwilling: not_now(); break;
  }
  return true;
}

bool Flow::handle(const wire::Confirm& confirm) {
  held_confirm_ = confirm;
  go_on();
  if (holds_back()) engine_.in_cutover(*this);
  return true;
}

bool Flow::handle(const wire::ConfirmAck&) {
  // Never expected by the connecting end, nor before it accepted; on the way back it is only late.
  if (role_ != Role::acceptor || !peer_slot_known_) return false;
  acknowledged_ = true;
  if (state_ != State::tcp) apply(Event::ack_received);
  return true;
}

bool Flow::handle(const wire::Retire& retire) {
  if (peer_retired_ || !peer_slot_known_) return false;
  peer_retired_ = true;
  const Change change(*this);
  // As long as the application may read, what is in the ring is its own.
  const bool finished = retire.finished && (closed_told_ || aborting_);
  // C acknowledges before it shows its token: it has shown none, and will not. That is what raw bytes in its place would tell.
  const bool gave_up = !acknowledged_ && (state_ == State::confirmed || state_ == State::yielded);
  if (!finished && !peer_closed_ && state_ != State::tcp && state_ != State::broken)
    apply(gave_up ? Event::raw_seen : Event::fault);
  leave_link(false);
  release_link();
  advance_close();
  return true;
}

void Flow::apply(Event event, flow::Facts facts) {
  const Change change(*this);
  const auto before = state_;
  const auto next = flow::step(state_, event, facts);
  state_ = next.state;
  mind_low_water();
  time_way_back(before);
  log::debug("flow {} to {}: {} in {} gives {}", to_string(local_), to_string(remote_), flow::name(event),
             flow::name(before), flow::name(state_));
  if (event == Event::token_seen) {
    ring_counts_ = true;
    if (!frozen_) take_held();
  }
  applying_ = true;
  for (const auto action : next.actions) act(action);
  flush();  // not before the last: a stream whose end was said ends behind what is sent again
  applying_ = false;
  if (link_failure_) link_failed(*std::exchange(link_failure_, {}));
  if (state_ == State::lane && furthest_ == Lane::tcp) {
    furthest_ = link_lane_;  // there may be no link any more: the peer entered, closed, and is heard of before its token
    statistics.flows[Lane::tcp].count.fetch_sub(1, std::memory_order_relaxed);
    statistics.flows[furthest_].add();
  }
  if (state_ == State::lane && before != State::lane) {
    if (been_in_lane_) statistics.reentries.add();
    been_in_lane_ = true;
    entered_ = now();
    log::info("flow {} to {} is in its lane", to_string(local_), to_string(remote_));
  }
  if (state_ != before && (state_ == State::accepted || state_ == State::confirmed || state_ == State::yielded))
    engine_.in_cutover(*this);
  if (frozen_ || state_ == State::tcp) leave_link(false);
  if (state_ == State::lane) pump();
  if (state_ == State::tcp && before != State::tcp) {
    fin_.reset();
    if (read_shut_) (void)sys::shutdown(shadow(), SHUT_RD);
    held_in_.clear();
    if (before != State::claimed)
      returned();
    else if (leaving_)
      settle(leave_reason_);
  }
  tell_family();
  advance_close();
  stop_watching();
  if (state_ == State::lane) advance_reset();
  if (state_ == State::shown_resuming && before != state_) pump_tcp();  // see take_raw()
}

// Raw again both ways. Unless somebody wanted that, a lane is looked for once more.
void Flow::returned() {
  const bool aside = aside_ || peer_aside_;
  const auto reason = leaving_ ? leave_reason_ : peer_left_ ? Reason::peer_left : aside ? Reason::by_operator : fault_reason_;
  if (const auto entered = std::exchange(entered_, {})) {
    statistics.returned(reason);
    if (now() - *entered > kSteady) tries_ = pauses_ = 0;
  }
  if (leaving_ || peer_left_ || half_closed()) return settle(reason);
  lost_lane_ = true;
  log::info("flow {} to {} is back on TCP: {}", to_string(local_), to_string(remote_), key(reason));
  if (!aside) return not_served(reason);
  // Nothing failed, so nothing is counted. At the end whose gate is shut, the operator's next word begins the search.
  pauses_ = 0;
  if (admitted()) engine_.again(*this);
}

void Flow::not_served(Reason reason) {
  ++pauses_;
  if (!comes_back(reason)) ++tries_;
  if (!lost_lane_ || tries_ > kMostTries) return settle(reason);
  engine_.again(*this);
}

void Flow::not_now() {
  ++pauses_;
  engine_.again(*this);
}

Duration Flow::pause() const {
  constexpr int kMostDoublings = 6;
  const auto pause = std::min<Duration>(kFirstPause * (1 << std::clamp(pauses_ - 1, 0, kMostDoublings)), kLongestPause);
  return role_ == Role::connector ? pause / 2 : pause;  // its point should be there when it is dialled
}

// For the statistics: how long the way back takes.
void Flow::time_way_back(State before) {
  if (state_ == before) return;
  if (before == State::lane) returning_since_ = now();
  if (state_ != State::tcp || returning_since_ == Time{}) return;
  statistics.way_back.add(now() - returning_since_);
  returning_since_ = {};
}

// While the kernel serves it alone, its bytes are no business of the service's. Nor is a connection that is no more: what has come of
// it is known, and would be an edge too many if it were told again.
void Flow::stop_watching() {
  if (!anchor_ || closing_ || state_ != State::tcp || link_ || !watched_ || !kernel_follows()) return;
  if (rest_in() > 0 && !(sys::readiness(shadow()) & EPOLLHUP)) return;
  watched_ = false;
  engine_.unwatch(*this);
}

void Flow::act(Action action) {
  switch (action) {
    case Action::none: return;
    case Action::send_claim:
      return link_->send(wire::Claim{slot_, remote_, local_, rx_.place(), expected_token_});
    case Action::send_accept:
      return link_->send(wire::Accept{peer_slot_, slot_, rx_.place(), expected_token_, own_offset_});
    case Action::send_confirm: return link_->send(wire::Confirm{peer_slot_, own_offset_});
    case Action::send_ack: return link_->send(wire::ConfirmAck{peer_slot_});
    case Action::show_token:
      control_out_.insert(control_out_.end(), shown_token_.begin(), shown_token_.end());
      return;
    case Action::void_received:
      ring_void_ = true;
      freeze();
      return;
    case Action::send_resume: {
      freeze();
      const auto kind = leaving_ ? wire::FrameKind::leave : aside_ ? wire::FrameKind::aside : wire::FrameKind::resume;
      const auto frame = wire::encode(shown_token_, {kind, ring_void_ ? 0 : received_});
      control_out_.insert(control_out_.end(), frame.begin(), frame.end());
      return;
    }
    case Action::resend_all: return resend(0);
    case Action::resend_rest: return resend(peer_received_);
    case Action::reset: return fail(ECONNRESET);
  }
}

// Takes out of the rings all that may still be needed, in both directions. What lands later does not count. What landed and was
// not read comes again on TCP, where the kernel's own calls find it; ours is for the case that the connection dies before.
void Flow::freeze() {
  if (!frozen_) {
    frozen_ = true;
    received_ = rx_.consumed_total();
    // Without a link the memory is gone, and the peer had taken all it wanted.
    held_out_from_ = link_ ? tx_.consumed_total() : tx_.written();
    held_out_.resize(tx_.written() - held_out_from_);
    if (link_) tx_.copy_from(held_out_from_, held_out_);
    if (read_shut_ && write_shut_ && ring_counts_ && link_ && !salvaged_) {
      // They are not to be sent again: the kernel answers bytes for a socket that was shut both ways by RST.
      copy_unread(rest_in_);
      received_ = rx_.landed_total();
    } else if (!ring_void_ && !salvaged_) {
      copy_unread(held_in_);
    }
  }
  if (ring_void_) held_in_.clear();
}

void Flow::resend(uint64_t from) {
  freeze();
  const auto end = held_out_from_ + held_out_.size();
  if (from < held_out_from_ || from > end) return fail(ECONNRESET);
  const auto skip = static_cast<std::ptrdiff_t>(from - held_out_from_);
  rest_out_.assign(held_out_.begin() + skip, held_out_.end());
  rest_out_at_ = 0;
  held_out_.clear();
}

// Tells the peer that this end is done with its slot, once; the peer's own word makes both ends forget the binding.
void Flow::leave_link(bool finished) {
  if (!link_ || retired_ || !peer_slot_known_) return;
  retired_ = true;
  link_->send(wire::Retire{peer_slot_, finished});
  release_link();
}

void Flow::release_link() {
  if (!link_ || (link_->alive() && !(retired_ && peer_retired_))) return;
  auto& connection = link_->connection();
  link_->forget(*this);
  if (link_->alive()) {
    while (const auto block = rx_.take_current()) connection.release(block);
    if (const auto block = rx_.take_offered()) connection.release(block);
    while (const auto block = tx_.take_current()) connection.release_mirror(block);
  }
  link_->free(slot_);
  link_ = nullptr;
}

void Flow::give_up() {
  const auto before = state_;
  hurried_ = true;
  go_on();
  if (state_ != before) return;
  if (state_ == State::yielded) {
    // Either C's token is on its way, or C has given up long since, and may have nothing to send by which that could be seen.
    waited_ = true;
    if (closing_) write_shut_ = true;
    flush();
    return;
  }
  if (state_ == State::accepted || state_ == State::confirmed) apply(Event::fault);
  // Nobody has ever answered there: the flow's own end may be elsewhere at that address, and still wait to be found.
  if (state_ == State::claimed && !closing_ && !link_->answered()) return link_->fail(Reason::link_failed);
  if (!closing_ || finished_ || !link_) return;
  // The application has gone, and the peer does not answer the claim: its end of the stream must not wait for that.
  if (!peer_slot_known_) return link_->fail(Reason::link_failed);
  // A peer says RETIRE before it lets go of the connection. One that never does would keep ring and descriptor for ever. It may have been
  // said, and nobody looked: this process was stopped.
  const bool late = std::exchange(peer_over_, tcp_over()) && engine_.drain();
  if (finished_ || !link_) return;
  if (late) return link_->protocol_fault("a slot that is never given back");
  engine_.in_cutover(*this);
}

// The peer's end of the TCP connection is no more.
bool Flow::tcp_over() const {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (!sys::getsockopt(shadow(), IPPROTO_TCP, TCP_INFO, &info, size)) return true;
  return info.tcpi_state != kEstablished && info.tcpi_state != kFinWait1 && info.tcpi_state != kFinWait2;
}

void Flow::leave(Reason reason) {
  if (leaving_ || settled_) return;
  leaving_ = true;
  leave_reason_ = reason;
  if (state_ == State::tcp) return settle(reason);
  if (over()) return end_on_kernel();
  apply(Event::fault);
}

void Flow::step_aside() {
  if (leaving_ || settled_ || over() || state_ == State::tcp) return;
  aside_ = true;
  apply(Event::fault);
}

void Flow::link_failed(Reason reason) {
  log::info("flow {} to {} loses its link: {}", to_string(local_), to_string(remote_), key(reason));
  if (applying_) {
    link_failure_ = reason;
    return;
  }
  const Change change(*this);
  fault_reason_ = reason;
  const bool was_claimed = state_ == State::claimed;
  const bool over = peer_closed_ || state_ == State::tcp || state_ == State::broken;
  if (over)
    freeze();
  else
    apply(Event::fault);
  if (link_) release_link();
  if (was_claimed && eligible()) engine_.declined(*this);
  advance_close();
}

}  // namespace rsock::engine
