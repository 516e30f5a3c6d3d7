// The shadow socket: raw bytes, tokens and frames. The kernel's readiness is remembered in two flags, which the service's
// edge-triggered watch sets and an EAGAIN clears.

#include <sys/ioctl.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/log.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/flow.hpp"

namespace rsock::engine {

using flow::Event;
using flow::Receives;
using flow::State;

namespace {

// The first `most` bytes of some pieces, after `skip`. Few are kept on the stack, which may be a small one.
class Cut {
 public:
  Cut(std::span<const iovec> from, size_t skip, uint64_t most) {
    if (from.size() > kFew) many_.resize(from.size());
    auto* to = many_.empty() ? few_.data() : many_.data();
    for (const auto& piece : from) {
      if (most == 0) break;
      if (skip >= piece.iov_len) {
        skip -= piece.iov_len;
        continue;
      }
      const auto length = std::min<uint64_t>(piece.iov_len - skip, most);
      to[count_++] = {static_cast<char*>(piece.iov_base) + skip, static_cast<size_t>(length)};
      skip = 0;
      most -= length;
    }
  }
  msghdr message() {
    msghdr message{};
    message.msg_iov = many_.empty() ? few_.data() : many_.data();
    message.msg_iovlen = count_;
    return message;
  }

 private:
  static constexpr size_t kFew = 16;
  std::array<iovec, kFew> few_;
  std::vector<iovec> many_;
  size_t count_ = 0;
};

}  // namespace

// What the shadow socket's readiness means to the application: nothing where its bytes go by the lane.
uint32_t Flow::heard_by_application(uint32_t tcp_events) const {
  constexpr uint32_t kOut = EPOLLOUT;
  return tcp_events & ((reads_raw() ? ~kOut : 0u) | (flow::sends(state_) == flow::Sends::raw ? kOut : 0u));
}

void Flow::tcp_ready(uint32_t events) {
  if (!watched_) return;  // the service was told before that ended
  const Change change(*this);
  if (events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) tcp_in_ready_ = true;
  if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) tcp_out_ready_ = true;
  if (rest_out()) flush();
  pump_tcp();
  end_on_kernel();
  tell_family();
  advance_close();
  stop_watching();
  changed(heard_by_application(events));
}

// Takes off TCP what is not the application's.
void Flow::pump_tcp() {
  while (!finished_) {
    switch (flow::receives(state_)) {
      case Receives::raw:
      case Receives::nothing: return;
      case Receives::raw_to_boundary:
        closing_ ? discard_raw() : take_raw();
        if (boundary_left() > 0 || !read_token()) return;
        break;
      case Receives::frames:
        if (!read_frame()) return;
        break;
    }
  }
}

// Collects `whole` bytes of a token or frame; how many are there by now. An end of the stream is dealt with here.
Result<size_t> Flow::arrive(size_t whole) {
  if (tcp_eof_) return Errno{EAGAIN};
  if (peer_closed_ && tcp_at_end()) {  // its error is the program's, should the flow end there
    tcp_ended(0);
    return Errno{EAGAIN};
  }
  const auto got = sys::recv(shadow(), arriving_.data() + arrived_, whole - arrived_, MSG_DONTWAIT);
  if (got.is(EAGAIN)) tcp_in_ready_ = false;
  if (got.is(EAGAIN) || got.is(EINTR)) return Errno{EAGAIN};
  if (!got || *got == 0) {
    tcp_ended(got.error());
    return Errno{EAGAIN};
  }
  arrived_ += *got;
  control_in_ += *got;
  return arrived_;
}

bool Flow::read_token() {
  const bool urgent = sys::at_urgent_mark(shadow());  // which no token is, and a read would step over it
  if (!urgent && !arrive(wire::kTokenSize)) return false;
  if (urgent || std::memcmp(arriving_.data(), expected_token_.data(), arrived_) != 0) {
    const auto* bytes = reinterpret_cast<const std::byte*>(arriving_.data());
    rest_in_.insert(rest_in_.end(), bytes, bytes + arrived_);
    raw_in_ += arrived_;
    control_in_ -= std::exchange(arrived_, 0);
    apply(Event::raw_seen);
    return true;
  }
  if (arrived_ < wire::kTokenSize) return false;
  arrived_ = 0;
  const auto sent_raw = raw_out_ > own_offset_ || !rest_out_.empty();
  apply(Event::token_seen, {.raw_sent = sent_raw});
  return true;
}

