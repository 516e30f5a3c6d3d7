// The application's bytes: where they come from and where they go, and the rings while the flow is in a lane.

#include <sys/uio.h>

#include <algorithm>
#include <climits>
#include <utility>

#include "core/base/pieces.hpp"
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

}  // namespace

bool Flow::at_end() const {
  const auto total = ends_.total();
  if (!total || unread_.size() > 0 || terms_.mark_ahead()) return false;
  return way_.salvaged() || (!way_.frozen() && binding_.rx.consumed_total() == *total);
}

Result<size_t> Flow::read_rest(std::span<const iovec> to, bool peek) {
  const auto took = unread_.read(to, peek);
  if (!took) return Errno{took.error()};
  if (!peek) statistics.bytes_in[candidacy_.furthest()].add(took->of_ring);
  return took->bytes;
}

// After SHUT_RD what is there, and what still comes, can be read; only nothing is waited for.
Result<size_t> Flow::read(std::span<const iovec> to, bool peek) {
  const auto got = read_any(to, peek);
  return got.is(EAGAIN) && ends_.read_shut() ? Result<size_t>(size_t{0}) : got;
}

Result<size_t> Flow::read_any(std::span<const iovec> to, bool peek) {
  for (;;) {
    if (unread_.size() > 0) {
      auto got = read_rest(to, peek);
      if (!got) return got;
      const auto more = terms_.mark_ahead() ? Result<size_t>(size_t{0}) : read_ring(to, *got, peek);
      return *got + (more ? *more + read_behind(to, *got, peek) : 0);  // a bad place is for the next read to find
    }
    if (state() == State::broken) return ends_.read_end(at_end());
    const auto before = state();
    const auto source = receives();
    switch (source) {
      case Receives::raw: {
        const auto got = read_raw(to, 0, UINT64_MAX, peek);
        if (got || state() == before) return got;
        break;
      }
      case Receives::raw_to_boundary:
        if (const auto left = boundary_left(); left > 0) {
          const auto got = read_raw(to, 0, left, peek);
          if (boundary_left() == 0) pump_tcp();
          if (!got && state() != before) break;
          if (!got || *got < left) return got;
          const auto more = read_ring(to, *got, peek);  // right behind it, if that is a lane already
          if (!more) return got;
          return *got + *more + (peek ? 0 : read_behind(to, *got + *more, peek));
        }
        pump_tcp();
        if (state() == before && receives() == source) return Errno{EAGAIN};
        break;
      case Receives::frames:
        if (const auto got = read_ring(to, 0, peek); !got || *got > 0) return got;
        if (state() == State::resuming) pump_tcp();
        if (state() != before) break;
        return ends_.read_end(at_end());
      case Receives::nothing: return size_t{0};
    }
  }
}

// What TCP has already of the bytes that follow those in front of it. Its end and its error are for the next read.
size_t Flow::read_behind(std::span<const iovec> to, size_t at, bool peek) {
  const auto source = receives();
  const auto most = source == Receives::raw ? UINT64_MAX : source == Receives::raw_to_boundary ? boundary_left() : 0;
  if (most == 0 || total(to) <= at || socket_.unread().value_or(0) == 0 || at_urgent_mark()) return 0;
  const auto got = read_raw(to, at, most, peek);
  return got ? *got : 0;
}

// A read that has taken something ends there.
bool Flow::at_urgent_mark() const { return receives() == Receives::raw && socket_.at_urgent_mark(); }

// A piece that goes to a bad place stays unread.
Result<size_t> Flow::read_ring(std::span<const iovec> to, size_t at, bool peek) {
  if (ring_in() == 0) return size_t{0};
  auto& rx = binding_.rx;
  size_t done = 0;
  bool bad = false;
  const auto asked = total(to) - at;
  while (!bad && done < asked && rx.readable() > (peek ? done : 0)) {
    const auto found = rx.peek(peek ? done : 0, std::min<uint64_t>(asked - done, flow::kPiece));
    for (const auto& part : found.parts) {
      if (part.empty()) break;
      bad = !flow::scatter(part, to, at + done);
      if (bad) break;
      done += part.size();
      if (peek) continue;
      if (seen_.tap) [[unlikely]]
        tap_in(part);
      rx.consume(part.size());
    }
  }
  if (bad && done == 0) return Errno{EFAULT};
  if (peek || done == 0) return done;
  statistics.bytes_in[candidacy_.furthest()].add(done);
  binding_.collect_memory();
  binding_.tell_window_if_due();
  return done;
}

Status Flow::may_write() { return ends_.may_write(kernel_follows()); }

