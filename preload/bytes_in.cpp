// read, recv and their kin.

#include "core/base/clock.hpp"
#include "preload/program_vector.hpp"
#include "preload/shell.hpp"

namespace real = rsock::real;
namespace sockets = rsock::sockets;
using namespace rsock::preload;

namespace {

// libc moved these bytes after a pass.
ssize_t counted(int fd, ssize_t moved, int flags) {
  if (moved > 0 && !(flags & (MSG_PEEK | MSG_ERRQUEUE))) sockets::passed_in(fd, static_cast<size_t>(moved));
  return moved;
}

// The error queue is the kernel's.
bool only_libc_can(int flags) {
  return flags & MSG_ERRQUEUE;
}

// With MSG_TRUNC TCP drops the bytes and does not look at the buffer.
Access access_for(int flags) {
  return flags & MSG_TRUNC ? Access::none : Access::write;
}

// What one call reads at most, unless it insists. No ring holds more, and the rest of a large buffer need not be
// looked at.
size_t most_for(int flags) {
  constexpr size_t kAtATime = 2 << 20;
  return flags & (MSG_WAITALL | MSG_TRUNC) ? kMostBytes : kAtATime;
}

template <class Libc>
[[gnu::noinline]] ssize_t receive(int fd, void* buffer, size_t size, int flags, Libc libc) {
  if (only_libc_can(flags)) return libc();
  const ProgramVector to(buffer, size, access_for(flags), most_for(flags));
  if (to.error()) return fail(to.error());
  const auto answer = sockets::receive(fd, to.parts(), flags);
  return answer.served() ? finish(answer.result()) : counted(fd, libc(), flags);
}

// read(2) of nothing gives 0 at once, which recv(2) does not: libc knows.
template <class Libc>
[[gnu::noinline]] ssize_t read_one(int fd, void* buffer, size_t size, Libc libc) {
  return size == 0 || static_cast<ssize_t>(size) < 0 ? libc() : receive(fd, buffer, size, 0, libc);
}

template <class Libc>
[[gnu::noinline]] ssize_t read_parts(int fd, const iovec* parts, int count, Libc libc) {
  const ProgramVector to(parts, static_cast<unsigned>(count), Access::write, most_for(0));
  if (to.error()) return fail(to.error());
  if (to.empty()) return libc();
  const auto answer = sockets::receive(fd, to.parts(), 0);
  return answer.served() ? finish(answer.result()) : counted(fd, libc(), 0);
}

// Offset -1 makes it readv; with another offset, or flags that no lane knows, the kernel answers.
template <class Libc>
[[gnu::noinline]] ssize_t read_parts_at(int fd, const iovec* parts, int count, off64_t offset, int flags,
                                        Libc libc) {
  if (offset == -1 && flags == 0) return read_parts(fd, parts, count, libc);
  if (offset == -1) to_tcp(fd);
  return libc();
}

// TCP gives no address: recvfrom(2) says that its size is 0.
int no_address(const sockaddr* address, socklen_t* size) {
  if (!address) return 0;
  if (!writable(size, sizeof *size)) return EFAULT;
  if (static_cast<int>(*size) < 0) return EINVAL;
  *size = 0;
  return 0;
}

template <class Libc>
[[gnu::noinline]] ssize_t receive_from(int fd, void* buffer, size_t size, int flags, sockaddr* address,
                                       socklen_t* address_size, Libc libc) {
  if (only_libc_can(flags)) return libc();
  const ProgramVector to(buffer, size, access_for(flags), most_for(flags));
  if (to.error()) return fail(to.error());
  const auto answer = sockets::receive(fd, to.parts(), flags);
  if (!answer.served()) return counted(fd, libc(), flags);
  if (const int error = answer.result() ? no_address(address, address_size) : 0) return fail(error);
  return finish(answer.result());
}

// TCP has no address and no control data to give.
void tell_nothing_more(msghdr& message, int flags) {
  message.msg_flags = flags & MSG_CMSG_CLOEXEC;
  message.msg_controllen = 0;
  if (message.msg_name) message.msg_namelen = 0;
}

template <class Libc>
[[gnu::noinline]] ssize_t receive_message(int fd, msghdr* message, int flags, Libc libc) {
  if (only_libc_can(flags)) return libc();
  if (!writable(message, sizeof *message)) return fail(EFAULT);
  if (flags & kCompat || (message->msg_name && static_cast<int>(message->msg_namelen) < 0)) return fail(EINVAL);
  const ProgramVector to(message->msg_iov, message->msg_iovlen, access_for(flags), most_for(flags), EMSGSIZE);
  if (to.error()) return fail(to.error());
  const auto answer = sockets::receive(fd, to.parts(), flags);
  if (!answer.served()) return counted(fd, libc(), flags);
  if (answer.result()) tell_nothing_more(*message, flags);
  return finish(answer.result());
}

// Given by a `libc` that only tells its caller of the pass.
constexpr ssize_t kPassed = -2;

bool is_time(const timespec* time) {
  return writable(time, sizeof *time) && time->tv_sec >= 0 &&
         static_cast<unsigned long>(time->tv_nsec) < 1'000'000'000;
}

// The timeout of recvmmsg(2): looked at after each message, and what is left of it goes back to the program.
class Deadline {
 public:
  explicit Deadline(timespec* left) : left_(left) {
    if (!left) return;
    constexpr time_t kEver = 1'000'000'000;
    end_ = rsock::now() + std::chrono::seconds(std::min(left->tv_sec, kEver)) +
           std::chrono::nanoseconds(left->tv_nsec);
  }
  bool passed() {
    if (!left_) return false;
    const auto left = std::max(end_ - rsock::now(), rsock::Duration::zero());
    const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
    *left_ = {seconds.count(), (left - seconds).count()};
    return left == rsock::Duration::zero();
  }