bool Flow::read_frame() {
  if (!arrive(wire::kFrameSize)) return false;
  if (arrived_ < wire::kFrameSize) return true;
  arrived_ = 0;
  const auto frame = wire::decode_frame(arriving_, expected_token_);
  if (!frame) {
    log::warning("flow {} to {}: bytes on TCP where only frames may be", to_string(local_), to_string(remote_));
    fail(ECONNRESET);
    return false;
  }
  peer_received_ = frame->value;
  peer_left_ = frame->kind == wire::FrameKind::leave;
  peer_aside_ = frame->kind == wire::FrameKind::aside;
  apply(Event::resume_received);
  return true;
}

// The connection ended while its bytes were in a lane, or on the way there or back. Without the peer's FIN it died; but what it
// put on the link before may still be on its way to us.
void Flow::tcp_ended(int error) {
  tcp_in_ready_ = false;
  engine_.drain();
  tcp_eof_ = true;
  // What was on its way may have been the last that a closed flow waited for.
  if (finished_ || state_ == State::tcp || state_ == State::broken || peer_closed_) return;
  if (!error && ended_instead()) {
    const Change change(*this);
    tcp_in_ready_ = true;  // the end is there to be read
    apply(state_ == State::accepted ? Event::fault : Event::raw_seen);
    return;
  }
  if (!fin_) return fail(error ? error : ECONNRESET);
  const Change change(*this);
  // It had ended its stream; what it will no longer take is for our writes to find out.
  peer_closed_ = true;
  salvage();
  if (state_ != State::lane) state_ = State::broken;
  leave_link(false);
  advance_close();
}

// The peer's program ended its stream on TCP, in order: the peer had given up the cutover before, or never began it, and had nothing to
// send again. Then nothing of it is, or was, in a ring.
bool Flow::ended_instead() const {
  if (rx_.landed_total() > 0) return false;
  const bool at_boundary = boundary_left() == 0 && arrived_ == 0;
  return state_ == State::accepted || ((state_ == State::confirmed || state_ == State::yielded) && at_boundary);
}

Result<size_t> Flow::read_raw(std::span<const iovec> to, size_t at, uint64_t most, bool peek) {
  Cut pieces(to, at, most);
  auto message = pieces.message();
  return taken_raw(sys::recvmsg(shadow(), message, MSG_DONTWAIT | (peek ? MSG_PEEK : 0)), peek);
}

Result<size_t> Flow::drop_raw(size_t room, bool peek) {
  return taken_raw(sys::recv(shadow(), nullptr, room, MSG_TRUNC | MSG_DONTWAIT | (peek ? MSG_PEEK : 0)), peek);
}

// Of what the kernel answered to a read.
Result<size_t> Flow::taken_raw(Result<size_t> got, bool peek) {
  if (!got) {
    if (got.is(EAGAIN)) tcp_in_ready_ = false;
    return got;
  }
  if (*got > 0) {
    if (!peek) {
      statistics.bytes_in[Lane::tcp].add(*got);
      count_in(*got);
    }
    return got;
  }
  // A claim may have been answered already: then this is no clean end.
  if (state_ == State::claimed) engine_.drain();
  if (state_ == State::claimed) apply(Event::fault);
  if (state_ != State::tcp) tcp_ended(0);
  if (state_ != State::tcp) return Errno{EAGAIN};
  tcp_eof_ = true;
  return size_t{0};
}

Result<size_t> Flow::read_nothing(bool to_bad_place, bool peek) {
  auto* const nowhere = reinterpret_cast<void*>(uintptr_t{1});
  return sys::recv(shadow(), nowhere, to_bad_place ? 1 : 0, MSG_DONTWAIT | (peek ? MSG_PEEK : 0));
}

