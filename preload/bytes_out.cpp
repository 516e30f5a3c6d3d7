// write, send and their kin.

#include <signal.h>
#include <sys/syscall.h>

#include "preload/passing.hpp"
#include "preload/program_vector.hpp"
#include "preload/shell.hpp"

namespace real = rsock::real;
namespace sockets = rsock::preload::sockets;
using namespace rsock::preload;

namespace {

ssize_t counted(int fd, ssize_t moved) {
  if (moved > 0) sockets::passed_out(fd, static_cast<size_t>(moved));
  return moved;
}

// As the kernel: to the calling thread, in the kernel's name, and with EPIPE only.
ssize_t finish_sending(const rsock::Result<size_t>& result, int flags) {
  if (result.is(EPIPE) && !(flags & MSG_NOSIGNAL)) {
    siginfo_t siginfo{};
    siginfo.si_signo = SIGPIPE;
    siginfo.si_code = SI_USER;
    siginfo.si_pid = rsock::sys::process_id();
    siginfo.si_uid = static_cast<uid_t>(rsock::system_call(SYS_getuid));
    rsock::system_call(SYS_rt_tgsigqueueinfo, siginfo.si_pid, rsock::sys::thread_id(), SIGPIPE, &siginfo);
  }
  return finish(result);
}

void leave_lane_for(int fd, int flags) {
  if (flags & (MSG_OOB | MSG_FASTOPEN | MSG_ZEROCOPY)) to_tcp(fd);
}

template <class Libc>
[[gnu::noinline]] ssize_t transmit(int fd, const void* buffer, size_t size, int flags, Libc libc) {
  leave_lane_for(fd, flags);
  const ProgramVector from(buffer, size, Access::read);
  if (from.error()) return fail(from.error());
  const auto answer = sockets::transmit(fd, from.parts(), flags);
  return answer.served() ? finish_sending(answer.result(), flags) : counted(fd, libc());
}

template <class Libc>
[[gnu::noinline]] ssize_t write_one(int fd, const void* buffer, size_t size, Libc libc) {
  return static_cast<ssize_t>(size) < 0 ? libc() : transmit(fd, buffer, size, 0, libc);
}

template <class Libc>
[[gnu::noinline]] ssize_t write_parts(int fd, const iovec* parts, int count, Libc libc) {
  const ProgramVector from(parts, static_cast<unsigned>(count), Access::read);
  if (from.error()) return fail(from.error());
  if (from.empty()) return libc();  // which gives 0 at once, unlike send
  const auto answer = sockets::transmit(fd, from.parts(), 0);
  return answer.served() ? finish_sending(answer.result(), 0) : counted(fd, libc());
}

// Offset -1 makes it writev; with another offset, or flags that no lane knows, the kernel answers.
template <class Libc>
[[gnu::noinline]] ssize_t write_parts_at(int fd, const iovec* parts, int count, off64_t offset, int flags, Libc libc) {
  if (offset == -1 && flags == 0) return write_parts(fd, parts, count, libc);
  if (offset == -1) to_tcp(fd);
  return libc();
}

// The address of a connected TCP socket is checked, by libc if it is bad, and then ignored.
bool is_address(const void* address, socklen_t size) {
  return static_cast<int>(size) >= 0 && readable(address, std::min<size_t>(size, sizeof(sockaddr_storage)));
}

template <class Libc>
[[gnu::noinline]] ssize_t transmit_to(int fd, const void* buffer, size_t size, int flags, const sockaddr* address,
                                      socklen_t address_size, Libc libc) {
  if (address && (address_size > sizeof(sockaddr_storage) || !is_address(address, address_size))) return libc();
  return transmit(fd, buffer, size, flags, libc);
}

template <class Libc>
[[gnu::noinline]] ssize_t transmit_message(int fd, const msghdr* message, int flags, Libc libc) {
  msghdr own;
  if (!get(own, message)) return fail(EFAULT);
  if (flags & kCompat) return fail(EINVAL);
  if (own.msg_controllen && !readable(own.msg_control, own.msg_controllen)) return libc();
  if (own.msg_name && !is_address(own.msg_name, own.msg_namelen)) return libc();
  leave_lane_for(fd, flags);
  const ProgramVector from(own.msg_iov, own.msg_iovlen, Access::read, kMostBytes, EMSGSIZE);
  if (from.error()) return fail(from.error());
  const auto answer = sockets::transmit(fd, from.parts(), flags, &own);
  return answer.served() ? finish_sending(answer.result(), flags) : counted(fd, libc());
}

// How many bytes it asks to be sent, as far as that can be known before it is looked at.
size_t size_of(const msghdr* message) {
  msghdr own;
  if (!get(own, message) || own.msg_iovlen > kMostParts) return 0;
  size_t sum = 0;
  for (size_t i = 0; i < own.msg_iovlen; ++i) {
    iovec part;
    if (!get(part, own.msg_iov + i)) return 0;
    sum += part.iov_len;
  }
  return sum;
}

// Given by a `libc` that only tells its caller of the pass.
constexpr ssize_t kPassed = -2;

// sendmmsg(2): as recvmmsg in bytes_in.cpp, but a message that was sent in part ends it.
template <class Libc>
[[gnu::noinline]] int transmit_messages(int fd, mmsghdr* messages, unsigned count, int flags, Libc libc) {
  if (count == 0) return libc();
  count = std::min<unsigned>(count, kMostParts);
  const int saved = errno;
  unsigned done = 0;
  while (done < count) {
    mmsghdr& one = messages[done];
    if (!writable(&one, sizeof one)) {
      fail(EFAULT);
      break;
    }
    const size_t asked = size_of(&one.msg_hdr);
    const ssize_t sent = transmit_message(fd, &one.msg_hdr, flags,
                                          [&] { return done ? real::sendmsg(fd, &one.msg_hdr, flags) : kPassed; });
    if (sent == kPassed && done == 0) {
      const int all = libc();
      unsigned length = 0;
      for (int i = 0; i < all && get(length, &messages[i].msg_len); ++i) counted(fd, length);
      return all;
    }
    if (sent < 0) break;
    if (!put(&one.msg_len, static_cast<unsigned>(sent))) {
      fail(EFAULT);
      break;
    }
    ++done;
    if (static_cast<size_t>(sent) < asked) break;  // the next would come in its midst
  }
  if (done == 0) return -1;
  errno = saved;
  return static_cast<int>(done);
}

// On another descriptor, which may be the way of a flow's descriptor to another process.
[[gnu::noinline]] ssize_t sendmsg_elsewhere(int fd, const msghdr* message, int flags) {
  look_for_passed_descriptors(message);
  return real::sendmsg(fd, message, flags);
}
[[gnu::noinline]] int sendmmsg_elsewhere(int fd, mmsghdr* messages, unsigned count, int flags) {
  look_for_passed_descriptors(messages, count);
  return real::sendmmsg(fd, messages, count, flags);
}

constexpr sockets::Pipes kPipes{
    [](int in, off64_t* in_offset, int out, off64_t* out_offset, size_t size, unsigned flags) {
      return real::splice(in, in_offset, out, out_offset, size, flags);
    },
    [](int in, int out, size_t size, unsigned flags) { return real::tee(in, out, size, flags); },
    [](pollfd* list, nfds_t count, int timeout) { return real::poll(list, count, timeout); }};

// With an offset it is an error, which libc knows.
[[gnu::noinline]] ssize_t splice_concerned(int in, off64_t* in_offset, int out, off64_t* out_offset, size_t size,
                                           unsigned flags) {
  if (!in_offset && !out_offset && !sockets::in_borrowed_memory()) {
    const auto answer =
        find(in) ? sockets::splice_in(in, out, size, flags, kPipes) : sockets::splice_out(in, out, size, flags, kPipes);
    if (answer.served()) return finish_sending(answer.result(), find(in) ? MSG_NOSIGNAL : 0);
  }
  const auto moved = real::splice(in, in_offset, out, out_offset, size, flags);
  if (moved > 0) sockets::passed_in(in, static_cast<size_t>(moved));
  return counted(out, moved);
}

template <class Libc>
[[gnu::noinline]] ssize_t transmit_file(int out, int in, off64_t* offset, size_t count, Libc libc) {
  off64_t at = 0;
  if (offset && (!writable(offset, sizeof *offset) || !get(at, offset))) return fail(EFAULT);
  Uncancellable here;
  const auto answer = sockets::transmit_file(out, in, offset ? &at : nullptr, std::min(count, kMostBytes));
  if (offset && !put(offset, at)) return fail(EFAULT);
  return answer.served() ? finish_sending(answer.result(), 0) : counted(out, libc());
}

}  // namespace

