// read, recv and their kin.

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <array>
#include <cstring>
#include <optional>

#include "core/base/clock.hpp"
#include "core/base/time_left.hpp"
#include "preload/passing.hpp"
#include "preload/program_vector.hpp"
#include "preload/shell.hpp"

namespace real = rsock::real;
namespace sockets = rsock::preload::sockets;
using namespace rsock::preload;

namespace {

// libc moved these bytes after a pass.
ssize_t counted(int fd, ssize_t moved, int flags) {
  if (moved > 0 && !(flags & (MSG_PEEK | MSG_ERRQUEUE))) sockets::passed_in(fd, static_cast<size_t>(moved));
  return moved;
}

// The error queue is the kernel's.
bool only_libc_can(int flags) { return flags & MSG_ERRQUEUE; }

// With MSG_TRUNC TCP drops the bytes and does not look at the buffer.
Access access_for(int flags) { return flags & MSG_TRUNC ? Access::none : Access::write; }

// What one call reads at most, unless it insists: what is there, since a program takes a read that falls
// short for one that left nothing. The rest of a large buffer need not be looked at.
size_t most_for(int fd, size_t asked, int flags) {
  constexpr size_t kAtATime = 2 << 20;
  if (flags & (MSG_WAITALL | MSG_TRUNC)) return kMostBytes;
  return asked > kAtATime ? std::max(kAtATime, sockets::readable_bytes(fd)) : kAtATime;
}

size_t asked_by(const iovec* parts, size_t count) {
  if (count > kMostParts) return 0;
  size_t sum = 0;
  iovec part;
  for (size_t i = 0; i < count && get(part, parts + i); ++i) sum += std::min(part.iov_len, kMostBytes);
  return sum;
}

template <class Libc>
[[gnu::noinline]] ssize_t receive(int fd, void* buffer, size_t size, int flags, Libc libc) {
  if (only_libc_can(flags)) return libc();
  const ProgramVector to(buffer, size, access_for(flags), most_for(fd, size, flags));
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
  const auto number = static_cast<unsigned>(count);
  const ProgramVector to(parts, number, Access::write, most_for(fd, asked_by(parts, number), 0));
  if (to.error()) return fail(to.error());
  if (to.empty()) return libc();
  const auto answer = sockets::receive(fd, to.parts(), 0);
  return answer.served() ? finish(answer.result()) : counted(fd, libc(), 0);
}

// Offset -1 makes it readv; with another offset, or flags that no lane knows, the kernel answers.
template <class Libc>
[[gnu::noinline]] ssize_t read_parts_at(int fd, const iovec* parts, int count, off64_t offset, int flags, Libc libc) {
  if (offset == -1 && flags == 0) return read_parts(fd, parts, count, libc);
  if (offset == -1) to_tcp(fd);
  return libc();
}

// TCP gives no address: recvfrom(2) says that its size is 0.
int no_address(const sockaddr* address, socklen_t* size) {
  if (!address) return 0;
  socklen_t room;
  if (!get(room, size)) return EFAULT;
  if (static_cast<int>(room) < 0) return EINVAL;
  return put(size, socklen_t{0}) ? 0 : EFAULT;
}

template <class Libc>
[[gnu::noinline]] ssize_t receive_from(int fd, void* buffer, size_t size, int flags, sockaddr* address,
                                       socklen_t* address_size, Libc libc) {
  if (only_libc_can(flags)) return libc();
  const ProgramVector to(buffer, size, access_for(flags), most_for(fd, size, flags));
  if (to.error()) return fail(to.error());
  const auto answer = sockets::receive(fd, to.parts(), flags);
  if (!answer.served()) return counted(fd, libc(), flags);
  if (const int error = answer.result() ? no_address(address, address_size) : 0) return fail(error);
  return finish(answer.result());
}

// As the kernel puts what it has to say into the program's buffer for control data: cut where that is too small, left
// out where it is no memory. The bytes of the buffer that are used.
size_t put_unread(const msghdr& message, int unread, int& flags) {
  if (!message.msg_control || message.msg_controllen < sizeof(cmsghdr)) {
    flags |= MSG_CTRUNC;
    return 0;
  }
  constexpr size_t kWhole = CMSG_LEN(sizeof unread), kSpace = CMSG_SPACE(sizeof unread);
  const auto size = std::min(message.msg_controllen, kWhole);
  if (size < kWhole) flags |= MSG_CTRUNC;
  const cmsghdr head{size, IPPROTO_TCP, TCP_CM_INQ};
  std::array<unsigned char, kWhole> told;
  std::memcpy(told.data(), &head, sizeof head);
  std::memcpy(told.data() + sizeof head, &unread, sizeof unread);
  if (!put_bytes(message.msg_control, told.data(), size)) return 0;
  return std::min(message.msg_controllen, kSpace);
}

// TCP has no address to give, and of control data only what was not read. `given`: our copy of the program's
// header. False: EFAULT.
bool tell_nothing_more(msghdr* message, const msghdr& given, int flags, std::optional<int> unread) {
  int told = flags & MSG_CMSG_CLOEXEC;
  const auto used = unread ? put_unread(given, *unread, told) : size_t{0};
  return put(&message->msg_flags, told) && put(&message->msg_controllen, used) &&
         (!given.msg_name || put(&message->msg_namelen, socklen_t{0}));
}

template <class Libc>
[[gnu::noinline]] ssize_t receive_message(int fd, msghdr* message, int flags, Libc libc) {
  if (only_libc_can(flags)) return libc();
  msghdr own;
  if (!writable(message, sizeof *message) || !get(own, message)) return fail(EFAULT);
  if (flags & kCompat || (own.msg_name && static_cast<int>(own.msg_namelen) < 0)) return fail(EINVAL);
  const auto most = most_for(fd, asked_by(own.msg_iov, own.msg_iovlen), flags);
  const ProgramVector to(own.msg_iov, own.msg_iovlen, access_for(flags), most, EMSGSIZE);
  if (to.error()) return fail(to.error());
  std::optional<int> unread;
  const auto answer = sockets::receive(fd, to.parts(), flags, &unread);
  if (!answer.served()) return counted(fd, libc(), flags);
  if (answer.result() && !tell_nothing_more(message, own, flags, unread)) return fail(EFAULT);
  return finish(answer.result());
}
[[gnu::noinline]] ssize_t receive_message(int fd, msghdr* message, int flags) {
  return receive_message(fd, message, flags, [=] { return real::recvmsg(fd, message, flags); });
}

// Given by a `libc` that only tells its caller of the pass.
constexpr ssize_t kPassed = -2;

bool is_time(const timespec* time) {
  timespec own;
  return get(own, time) && own.tv_sec >= 0 && static_cast<unsigned long>(own.tv_nsec) < 1'000'000'000;
}

// The timeout of recvmmsg(2): looked at after each message, and what is left of it goes back to the program.
class Deadline {
 public:
  explicit Deadline(timespec* time) : time_(time) {
    if (time) (void)get(left_, time);  // it was there
  }
  bool passed() {
    if (!time_) return false;
    const auto before = std::exchange(looked_, rsock::now());
    rsock::take_off(left_, looked_ - before);
    return left_.tv_sec == 0 && left_.tv_nsec == 0;
  }
  // False where the program's memory does not take it.
  bool tell() const { return !time_ || put(time_, left_); }