Result<size_t> Flow::write_raw(std::span<const iovec> from, size_t skip) {
  Cut pieces(from, skip, UINT64_MAX);
  const auto sent = sys::sendmsg(shadow(), pieces.message(), MSG_DONTWAIT | MSG_NOSIGNAL | (corked_ ? MSG_MORE : 0));
  if (sent.is(EAGAIN)) tcp_out_ready_ = false;
  if (sent) {
    raw_out_ += *sent;
    statistics.bytes_out[Lane::tcp].add(*sent);
  }
  return sent;
}

// Sends what must go before anything else: token and frames, then bytes that left a ring, then the end of the stream.
bool Flow::flush() {
  while (!control_out_.empty()) {
    const auto sent = sys::send(shadow(), control_out_.data(), control_out_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent.is(EAGAIN)) return tcp_out_ready_ = false;
    if (!sent) return false;  // the end of the stream tells what became of it
    control_sent_ += *sent;
    control_out_.erase(control_out_.begin(), control_out_.begin() + static_cast<std::ptrdiff_t>(*sent));
  }
  while (rest_out_at_ < rest_out_.size()) {
    const auto sent = sys::send(shadow(), rest_out_.data() + rest_out_at_, rest_out_.size() - rest_out_at_,
                                MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent.is(EAGAIN)) return tcp_out_ready_ = false;
    if (!sent) return false;
    rest_out_at_ += *sent;
    raw_out_ += *sent;
  }
  rest_out_.clear();
  rest_out_at_ = 0;
  // Not while yielded, unless C has had its time: if it is in `shown`, an end of the stream where a token may stand is a death to it.
  if (write_shut_ && !tcp_shut_ && flow::sends(state_) == flow::Sends::raw && (state_ != State::yielded || waited_)) {
    tcp_shut_ = true;
    (void)sys::shutdown(shadow(), SHUT_WR);
  }
  return true;
}

// Asks without taking anything: a look at the bytes would also take a pending error. What the service has not heard of is not there
// yet: all who wait are told of it when it has.
uint32_t Flow::tcp_input() {
  const auto there = tcp_in_ready_ ? sys::readiness(shadow()) & (EPOLLIN | EPOLLPRI) : 0;
  tcp_in_ready_ = there != 0;
  return there;
}

void Flow::catch_up() {
  const auto source = flow::receives(state_);
  const bool raw = source == Receives::raw || source == Receives::raw_to_boundary;
  if (!raw || tcp_in_ready_ || on_kernel()) return;
  if (const auto ready = sys::readiness(shadow()) & (EPOLLIN | EPOLLPRI)) tcp_ready(ready);
}

// What is in front of the token, if it is little: the lane's bytes come after it, and a program that looks for more than it has
// (MSG_PEEK, FIONREAD, SO_RCVLOWAT) may wait for those before it takes any. All of it, if nothing may be sent before the peer's word,
// which comes behind it, is read: a program may read no further before it has written.
void Flow::take_raw() {
  constexpr size_t kMost = 64 << 10;
  const bool mute = flow::sends(state_) == flow::Sends::nothing;
  while (boundary_left() > 0 && (mute || boundary_left() <= kMost) && tcp_in_ready_) {
    std::byte piece[4096];
    const iovec to{piece, sizeof piece};
    const auto got = read_raw({&to, 1}, 0, boundary_left(), false);
    if (!got || *got == 0) return;
    if (rest_in() == 0) rest_in_raw_ = 0;
    if (rest_in() == rest_in_raw_) rest_in_raw_ += *got;
    rest_in_.insert(rest_in_.end(), piece, piece + *got);
  }
}

// The application has closed: nobody will read what is left before the token.
void Flow::discard_raw() {
  std::byte sink[4096];
  const iovec to{sink, sizeof sink};
  while (!finished_ && flow::receives(state_) == Receives::raw_to_boundary && boundary_left() > 0)
    if (const auto got = read_raw({&to, 1}, 0, boundary_left(), false); !got || *got == 0) return;
}

}  // namespace rsock::engine