RSOCK_EXPORT ssize_t write(int fd, const void* buffer, size_t size) {
  if (find(fd)) return write_one(fd, buffer, size, [=] { return real::write(fd, buffer, size); });
  return real::write(fd, buffer, size);
}
RSOCK_EXPORT_ALIAS(__write, write);

RSOCK_EXPORT ssize_t writev(int fd, const iovec* parts, int count) {
  if (find(fd)) return write_parts(fd, parts, count, [=] { return real::writev(fd, parts, count); });
  return real::writev(fd, parts, count);
}

RSOCK_EXPORT ssize_t pwritev2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  if (find(fd))
    return write_parts_at(fd, parts, count, offset, flags,
                          [=] { return real::pwritev2(fd, parts, count, offset, flags); });
  return real::pwritev2(fd, parts, count, offset, flags);
}

RSOCK_EXPORT ssize_t pwritev64v2(int fd, const iovec* parts, int count, off64_t offset, int flags) {
  if (find(fd))
    return write_parts_at(fd, parts, count, offset, flags,
                          [=] { return real::pwritev64v2(fd, parts, count, offset, flags); });
  return real::pwritev64v2(fd, parts, count, offset, flags);
}

RSOCK_EXPORT ssize_t send(int fd, const void* buffer, size_t size, int flags) {
  if (find(fd)) return transmit(fd, buffer, size, flags, [=] { return real::send(fd, buffer, size, flags); });
  return real::send(fd, buffer, size, flags);
}
RSOCK_EXPORT_ALIAS(__send, send);