 private:
  timespec* time_;
  timespec left_{};
  rsock::Time looked_ = rsock::now();
};

// recvmmsg(2): what the first k messages brought counts more than the error of the next. A pass at the first message
// leaves all of them to libc, a later one that message.
template <class Libc>
[[gnu::noinline]] int receive_messages(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout,
                                       Libc libc) {
  if (count == 0 || only_libc_can(flags) || (timeout && !is_time(timeout))) return libc();
  const int saved = errno;
  // The kernel looks for an error before it looks for messages.
  int error = 0;
  socklen_t size = sizeof error;
  if (!sockets::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size).served())
    (void)rsock::sys::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, size);
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
    const ssize_t got =
        receive_message(fd, &one.msg_hdr, how, [&] { return done ? real::recvmsg(fd, &one.msg_hdr, how) : kPassed; });
    if (got == kPassed && done == 0) {
      const int all = libc();
      unsigned length = 0;
      for (int i = 0; i < all && get(length, &messages[i].msg_len); ++i) counted(fd, length, flags);
      return all;
    }
    if (got < 0) break;
    if (!put(&one.msg_len, static_cast<unsigned>(got))) {
      fail(EFAULT);
      break;
    }
    ++done;
    if (flags & MSG_WAITFORONE) flags |= MSG_DONTWAIT;
    if (deadline.passed()) break;
  }
  if (done == 0) return -1;
  if (!deadline.tell()) return fail(EFAULT);
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

RSOCK_EXPORT ssize_t __recvfrom_chk(int fd, void* buffer, size_t size, size_t object, int flags, sockaddr* address,
                                    socklen_t* address_size) {
  if (size > object) __chk_fail();
  if (find(fd))
    return receive_from(fd, buffer, size, flags, address, address_size,
                        [=] { return real::recvfrom(fd, buffer, size, flags, address, address_size); });
  return real::recvfrom(fd, buffer, size, flags, address, address_size);
}

RSOCK_EXPORT ssize_t recvmsg(int fd, msghdr* message, int flags) {
  if (find(fd)) return receive_message(fd, message, flags);
  const ssize_t got = real::recvmsg(fd, message, flags);
  return got >= 0 && has_control(message) ? adopt_received(got, message) : got;
}

RSOCK_EXPORT int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  if (find(fd))
    return receive_messages(fd, messages, count, flags, timeout,
                            [=] { return real::recvmmsg(fd, messages, count, flags, timeout); });
  const int got = real::recvmmsg(fd, messages, count, flags, timeout);
  look_for_received_descriptors(messages, got);
  return got;
}
