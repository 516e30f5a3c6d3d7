#include "core/engine/flow/shadow_socket.hpp"

#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <algorithm>
#include <utility>

#include "core/base/limit.hpp"
#include "core/base/log.hpp"
#include "core/base/statistics.hpp"

namespace rsock::engine {
namespace {

// As in the kernel, whose header for them cannot be included together with linux/tcp.h.
constexpr uint8_t kEstablished = 1, kFinWait1 = 4, kFinWait2 = 5, kCloseWait = 8;

struct Name {
  int level, name;
};
// These make the kernel tell of each segment, beside its bytes: no lane has any.
constexpr Name kOfSegments[] = {{SOL_SOCKET, SO_TIMESTAMP_OLD},    {SOL_SOCKET, SO_TIMESTAMPNS_OLD},
                                {SOL_SOCKET, SO_TIMESTAMPING_OLD}, {SOL_SOCKET, SO_TIMESTAMP_NEW},
                                {SOL_SOCKET, SO_TIMESTAMPNS_NEW},  {SOL_SOCKET, SO_TIMESTAMPING_NEW}};

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

// ---- the descriptor

bool ShadowSocket::make_anchor() {
  if (anchor_) return true;
  const auto copy = sys::duplicate_spare(program_);
  if (copy) anchor_ = UniqueFd(*copy);
  return static_cast<bool>(copy);
}

void ShadowSocket::make_last_anchor() {
  if (anchor_) return;
  if (const auto copy = sys::duplicate_high(program_)) anchor_ = UniqueFd(*copy);
}

// ---- readiness

bool ShadowSocket::begin_watch() {
  if (std::exchange(watched_, true)) return false;
  in_ready_ = out_ready_ = true;  // nobody looked
  return true;
}

void ShadowSocket::became(uint32_t events) {
  if (events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) in_ready_ = true;
  if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) out_ready_ = true;
}

// A look at the bytes would also take a pending error. What the watch has not told of is not there yet: all
// who wait are told of it when it has.
uint32_t ShadowSocket::input() {
  const auto there = in_ready_ ? readiness() & (EPOLLIN | EPOLLPRI) : 0;
  in_ready_ = there != 0;
  return there;
}

std::optional<size_t> ShadowSocket::unread() const {
  int count = 0;
  if (!sys::ioctl(fd(), FIONREAD, &count)) return {};
  return static_cast<size_t>(count);
}

// ---- the incoming stream

Result<size_t> ShadowSocket::read(std::span<const iovec> to, size_t at, uint64_t most, bool peek) {
  Cut pieces(to, at, most);
  auto message = pieces.message();
  return taken(sys::recvmsg(fd(), message, MSG_DONTWAIT | (peek ? MSG_PEEK : 0)), peek);
}

Result<size_t> ShadowSocket::drop(size_t room, bool peek) {
  return taken(sys::recv(fd(), nullptr, room, MSG_TRUNC | MSG_DONTWAIT | (peek ? MSG_PEEK : 0)), peek);
}

// Of what the kernel answered to a read.
Result<size_t> ShadowSocket::taken(Result<size_t> got, bool peek) {
  if (got.is(EAGAIN)) in_ready_ = false;
  if (got && *got > 0 && !peek) {
    statistics.bytes_in[Lane::tcp].add(*got);
    count_in(*got);
  }
  return got;
}

Result<size_t> ShadowSocket::collect_frame() {
  const auto got = sys::recv(fd(), arriving_.data() + arrived_, arriving_.size() - arrived_, MSG_DONTWAIT);
  if (got.is(EAGAIN)) in_ready_ = false;
  if (got.is(EINTR)) return Errno{EAGAIN};
  if (!got || *got == 0) return got;
  arrived_ += *got;
  control_in_ += *got;
  return arrived_;
}

Result<size_t> ShadowSocket::peek(uint64_t ahead, std::span<uint8_t> to) {
  if (ahead > 0) {
    auto size = to.size();
    if (unread().value_or(0) < ahead + size) {
      if (!ended_by_peer()) return Errno{EAGAIN};
      const uint64_t all = unread().value_or(0);  // nothing comes any more
      size = all > ahead ? std::min<uint64_t>(all - ahead, size) : 0;
      if (size == 0) return size;
    }
    if (!sys::peek_at(fd(), ahead, to.data(), size)) return Errno{EAGAIN};  // urgent data is in between
    return size;
  }
  const auto part = std::min(part_size_, to.size());
  std::copy_n(part_.data(), part, to.data());
  if (part == to.size()) return part;
  const auto got = sys::recv(fd(), to.data() + part, to.size() - part, MSG_PEEK | MSG_DONTWAIT);
  if (got.is(EAGAIN)) in_ready_ = false;
  if (got) return part + *got;
  if (!got.is(EINTR) && !got.is(EAGAIN)) return got;
  return part > 0 ? Result<size_t>(part) : Errno{EAGAIN};
}

void ShadowSocket::take_part_of_mark(size_t size) {
  const auto most = std::min(size, part_.size()) - part_size_;
  if (const auto got = sys::recv(fd(), part_.data() + part_size_, most, MSG_DONTWAIT)) part_size_ += *got;
}

void ShadowSocket::take_mark() {
  take_part_of_mark(part_.size());
  control_in_ += std::exchange(part_size_, 0);
}

std::span<const std::byte> ShadowSocket::give_part() {
  const auto part = std::as_bytes(std::span(part_).first(std::exchange(part_size_, 0)));
  statistics.bytes_in[Lane::tcp].add(part.size());
  count_in(part.size());
  return part;
}

// ---- the outgoing stream

Result<size_t> ShadowSocket::write(std::span<const iovec> from, size_t skip, bool more) {
  Cut pieces(from, skip, UINT64_MAX);
  const auto sent = sys::sendmsg(fd(), pieces.message(), MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0));
  if (sent.is(EAGAIN)) out_ready_ = false;
  if (sent) {
    raw_out_ += *sent;
    statistics.bytes_out[Lane::tcp].add(*sent);
  }
  return sent;
}