RSOCK_EXPORT ssize_t sendto(int fd, const void* buffer, size_t size, int flags, const sockaddr* address,
                            socklen_t address_size) {
  if (find(fd))
    return transmit_to(fd, buffer, size, flags, address, address_size,
                       [=] { return real::sendto(fd, buffer, size, flags, address, address_size); });
  return real::sendto(fd, buffer, size, flags, address, address_size);
}

RSOCK_EXPORT ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  if (find(fd)) return transmit_message(fd, message, flags, [=] { return real::sendmsg(fd, message, flags); });
  if (nothing_concerns_us()) return real::sendmsg(fd, message, flags);
  return sendmsg_elsewhere(fd, message, flags);
}

RSOCK_EXPORT int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  if (find(fd))
    return transmit_messages(fd, messages, count, flags, [=] { return real::sendmmsg(fd, messages, count, flags); });
  if (nothing_concerns_us()) return real::sendmmsg(fd, messages, count, flags);
  return sendmmsg_elsewhere(fd, messages, count, flags);
}

RSOCK_EXPORT ssize_t splice(int in, off64_t* in_offset, int out, off64_t* out_offset, size_t size, unsigned flags) {
  if (find(in) || find(out)) return splice_concerned(in, in_offset, out, out_offset, size, flags);
  return real::splice(in, in_offset, out, out_offset, size, flags);
}

RSOCK_EXPORT ssize_t sendfile(int out, int in, off_t* offset, size_t count) noexcept {
  if (find(out)) return transmit_file(out, in, offset, count, [=] { return real::sendfile(out, in, offset, count); });
  return real::sendfile(out, in, offset, count);
}

RSOCK_EXPORT ssize_t sendfile64(int out, int in, off64_t* offset, size_t count) noexcept {
  if (find(out)) return transmit_file(out, in, offset, count, [=] { return real::sendfile64(out, in, offset, count); });
  return real::sendfile64(out, in, offset, count);
}