Result<size_t> Flow::write(std::span<const iovec> from, size_t skip) {
  if (const auto may = may_write(); !may) return Errno{may.error()};
  if (total(from) == skip && flow::sends(state()) != Sends::raw) return size_t{0};
  if (ends_.peer_closed()) {
    // As after the peer's FIN and before its RST: this goes nowhere, and is answered by RST.
    ends_.write_past_end();
    advance_reset();
    end_on_kernel();
    return static_cast<size_t>(total(from) - skip);
  }
  switch (flow::sends(state())) {
    case Sends::raw:
      if (socket_.owes() && !flush()) return Errno{ends_.failed() ? may_write().error() : EAGAIN};
      return socket_.write(from, skip, cork_.on);
    case Sends::ring: {
      const auto asked = total(from) - skip;
      auto& tx = binding_.tx;
      const auto room = tx.room();
      const auto appended =
          flow::takes_some(asked, room, tx.size()) ? tx.append(from, skip) : Result<size_t>(size_t{0});
      if (!appended) return appended;
      const auto done = *appended;
      statistics.bytes_out[binding_.lane()].add(done);
      if (seen_.tap) [[unlikely]]
        tap_out(done);
      pump();
      if (!flow::is_room(room - done, tx.size()) && flow::sends(state()) == Sends::ring) {
        seen_.times_full += done < asked;
        binding_.say_blocked();
      }
      if (done == 0) return Errno{EAGAIN};
      return done;
    }
    case Sends::nothing:
      pump_tcp();  // what ends it may have come
      if (flow::sends(state()) != Sends::nothing) return write(from, skip);
      return state() == State::broken ? Result<size_t>(Errno{EAGAIN}) : hold(from, skip);
  }
  return Errno{EAGAIN};
}

void Flow::cork(bool on) {
  gather(on);
  if (!on) pump();
}

void Flow::cork_expired() {
  cork_.timed = false;
  push();
}

void Flow::push() {
  const bool corked = std::exchange(cork_.on, false);
  pump();
  cork_.on = corked;
}

bool Flow::worth_gathering() const {
  const auto& tx = binding_.tx;
  return tx.unposted() < kGather && tx.roomy() && !closing() && !ends_.write_shut();
}

// The first write of a burst leaves at once. While the burst lasts (see Link) small ones gather and leave together, and
// with those of other flows.
void Flow::pump(Gather gather) {
  auto& tx = binding_.tx;
  while (binding_.speaks() && flow::sends(state()) == Sends::ring && tx.unposted() > 0) {
    auto& link = *binding_.link();
    if (cork_.on && worth_gathering()) {
      if (!std::exchange(cork_.timed, true)) engine_.corked(*this);
      return;
    }
    if (gather == Gather::yes && link.bursting() && worth_gathering()) return link.gather(*this);
    if (!link.can_post()) return link.pump_later(*this);
    if (tx.at_switch()) {
      link.send(wire::Switch{binding_.peer_slot()});
      tx.switched();
      binding_.collect_memory();
      continue;
    }
    const auto write = tx.next(link.connection().largest_write());
    if (!link.post_write(write, binding_.peer_slot())) return;
    tx.posted(write.length);
  }
  send_end();
}

size_t Flow::packable() const {
  const auto& tx = binding_.tx;
  if (!binding_.speaks() || flow::sends(state()) != Sends::ring || cork_.on || tx.at_switch()) return 0;
  return tx.unposted() <= wire::Packer::kLargest ? static_cast<size_t>(tx.unposted()) : 0;
}

// Less than packable() where the ring ends or changes.
void Flow::pack(wire::Packer& packer) {
  auto& tx = binding_.tx;
  const auto write = tx.next(static_cast<uint32_t>(packer.room()));
  packer.add(binding_.peer_slot(), {reinterpret_cast<const uint8_t*>(write.local), write.length});
  tx.posted(write.length);
}

bool Flow::data_landed(uint32_t length) { return landed(length); }
bool Flow::data_landed(std::span<const uint8_t> bytes) { return landed(bytes); }

template <class Data>
bool Flow::landed(Data data) {
  if (binding_.peer_retired()) return false;
  // A flow that failed, by TCP or by its own RESET, is told more by a peer that has not heard of it.
  const bool counts = !way_.frozen() && !ends_.peer_closed() && state() != State::broken;
  // As the kernel answers bytes for a closed socket, or for one that was shut both ways: with RST.
  const bool unwanted = closing() || (ends_.read_shut() && ends_.write_shut());
  if (unwanted && counts && ends_.told() != flow::Ends::Told::reset && state() == State::lane) {
    if (!closing()) (void)sys::shutdown(shadow(), SHUT_RDWR);  // so that this kernel does the same
    if (binding_.link() && !binding_.retired()) abort();
    if (!closing()) return reset_by_peer(), true;
  }
  if (!counts || closing()) return true;
  if (ends_.total() || !flow::takes_ring(state()) || !binding_.rx.landed(data)) return false;
  if (enough()) changed(EPOLLIN);
  return true;
}