void ShadowSocket::unsay() {
  control_.clear();
  rest_.clear();
  rest_at_ = 0;
}

Result<size_t> ShadowSocket::send(const void* bytes, size_t size) {
  const auto sent = sys::send(fd(), bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent.is(EAGAIN)) out_ready_ = false;
  const bool later = sent || sent.is(EAGAIN) || sent.is(EINTR) || sent.is(ENOBUFS) || sent.is(ENOMEM);
  if (!later && !refused_) refused_ = sent.error();
  return sent;
}

bool ShadowSocket::flush() {
  const auto before = position_out();
  while (!control_.empty()) {
    const auto sent = send(control_.data(), control_.size());
    if (!sent) return false;
    control_out_ += *sent;
    control_.erase(control_.begin(), control_.begin() + static_cast<std::ptrdiff_t>(*sent));
  }
  while (rest() > 0) {
    const auto sent = send(rest_.data() + rest_at_, rest());
    if (!sent) return false;
    rest_at_ += *sent;
    raw_out_ += *sent;
  }
  rest_.clear();
  rest_at_ = 0;
  if (position_out() > before) push();
  return true;
}

uint64_t ShadowSocket::undelivered() const {
  int unacknowledged = 0;
  (void)sys::ioctl(fd(), SIOCOUTQ, &unacknowledged);
  return static_cast<uint64_t>(unacknowledged) + control_.size() + rest();
}

// Where the program has not set TCP_NODELAY, it is taken back at once; until that has been done, the
// program's value is known here alone.
void ShadowSocket::push() {
  int unsent = 0;
  if (!sys::ioctl(fd(), SIOCOUTQNSD, &unsent) || unsent == 0) return;
  const int on = 1, off = 0;
  const bool own = !nodelay_is_ours_ && option(IPPROTO_TCP, TCP_NODELAY, on) != 0;
  if (!sys::setsockopt(fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) || own) return;
  nodelay_is_ours_ = !sys::setsockopt(fd(), IPPROTO_TCP, TCP_NODELAY, &off, sizeof off);
}

// ---- the ends

bool ShadowSocket::suspect_end(int error) {
  in_ready_ = false;
  if (end_) return false;
  end_ = error;
  return true;
}

void ShadowSocket::shut() {
  shut_ = true;
  (void)sys::shutdown(fd(), SHUT_WR);
}

bool ShadowSocket::at_end() const {
  const auto left = unread();
  return !left || (*left == 0 && (readiness() & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)));
}

bool ShadowSocket::ended_by_peer() const {
  const auto state = sys::tcp_state(fd());
  return state && sys::peer_has_ended(*state);
}

