// The application's bytes: where they come from and where they go, and the rings while the flow is in a lane.

#include <sys/ioctl.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/engine/engine.hpp"
#include "core/engine/flow.hpp"
#include "core/engine/link.hpp"

namespace rsock::engine {

using flow::Receives;
using flow::Sends;
using flow::State;

namespace {

// While a work request of the flow is out, less than this waits for it and leaves together.
constexpr uint64_t kGather = 16 << 10;
constexpr uint32_t kGrowthFactor = 4;

uint64_t total(std::span<const iovec> pieces) {
  uint64_t sum = 0;
  for (const auto& piece : pieces) sum += piece.iov_len;
  return sum;
}

// Copies into the pieces from `at` on; the bytes that fitted.
size_t scatter(std::span<const std::byte> from, std::span<const iovec> to, size_t at) {
  size_t done = 0;
  if (from.empty()) return 0;  // memcpy takes no null pointer
  for (const auto& piece : to) {
    if (at >= piece.iov_len) {
      at -= piece.iov_len;
      continue;
    }
    const auto length = std::min(piece.iov_len - at, from.size() - done);
    std::memcpy(static_cast<char*>(piece.iov_base) + at, from.data() + done, length);
    done += length;
    at = 0;
    if (done == from.size()) break;
  }
  return done;
}

}  // namespace

bool Flow::at_end() const {
  return fin_ && rest_in() == 0 && (salvaged_ || (!frozen_ && rx_.consumed_total() == *fin_));
}

size_t Flow::read_rest(std::span<const iovec> to, bool peek) {
  const auto done = scatter({rest_in_.data() + rest_in_at_, rest_in()}, to, 0);
  if (peek) return done;
  rest_in_at_ += done;
  if (rest_in() == 0) rest_in_.clear(), rest_in_at_ = 0;
  const auto raw = std::min(done, rest_in_raw_);
  rest_in_raw_ -= raw;
  statistics.bytes_in[furthest_].add(done - raw);
  return done;
}

// After SHUT_RD what is there, and what still comes, can be read; only nothing is waited for.
Result<size_t> Flow::read(std::span<const iovec> to, bool peek) {
  const auto got = read_any(to, peek);
  return got.is(EAGAIN) && read_shut_ ? Result<size_t>(size_t{0}) : got;
}

Result<size_t> Flow::read_any(std::span<const iovec> to, bool peek) {
  for (;;) {
    if (rest_in() > 0) {
      const auto got = read_rest(to, peek);
      return got + read_ring(to, got, peek) + read_behind(to, got, peek);
    }
    if (state_ == State::broken) return read_end();
    const auto before = state_;
    switch (flow::receives(state_)) {
      case Receives::raw: {
        const auto got = read_raw(to, 0, UINT64_MAX, peek);
        if (got || state_ == before) return got;
        break;
      }
      case Receives::raw_to_boundary:
        if (boundary_left() > 0) {
          const auto got = read_raw(to, 0, boundary_left(), peek);
          if (boundary_left() == 0) pump_tcp();
          if (got || state_ == before) return got;
          break;
        }
        pump_tcp();
        if (state_ == before) return Errno{EAGAIN};
        break;
      case Receives::frames:
        if (const auto got = read_ring(to, 0, peek)) return got;
        if (state_ == State::resuming) pump_tcp();
        if (state_ != before) break;
        return read_end();
      case Receives::nothing: return size_t{0};
    }
  }
}

// What comes after the last byte, in the kernel's order: the peer's end of the stream, an error, the end that was made by shutdown.
Result<size_t> Flow::read_end() {
  if (at_end()) return size_t{0};
  if (error_) {
    dead_ = true;
    return Errno{std::exchange(error_, 0)};
  }
  if (dead_ || read_shut_) return size_t{0};
  return Errno{EAGAIN};
}

// What TCP has already of the bytes that follow those in front of it. Its end and its error are for the next read.
size_t Flow::read_behind(std::span<const iovec> to, size_t at, bool peek) {
  const auto source = flow::receives(state_);
  const auto most = source == Receives::raw ? UINT64_MAX : source == Receives::raw_to_boundary ? boundary_left() : 0;
  int there = 0;
  if (most == 0 || total(to) <= at || !sys::ioctl(shadow(), FIONREAD, &there) || there == 0 || at_urgent_mark()) return 0;
  const auto got = read_raw(to, at, most, peek);
  return got ? *got : 0;
}

// A read that has taken something ends there.
bool Flow::at_urgent_mark() const {
  return flow::receives(state_) == Receives::raw && sys::at_urgent_mark(shadow());
}

size_t Flow::read_ring(std::span<const iovec> to, size_t at, bool peek) {
  if (ring_in() == 0) return 0;
  size_t done = 0;
  const auto asked = total(to) - at;
  while (done < asked && rx_.readable() > (peek ? done : 0)) {
    const auto found = rx_.peek(peek ? done : 0, asked - done);
    for (const auto& part : found.parts) {
      if (part.empty()) break;
      scatter(part, to, at + done);
      done += part.size();
      if (!peek) rx_.consume(part.size());
    }
  }
  if (peek || done == 0) return done;
  statistics.bytes_in[furthest_].add(done);
  collect_memory();
  if (rx_.window_due()) tell_window();
  return done;
}

void Flow::tell_window() {
  if (!link_ || retired_ || frozen_) return;
  rx_.told_window();
  link_->send(wire::Window{peer_slot_, rx_.consumed_total()});
}

void Flow::collect_memory() {
  if (!link_ || !link_->alive()) return;
  if (const auto block = rx_.take_retired()) link_->connection().release(block);
  if (const auto block = tx_.take_retired()) link_->connection().release_mirror(block);
}

Status Flow::may_write() {
  if (error_) {
    dead_ = true;
    return Errno{std::exchange(error_, 0)};
  }
  if (dead_ || (write_shut_ && !kernel_follows())) return Errno{EPIPE};
  return Done{};
}

Result<size_t> Flow::write(std::span<const iovec> from, size_t skip) {
  if (const auto may = may_write(); !may) return Errno{may.error()};
  if (total(from) == skip && flow::sends(state_) != Sends::raw) return size_t{0};
  if (peer_closed_) {
    // As after the peer's FIN and before its RST: this goes nowhere, and is answered by RST.
    wrote_past_end_ = true;
    reset_due_ = true;
    advance_reset();
    end_on_kernel();
    return static_cast<size_t>(total(from) - skip);
  }
  switch (flow::sends(state_)) {
    case Sends::raw:
      if (rest_out() && !flush()) return Errno{EAGAIN};
      return write_raw(from, skip);
    case Sends::ring: {
      const auto asked = total(from) - skip;
      const auto done = tx_.append(from, skip);
      statistics.bytes_out[link_->connection().lane()].add(done);
      go_on();
      pump();
      if (done < asked && flow::sends(state_) == Sends::ring) say_blocked();
      if (done == 0) return Errno{EAGAIN};
      return done;
    }
    case Sends::nothing:
      pump_tcp();  // what ends the way back may have come
      if (flow::sends(state_) == Sends::raw) return write(from, skip);
  }
  return Errno{EAGAIN};
}

void Flow::cork(bool on) {
  gather(on);
  if (!on) pump();
}

void Flow::cork_expired() {
  cork_timed_ = false;
  push();
}

void Flow::push() {
  const bool corked = std::exchange(corked_, false);
  pump();
  corked_ = corked;
}

bool Flow::worth_gathering() const {
  return tx_.unposted() < kGather && tx_.room() > 0 && !closing_ && !write_shut_;
}

// The first write of a burst leaves at once. While the burst lasts (see Link) small ones gather and leave together, and with those
// of other flows.
void Flow::pump(Gather gather) {
  while (link_ && flow::sends(state_) == Sends::ring && tx_.unposted() > 0) {
    if (corked_ && worth_gathering()) {
      if (!std::exchange(cork_timed_, true)) engine_.corked(*this);
      return;
    }
    if (gather == Gather::yes && link_->bursting() && worth_gathering()) return link_->gather(*this);
    if (!link_->can_post()) return link_->pump_later(*this);
    if (tx_.at_switch()) {
      link_->send(wire::Switch{peer_slot_});
      tx_.switched();
      collect_memory();
      continue;
    }
    const auto write = tx_.next(link_->connection().largest_write());
    if (!link_->post_write(write, peer_slot_)) return;
    tx_.posted(write.length);
  }
  send_end();
}

size_t Flow::packable() const {
  if (!link_ || flow::sends(state_) != Sends::ring || corked_ || tx_.at_switch()) return 0;
  return tx_.unposted() <= wire::Packer::kLargest ? static_cast<size_t>(tx_.unposted()) : 0;
}

// Less than packable() where the ring ends or changes.
void Flow::pack(wire::Packer& packer) {
  const auto write = tx_.next(static_cast<uint32_t>(packer.room()));
  packer.add(peer_slot_, {reinterpret_cast<const uint8_t*>(write.local), write.length});
  tx_.posted(write.length);
}

bool Flow::data_landed(uint32_t length) { return landed(length); }
bool Flow::data_landed(std::span<const uint8_t> bytes) { return landed(bytes); }

template <class Data>
bool Flow::landed(Data data) {
  if (peer_retired_) return false;
  // As the kernel answers bytes for a closed socket, or for one that was shut both ways: with RST.
  if ((closing_ || (read_shut_ && write_shut_)) && !peer_closed_ && !frozen_ && !aborting_ && state_ == State::lane) {
    if (!closing_) (void)sys::shutdown(shadow(), SHUT_RDWR);  // so that this kernel does the same
    if (link_ && !retired_) abort();
    if (!closing_) return reset_by_peer(), true;
  }
  if (frozen_ || closing_ || peer_closed_) return true;  // no longer counts
  if (fin_ || !peer_slot_known_ || !rx_.landed(data)) return false;
  if (enough()) changed(EPOLLIN);
  return true;
}

bool Flow::handle(const wire::Window& window) {
  if (frozen_) return true;
  const bool waited = said_blocked_ || tx_.room() == 0;
  if (!tx_.consumed(window.consumed)) return false;
  said_blocked_ = false;
  collect_memory();
  if (waited) changed(EPOLLOUT);
  return true;
}

void Flow::say_blocked() {
  if (link_ && !retired_ && !std::exchange(said_blocked_, true)) link_->send(wire::Blocked{peer_slot_});
}

bool Flow::handle(const wire::Blocked&) {
  hurried_ = true;
  go_on();
  if (frozen_ || closing_ || peer_closed_) return true;
  rx_.sender_blocked();
  offer_growth();
  if (rx_.window_due()) tell_window();
  return true;
}

// A sender that runs out of window gets a larger ring, as a socket's buffers grow. The window goes first, so that the sender has
// let go of the ring before this one.
void Flow::offer_growth() {
  if (!link_ || retired_ || !peer_slot_known_ || rx_.size() >= largest_ring_) return;
  if (rx_.consumed_total() > 0) tell_window();
  if (!link_ || !rx_.can_grow()) return;  // telling the window may have failed the link
  // Where nobody reads there is no second chance to grow: two rings are all that a flow has.
  const bool nobody_reads = rx_.readable() > rx_.size() / 2;
  const auto factor = nobody_reads ? kGrowthFactor * kGrowthFactor : kGrowthFactor;
  const auto size = std::min(rx_.size() * factor, largest_ring_);
  auto block = link_->connection().allocate(size);
  if (!block) return;
  rx_.offer(*block);
  link_->send(wire::Grow{peer_slot_, block->place()});
}

bool Flow::handle(const wire::Grow& grow) {
  if (frozen_ || flow::sends(state_) != Sends::ring || grow.ring.size > engine_.settings.ring_max) return true;
  const auto mirror = link_->connection().mirror(grow.ring);
  if (!mirror) return !mirror.is(EPROTO);
  if (!tx_.grow(*mirror, grow.ring)) {
    link_->connection().release_mirror(*mirror);
    return false;
  }
  said_blocked_ = false;
  changed(EPOLLOUT);
  return true;
}

bool Flow::handle(const wire::Switch&) {
  if (frozen_ || closing_ || peer_closed_) return true;
  if (!rx_.switched()) return false;
  collect_memory();
  return true;
}

uint32_t Flow::readiness() {
  if (kernel_follows()) return sys::readiness(shadow()) | (readable_bytes() >= low_water_ ? EPOLLIN | EPOLLRDNORM : 0u);
  uint32_t ready = 0;
  const bool ended = fin_ && flow::receives(state_) != Receives::raw_to_boundary && (!frozen_ || salvaged_);  // its end counts once the ring does
  if (error_ || dead_ || read_shut_ || ended) ready |= EPOLLIN;
  if (rest_in() + ring_in() > 0 && enough()) ready |= EPOLLIN;
  if (const auto there = reads_raw() ? tcp_input() : 0) {
    const auto unread = low_water_ > 1 ? readable_bytes() : low_water_;
    ready |= there & (unread == 0 || unread >= low_water_ ? EPOLLIN | EPOLLPRI : EPOLLPRI);
  }

  if (error_ || dead_ || write_shut_ || peer_closed_) ready |= EPOLLOUT;
  if (flow::sends(state_) == Sends::ring && tx_.room() > 0) ready |= EPOLLOUT;
  if (flow::sends(state_) == Sends::raw && !rest_out() && tcp_out_ready_) ready |= EPOLLOUT;

  if (ended || error_ || dead_ || read_shut_) ready |= EPOLLRDHUP;
  if (error_ || dead_ || ((ended || read_shut_) && write_shut_)) ready |= EPOLLHUP;
  if (error_) ready |= EPOLLERR;
  if (ready & EPOLLIN) ready |= EPOLLRDNORM;
  if (ready & EPOLLOUT) ready |= EPOLLWRNORM;
  return ready;
}

size_t Flow::readable_bytes() {
  size_t count = rest_in();
  if (flow::delivers_ring(state_)) return count + ring_in();
  int raw = 0;
  if (!sys::ioctl(shadow(), FIONREAD, &raw)) return count;
  const auto unread = static_cast<uint64_t>(raw);
  if (flow::receives(state_) == Receives::raw_to_boundary) return count + std::min(unread, boundary_left());
  return flow::receives(state_) == Receives::raw ? count + unread : count;
}

// What the medium has taken counts as delivered: it is reliable, and its completions are not asked for one by one.
size_t Flow::unsent_bytes() const {
  return static_cast<size_t>(tx_.unposted()) + rest_out_.size() - rest_out_at_;
}

}  // namespace rsock::engine
