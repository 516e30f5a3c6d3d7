// How a flow ends: half, whole, by an error, in order or not.

#include <sys/ioctl.h>
#include <sys/socket.h>

#include <utility>

#include "core/base/log.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/flow.hpp"
#include "core/engine/link.hpp"

namespace rsock::engine {

using flow::Event;
using flow::Sends;
using flow::State;

Flow::Flow(Engine& engine, uint64_t id, Role role, int fd) : engine_(engine), id_(id), role_(role), fd_(fd) {}

void Flow::select(Lanes lanes) {
  selected_ = true;
  wanted = lanes;
  statistics.flows[Lane::tcp].add();
}

Flow::~Flow() = default;

void Flow::unobserve(Observer& observer) { std::erase(observers_, &observer); }

void Flow::changed(uint32_t what) {
  if (observers_.size() == 1) return observers_.front()->flow_changed(*this, what);
  // An observer may go while it is told.
  const auto observers = observers_;
  for (auto* observer : observers) observer->flow_changed(*this, what);
}

Flow::Change::~Change() {
  if (flow_.observers_.empty()) return;
  const auto came = flow_.readiness() & ~before_;
  flow_.changed(came & (EPOLLRDHUP | EPOLLHUP | EPOLLERR) ? kAnything : came);
}

int Flow::take_error() {
  if (!error_) return 0;
  dead_ = true;
  return std::exchange(error_, 0);
}

Status Flow::shutdown(int how) {
  if (error_ || dead_ || both_ended()) {
    shut_past_end_ = true;
    changed();  // the kernel, too, wakes those who wait
    return Errno{ENOTCONN};
  }
  settle_connect();
  if (how == SHUT_RD || how == SHUT_RDWR) read_shut_ = true;
  if ((how == SHUT_WR || how == SHUT_RDWR) && !write_shut_) {
    write_shut_ = true;
    if (flow::sends(state_) == Sends::ring)
      pump();
    else
      flush();
  }
  go_on();
  if (write_shut_) end_waits();
  changed();
  return Done{};
}

void Flow::kernel_shut() {
  tcp_shut_ = true;
  go_on();
  for (auto* observer : observers()) observer->flow_shut(*this);
}

// The end of the stream is said in the lane, which the peer may not be ready for.
void Flow::end_waits() {
  if (state_ == State::accepted || state_ == State::confirmed) say_blocked();
}

// For the kernel, a connect(2) that did not wait is over with the next one, or with a shutdown. This is no shutdown yet.
void Flow::settle_connect() {
  if (role_ != Role::connector || (sys::readiness(shadow()) & EPOLLHUP)) return;
  sockaddr_storage address;
  (void)sys::connect(shadow(), reinterpret_cast<const sockaddr*>(&address), rsock::write(remote_, address));
}

void Flow::dissolved() {
  if (!kernel_follows() || rest_in() == 0 || !read_nothing(false, true).is(ENOTCONN)) return;
  rest_in_.clear();
  rest_in_at_ = rest_in_raw_ = 0;
}

// The end of the stream is a record in the ring, after its last byte. Said once for the sending half, and once more when the
// application has closed: from then on it takes nothing either.
// A close that is no end of the stream but an abort is a RESET, and nothing comes after it.
void Flow::send_end() {
  if (!link_ || retired_ || frozen_ || state_ != State::lane || peer_closed_ || aborting_) return;
  if (closing_ && abort_due_) {
    abort();
  } else if (tx_.unposted() > 0) {
    return;
  } else if (closing_ && !closed_told_) {
    closed_told_ = fin_sent_ = true;
    link_->send(wire::Fin{peer_slot_, tx_.written(), true});
  } else if (write_shut_ && !fin_sent_) {
    fin_sent_ = true;
    link_->send(wire::Fin{peer_slot_, tx_.written(), false});
  }
}

// FIN and RESET come from a peer in `lane`, which has seen our token.
bool Flow::peer_may_end() const {
  return state_ == State::shown || state_ == State::lane || state_ == State::broken;
}

bool Flow::handle(const wire::Fin& fin) {
  if (frozen_) return true;
  if (!peer_may_end() || peer_closed_ || (fin_ && (*fin_ != fin.total || !fin.closed))) return false;
  if (!closing_ && fin.total != rx_.landed_total()) return false;
  const Change change(*this);
  if (!fin_ && state_ == State::lane) changed();  // also where its end shows nothing new
  fin_ = fin.total;
  peer_closed_ = fin.closed;
  if (peer_closed_) {
    salvage();
    leave_link(true);
  }
  advance_close();
  return true;
}

bool Flow::handle(const wire::Reset&) {
  if (frozen_) return true;
  if (!peer_may_end()) return false;
  reset_due_ = true;
  advance_reset();
  return true;
}

// The stream ends by RST. Who says so, or has closed, has put its token on TCP, behind bytes that come before those of the ring. Neither
// is lost because the link was faster.
void Flow::advance_reset() {
  if (reset_due_ && state_ == State::shown) pump_tcp();
  if (state_ == State::shown || !std::exchange(reset_due_, false)) return;
  if (!wrote_past_end_) provoke_reset();  // before the peer hears that it may close: an error that is there would be taken
  reset_by_peer();
}

void Flow::abort() {
  aborting_ = true;
  link_->send(wire::Reset{peer_slot_});
}

// The peer's kernel answers bytes for a connection that was closed, or shut both ways, by RST, which ends this side's as well.
void Flow::provoke_reset() {
  const char any = 0;
  (void)sys::send(shadow(), &any, sizeof any, MSG_DONTWAIT | MSG_NOSIGNAL);
}

// The peer's end has come by TCP, too, and nothing before it is left there. Asks without taking a pending error.
bool Flow::tcp_at_end() const {
  int unread = 0;
  if (!sys::ioctl(shadow(), FIONREAD, &unread)) return true;
  return unread == 0 && (sys::readiness(shadow()) & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
}

// A flow whose peer has gone cannot come back to TCP as others do. But its peer ends the TCP connection, too, in the manner in which
// it ended the flow; so once that has arrived the kernel knows what is true, and gives it to the calls that reach it. What was left
// unread is kept in front.
void Flow::end_on_kernel() {
  if (!peer_closed_ || closing_ || finished_ || (state_ != State::lane && state_ != State::broken) || !tcp_at_end()) return;
  if (std::exchange(wrote_past_end_, false) && !(sys::readiness(shadow()) & EPOLLHUP)) provoke_reset();
  if (!leaving_) return;
  const auto seen = sys::readiness(shadow());
  if (state_ == State::broken && !(seen & EPOLLHUP)) return;
  const Change change(*this);
  // Where the program has had the error, or is not to have one, the kernel's is none either.
  if (dead_ || both_ended()) {
    int taken = 0;
    socklen_t size = sizeof taken;
    (void)sys::getsockopt(shadow(), SOL_SOCKET, SO_ERROR, &taken, size);
  }
  if (state_ == State::lane) {
    if (read_shut_) (void)sys::shutdown(shadow(), SHUT_RD);
    if (write_shut_) (void)sys::shutdown(shadow(), SHUT_WR);
  }
  if (shut_past_end_) (void)sys::shutdown(shadow(), SHUT_RDWR);
  salvage();
  state_ = State::tcp;
  tcp_eof_ = tcp_shut_ = true;
  peer_closed_ = dead_ = false;
  error_ = 0;
  fin_.reset();
  mind_low_water();
  leave_link(true);
  log::info("flow {} to {} has ended on TCP, too", to_string(local_), to_string(remote_));
  settle(leave_reason_);
  stop_watching();
}

// As the kernel on RST: an end that knew of the peer's FIN and did not send its own learns of it by EPIPE, and one whose both
// directions had ended does not learn of it.
void Flow::reset_by_peer() {
  peer_closed_ = true;
  salvage();
  leave_link(true);
  if (!both_ended()) return fail(fin_ ? EPIPE : ECONNRESET);
  advance_close();
  changed();
}

void Flow::close_when_free(bool hard) {
  if (held_ == 0) return close(hard);
  close_due_ = hard;
  // The calls go on by a descriptor of ours, since the number may soon be something else's.
  if (anchor_) return;
  if (const auto copy = sys::duplicate_high(fd_)) anchor_ = UniqueFd(*copy);
}

void Flow::release_hold() {
  if (--held_ == 0 && close_due_) close(*std::exchange(close_due_, {}));
}

void Flow::close(bool hard) {
  if (closing_ || letting_go_) return;
  if (share_ && share_->let_go()) return let_go();
  // Bytes that nobody will read make the kernel send RST in the place of FIN. Where all of them are the kernel's it does so by
  // itself, once the last descriptor is closed: others may have one.
  abort_due_ = !both_ended() && !on_kernel() && (hard || readable_bytes() > 0);
  closing_ = true;
  go_on();
  end_waits();
  if (selected_ && furthest_ == Lane::tcp && !settled_) {
    engine_.settled(*this);
    if (state_ == State::tcp) statistics.fell_back(Reason::short_lived);
  }
  observers_.clear();
  if (abort_due_) {
    close_hard();
    send_end();
  } else {
    pump();
  }
  advance_close();
  if (!finished_ && link_) engine_.in_cutover(*this);
}

void Flow::advance_close() {
  if (letting_go_ && !closing_ && (on_kernel() || over())) {
    tell_family();
    closing_ = true;
    if (!on_kernel()) state_ = State::broken;
  }
  if (!closing_ || finished_) return;
  switch (state_) {
    case State::claimed: return apply(Event::fault);
    case State::tcp:
    case State::broken:
      if (link_ && !retired_) leave_link(false);
      // A lost connection is reset at once; only the slot waits for the peer.
      if (state_ == State::broken) anchor_.reset(), fd_ = -1;
      if (link_ || (state_ == State::tcp && rest_out() && !flush() && !tcp_eof_)) return;
      return finish();
    case State::lane:
      if (!abort_due_) pump();
      send_end();
      if (!link_) finish();
      return;
    case State::accepted:
    case State::confirmed:
    case State::shown:
    case State::shown_resuming:
    case State::resuming:
    case State::yielded:
    case State::yielded_seen: return pump_tcp();  // the edge may have come and gone
  }
}

void Flow::copy_unread(std::vector<std::byte>& to) const {
  for (uint64_t done = 0; done < rx_.readable();)
    for (const auto& part : rx_.peek(done, rx_.readable() - done).parts) {
      to.insert(to.end(), part.begin(), part.end());
      done += part.size();
    }
}

void Flow::take_held() {
  rest_in_.insert(rest_in_.end(), held_in_.begin(), held_in_.end());
  held_in_.clear();
}

// Nothing comes again: unread ring bytes move to where the application finds them, if they are its own already.
void Flow::salvage() {
  if (link_ && !frozen_ && !salvaged_) {  // without a link the ring is gone, and nobody had a use for it
    copy_unread(held_in_);
    rx_.consume(rx_.readable());
    collect_memory();
  }
  if (ring_counts_) take_held();
  salvaged_ = true;
}

// The flow is lost. What arrived is still the application's, then it sees the error.
void Flow::fail(int error) {
  if (state_ == State::broken) return;
  const Change change(*this);
  log::info("flow {} to {} fails: errno {}", to_string(local_), to_string(remote_), error);
  salvage();
  state_ = State::broken;
  error_ = error;
  control_out_.clear();
  rest_out_.clear();
  rest_out_at_ = 0;
  close_hard();
  leave_link(peer_closed_);
  advance_close();
}

// The shadow socket is to end by RST.
void Flow::close_hard() {
  const linger hard{1, 0};
  if (anchor_) (void)sys::setsockopt(anchor_.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}

void Flow::finish() {
  finished_ = true;
  if (aborting_ && fin_sent_) (void)sys::shutdown(shadow(), SHUT_WR);  // to the peer's kernel, too, the end came before the reset
  if (link_) {
    link_->forget(*this);
    link_->free(slot_);
    link_ = nullptr;
  }
  anchor_.reset();
  fd_ = -1;
  engine_.forget(*this);
}

}  // namespace rsock::engine