bool ShadowSocket::takes_bytes() const {
  const auto state = sys::tcp_state(fd());
  return state && (*state == kEstablished || *state == kCloseWait);
}

bool ShadowSocket::over() const {
  const auto state = sys::tcp_state(fd());
  return !state || (*state != kEstablished && *state != kFinWait1 && *state != kFinWait2);
}

bool ShadowSocket::was_over() {
  if (!has()) return std::exchange(was_over_, true);
  return std::exchange(was_over_, over());
}

void ShadowSocket::end_hard() {
  const linger hard{1, 0};
  if (anchor_) (void)sys::setsockopt(anchor_.get(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}

void ShadowSocket::end_in_background() {
  linger now{};
  socklen_t size = sizeof now;
  if (!anchor_ || !sys::getsockopt(anchor_.get(), SOL_SOCKET, SO_LINGER, &now, size) || !now.l_onoff ||
      now.l_linger == 0)
    return;
  now.l_onoff = 0;
  (void)sys::setsockopt(anchor_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

void ShadowSocket::provoke_reset() {
  const char any = 0;
  (void)sys::send(fd(), &any, sizeof any, MSG_DONTWAIT | MSG_NOSIGNAL);
  push();
}

void ShadowSocket::reset_if_unread() {
  if (unread().value_or(0) == 0 && !(readiness() & EPOLLPRI)) return;
  reset();
}

void ShadowSocket::reset() { sys::dissolve(fd()); }

// ---- what the program set

int ShadowSocket::option(int level, int name, int otherwise) const {
  int value = otherwise;
  socklen_t size = sizeof value;
  return sys::getsockopt(fd(), level, name, &value, size) ? value : otherwise;
}

bool ShadowSocket::resets_on_close() const {
  linger now{};
  socklen_t size = sizeof now;
  return sys::getsockopt(fd(), SOL_SOCKET, SO_LINGER, &now, size) && now.l_onoff && now.l_linger == 0;
}

bool ShadowSocket::is_of_segments(int level, int name) {
  return std::any_of(std::begin(kOfSegments), std::end(kOfSegments),
                     [=](Name known) { return known.level == level && known.name == name; });
}

bool ShadowSocket::asks_for_segments() const {
  const auto flags = sys::fcntl(fd(), F_GETFL, 0);
  return (flags && (*flags & O_ASYNC)) || std::any_of(std::begin(kOfSegments), std::end(kOfSegments),
                                                      [&](Name name) { return option(name.level, name.name, 0) > 0; });
}

ShadowSocket::Count ShadowSocket::compare_with_kernel(bool connector) const {
  constexpr int kTries = 8;
  tcp_info before{}, after{};
  for (int tries = 0; tries < kTries; ++tries) {
    socklen_t size = sizeof before;
    int unread = 0, unacknowledged = 0;
    if (!sys::getsockopt(fd(), IPPROTO_TCP, TCP_INFO, &before, size) || !sys::ioctl(fd(), SIOCOUTQ, &unacknowledged) ||
        !sys::ioctl(fd(), FIONREAD, &unread))
      return Count::unknown;
    size = sizeof after;
    if (!sys::getsockopt(fd(), IPPROTO_TCP, TCP_INFO, &after, size)) return Count::unknown;
    if (before.tcpi_bytes_acked != after.tcpi_bytes_acked) continue;  // an acknowledgement came in between
    // One end is shut already. The kernel reads the state before it takes the lock under which it reads the
    // rest, so a FIN that came in between counts as a byte received while the state is still the old one: the
    // later state is asked too.
    if (before.tcpi_state != kEstablished || after.tcpi_state != kEstablished) return Count::half_closed;
    // The SYN of a connecting end counts as one acknowledged byte.
    const auto sent = before.tcpi_bytes_acked + static_cast<uint64_t>(unacknowledged);
    const bool sent_agrees = sent == position_out() || (connector && sent == position_out() + 1);
    // More may have arrived between the questions: only bytes that somebody else took can make this larger.
    const auto taken = static_cast<int64_t>(before.tcpi_bytes_received) - unread;
    if (sent_agrees && taken <= static_cast<int64_t>(position_in())) return Count::agrees;
    log::info("the kernel sent {} and gave {} bytes, we counted {} and {}", sent, taken, position_out(), position_in());
    return Count::differs;
  }
  return Count::agrees;  // a busy connection; nothing speaks against it
}

}  // namespace rsock::engine