 private:
  timespec* left_;
  rsock::Time end_{};
};

// recvmmsg(2): what the first k messages brought counts more than the error of the next. A pass at the first message leaves all of
// them to libc, a later one that message.
template <class Libc>
[[gnu::noinline]] int receive_messages(int fd, mmsghdr* messages, unsigned count, int flags,
                                       timespec* timeout, Libc libc) {
  if (count == 0 || only_libc_can(flags) || (timeout && !is_time(timeout))) return libc();
  const int saved = errno;
  // The kernel looks for an error before it looks for messages.
  int error = 0;
  socklen_t size = sizeof error;
  if (!sockets::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size).served())
    real::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error) return fail(error);
  Deadline deadline(timeout);
  unsigned done = 0;
  while (done < count) {
    mmsghdr& one = messages[done];
    if (!writable(&one, sizeof one)) {
      fail(EFAULT);
      break;
    }
    const int how = flags & ~MSG_WAITFORONE;
    const ssize_t got = receive_message(fd, &one.msg_hdr, how, [&] { return done ? real::recvmsg(fd, &one.msg_hdr, how) : kPassed; });
    if (got == kPassed && done == 0) {
      const int all = libc();
      for (int i = 0; i < all; ++i) counted(fd, messages[i].msg_len, flags);
      return all;
    }
    if (got < 0) break;
    one.msg_len = static_cast<unsigned>(got);
    ++done;
    if (flags & MSG_WAITFORONE) flags |= MSG_DONTWAIT;
    if (deadline.passed()) break;
  }
  if (done == 0) return -1;
  errno = saved;
  return static_cast<int>(done);
}

}  // namespace

RSOCK_EXPORT ssize_t read(int fd, void* buffer, size_t size) {
  if (find(fd)) return read_one(fd, buffer, size, [=] { return real::read(fd, buffer, size); });
  return real::read(fd, buffer, size);
}
RSOCK_EXPORT_ALIAS(__read, read);

RSOCK_EXPORT ssize_t __read_chk(int fd, void* buffer, size_t size, size_t object) {
  if (size > object) __chk_fail();
  if (find(fd)) return read_one(fd, buffer, size, [=] { return real::read(fd, buffer, size); });
  return real::read(fd, buffer, size);
}

RSOCK_EXPORT ssize_t readv(int fd, const iovec* parts, int count) {
  if (find(fd)) return read_parts(fd, parts, count, [=] { return real::readv(fd, parts, count); });
  return real::readv(fd, parts, count);
}

RSOCK_EXPORT ssize_t preadv2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  if (find(fd))
    return read_parts_at(fd, parts, count, offset, flags,
                         [=] { return real::preadv2(fd, parts, count, offset, flags); });
  return real::preadv2(fd, parts, count, offset, flags);
}

RSOCK_EXPORT ssize_t preadv64v2(int fd, const iovec* parts, int count, off64_t offset, int flags) {
  if (find(fd))
    return read_parts_at(fd, parts, count, offset, flags,
                         [=] { return real::preadv64v2(fd, parts, count, offset, flags); });
  return real::preadv64v2(fd, parts, count, offset, flags);
}

RSOCK_EXPORT ssize_t recv(int fd, void* buffer, size_t size, int flags) {
  if (find(fd)) return receive(fd, buffer, size, flags, [=] { return real::recv(fd, buffer, size, flags); });
  return real::recv(fd, buffer, size, flags);
}

RSOCK_EXPORT ssize_t __recv_chk(int fd, void* buffer, size_t size, size_t object, int flags) {
  if (size > object) __chk_fail();
  if (find(fd)) return receive(fd, buffer, size, flags, [=] { return real::recv(fd, buffer, size, flags); });
  return real::recv(fd, buffer, size, flags);
}

RSOCK_EXPORT ssize_t recvfrom(int fd, void* buffer, size_t size, int flags, sockaddr* address,
                              socklen_t* address_size) {
  if (find(fd))
    return receive_from(fd, buffer, size, flags, address, address_size,
                        [=] { return real::recvfrom(fd, buffer, size, flags, address, address_size); });
  return real::recvfrom(fd, buffer, size, flags, address, address_size);
}

RSOCK_EXPORT ssize_t __recvfrom_chk(int fd, void* buffer, size_t size, size_t object, int flags,
                                    sockaddr* address, socklen_t* address_size) {
  if (size > object) __chk_fail();
  if (find(fd))
    return receive_from(fd, buffer, size, flags, address, address_size,
                        [=] { return real::recvfrom(fd, buffer, size, flags, address, address_size); });
  return real::recvfrom(fd, buffer, size, flags, address, address_size);
}

RSOCK_EXPORT ssize_t recvmsg(int fd, msghdr* message, int flags) {
  if (find(fd)) return receive_message(fd, message, flags, [=] { return real::recvmsg(fd, message, flags); });
  return real::recvmsg(fd, message, flags);
}

RSOCK_EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  if (find(fd))
    return receive_messages(fd, messages, count, flags, timeout,
                            [=] { return real::recvmmsg(fd, messages, count, flags, timeout); });
  return real::recvmmsg(fd, messages, count, flags, timeout);
}