bool Flow::handle(const wire::Window& window) {
  if (way_.frozen()) return true;
  const bool roomy = binding_.tx.roomy();
  if (!binding_.note_window(window.consumed)) return false;
  if (!roomy && binding_.tx.roomy()) changed(EPOLLOUT);
  return true;
}

// A sender that runs out of window gets a larger ring, as a socket's buffers grow. One that waits for its cutover says
// so, too.
bool Flow::handle(const wire::Blocked&) {
  if (hold_.has_accept() && hold_.peer_blocked(socket_.position_in())) engine_.in_cutover(*this);
  hold_.hurry(state() == State::accepted);
  go_on();
  if (!flow::takes_ring(state()) || way_.frozen() || closing() || ends_.peer_closed()) return true;
  binding_.rx.sender_blocked();
  binding_.grow();
  binding_.tell_window_if_due();
  return true;
}

bool Flow::handle(const wire::Grow& grow) {
  if (way_.frozen() || !flow::takes_ring(state()) || grow.ring.size > engine_.settings.ring_max || !binding_.link())
    return true;
  const bool roomy = binding_.tx.roomy();
  if (!binding_.take_growth(grow.ring)) return false;
  if (!roomy && binding_.tx.roomy()) changed(EPOLLOUT);
  return true;
}

bool Flow::handle(const wire::Switch&) {
  if (way_.frozen() || closing() || ends_.peer_closed()) return true;
  if (!binding_.rx.switched()) return false;
  binding_.collect_memory();
  return true;
}

// Behind the ring, once that counts.
bool Flow::lane_ended() const {
  return ends_.total() && flow::receives(state()) != Receives::raw_to_boundary && (!way_.frozen() || way_.salvaged());
}

uint32_t Flow::readiness() {
  if (kernel_follows())
    return socket_.readiness() | (readable_bytes() >= low_water_.bytes ? EPOLLIN | EPOLLRDNORM : 0u);
  uint32_t ready = ends_.readiness(lane_ended());
  if (unread_.size() + ring_in() > 0 && enough()) ready |= EPOLLIN;
  if (const auto there = reads_raw() ? socket_.input() : 0) {
    const auto unread = low_water_.bytes > 1 ? readable_bytes() : low_water_.bytes;
    ready |= there & (unread == 0 || unread >= low_water_.bytes ? EPOLLIN | EPOLLPRI : EPOLLPRI);
  }
  switch (flow::sends(state())) {
    case Sends::ring:
      if (binding_.tx.roomy()) ready |= EPOLLOUT;
      break;
    case Sends::raw:
      if (!socket_.owes() && socket_.out_ready()) ready |= EPOLLOUT;
      break;
    case Sends::nothing:
      if (may_hold()) ready |= EPOLLOUT;
      break;
  }
  if (ready & EPOLLIN) ready |= EPOLLRDNORM;
  if (ready & EPOLLOUT) ready |= EPOLLWRNORM;
  return ready;
}

size_t Flow::readable_bytes() {
  const size_t count = unread_.size() + ring_in();
  const auto source = receives();
  if (source == Receives::frames || source == Receives::nothing) return count;
  const uint64_t raw = socket_.unread().value_or(0);
  if (source == Receives::raw) return count + static_cast<size_t>(raw);
  const auto before_mark = std::min(raw, boundary_left());
  // Behind the mark of a cutover that was given up it is raw bytes again.
  const auto behind = flow::receives(state()) == Receives::raw ? raw - before_mark : 0;
  return count + static_cast<size_t>(before_mark + behind - std::min<uint64_t>(behind, wire::kMarkSize));
}

bool Flow::peer_ended() const { return receives() == Receives::raw ? socket_.ended_by_peer() : lane_ended(); }

// As the kernel's: an end counts as one more byte, also where it was read, so that the program goes on to read.
int Flow::unread_hint() { return static_cast<int>(std::min<size_t>(readable_bytes() + peer_ended(), INT_MAX)); }

// What the medium has taken counts as delivered: it is reliable, and its completions are not asked for one by one.
size_t Flow::unsent_bytes() const {
  return static_cast<size_t>(binding_.tx.unposted()) + hold_.kept.bytes().size() + socket_.rest();
}

}  // namespace rsock::engine
