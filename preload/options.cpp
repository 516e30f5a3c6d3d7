// Options of sockets and descriptors.

#include <asm/socket.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdarg.h>

#include <climits>
#include <cstddef>
#include <cstring>
#include <optional>

#include "preload/program_memory.hpp"
#include "preload/shell.hpp"

namespace real = rsock::real;
namespace sockets = rsock::preload::sockets;
using namespace rsock::preload;

namespace {

// TCP_ZEROCOPY_RECEIVE. The kernel maps what it can, and says how many bytes are for recv to take: where a lane may be,
// these are all. A flow need not leave its lane for it, and no byte is mapped that nobody counts.
std::optional<int> receive_unmapped(int fd, void* value, socklen_t* size, socklen_t given) {
  const auto answer = sockets::unread(fd);
  if (!answer.served()) return {};
  constexpr auto kLeast = offsetof(tcp_zerocopy_receive, recv_skip_hint), kMost = sizeof(tcp_zerocopy_receive);
  constexpr uint64_t kPage = 4096;
  constexpr uint32_t kTimestamps = 2;  // TCP_CMSG_TS of the kernel
  if (given < kLeast) return fail(EINVAL);
  const auto used = std::min<socklen_t>(given, kMost);
  tcp_zerocopy_receive asked{};
  if (!writable(value, given) || !get_bytes(&asked, value, used)) return fail(EFAULT);
  unsigned char byte;
  for (size_t i = kMost; i < given; ++i) {
    if (!get(byte, static_cast<const unsigned char*>(value) + i)) return fail(EFAULT);
    if (byte != 0) return fail(EINVAL);
  }
  if (!put(size, used)) return fail(EFAULT);
  if (asked.reserved != 0 || asked.msg_flags & ~kTimestamps || asked.address % kPage != 0) return fail(EINVAL);
  const auto& [unread, ended] = *answer.result();
  if (unread == 0 && ended) return fail(EIO);
  const auto most = static_cast<uint32_t>(std::min<size_t>(unread, INT_MAX));
  asked.length = 0, asked.recv_skip_hint = most, asked.inq = most + ended;
  asked.copybuf_len = 0, asked.msg_flags = 0;
  socklen_t error_size = sizeof asked.err;
  asked.err = 0;
  if (used >= offsetof(tcp_zerocopy_receive, copybuf_address))
    (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &asked.err, &error_size);
  asked.err = -asked.err;
  return put_bytes(value, &asked, used) ? 0 : fail(EFAULT);
}

[[gnu::noinline]] int getsockopt_concerned(int fd, int level, int name, void* value, socklen_t* size) {
  socklen_t room;
  if (writable(size, sizeof *size) && get(room, size) && static_cast<int>(room) >= 0) {
    if (level == IPPROTO_TCP && name == TCP_ZEROCOPY_RECEIVE)
      if (const auto answer = receive_unmapped(fd, value, size, room)) return *answer;
    if (const auto answer = sockets::getsockopt(fd, level, name, value, &room); answer.served())
      return put(size, room) ? finish(answer.result()) : fail(EFAULT);
  }
  return real::getsockopt(fd, level, name, value, size);
}

// What a set option asks of every later call, and no lane does: control data with the bytes, looks that move on,
// records of TLS.
bool only_tcp_serves(int level, int name, const void* value, socklen_t size) {
  int number = 1;
  if (size >= sizeof number && !get(number, value)) return false;
  if (level == IPPROTO_TCP) return name == TCP_ULP;
  if (level != SOL_SOCKET) return false;
  switch (name) {
    case SO_PEEK_OFF: return number >= 0;
    case SO_TIMESTAMP_OLD:
    case SO_TIMESTAMPNS_OLD:
    case SO_TIMESTAMPING_OLD:
    case SO_TIMESTAMP_NEW:
    case SO_TIMESTAMPNS_NEW:
    case SO_TIMESTAMPING_NEW: return number != 0;
    default: return false;
  }
}

// A time limit that no call waits for at all, which the kernel keeps and does not tell. A socket may get it before
// anybody knows that it will be selected, as a listener does.
bool is_no_time(int level, int name, const void* value, socklen_t size) {
  if (level != SOL_SOCKET) return false;
  if (name != SO_RCVTIMEO_OLD && name != SO_RCVTIMEO_NEW && name != SO_SNDTIMEO_OLD && name != SO_SNDTIMEO_NEW)
    return false;
  timeval time;
  return !sockets::idle() && size >= sizeof time && get(time, value) && time.tv_sec < 0;
}

[[gnu::noinline]] int setsockopt_concerned(int fd, int level, int name, const void* value, socklen_t size) {
  if (only_tcp_serves(level, name, value, size)) prefer_tcp(fd);
  if (const auto answer = sockets::setsockopt(fd, level, name, value, size); answer.served())
    return finish(answer.result());
  timeval own{};  // the largest that the core looks at
  const auto looked_at = std::min<socklen_t>(size, sizeof own);
  const bool known = get_bytes(&own, value, looked_at);
  const int result = real::setsockopt(fd, level, name, value, size);
  if (result < 0 || sockets::in_borrowed_memory()) return result;
  note(fd);
  sockets::option_set(fd, level, name, known ? &own : nullptr, looked_at);
  return result;
}

// Signals for input and output come from the kernel, which sees none of a lane's.
template <const auto& libc>
[[gnu::noinline]] int fcntl_concerned(int fd, int command, void* argument) {
  if (sockets::in_borrowed_memory()) return libc(fd, command, argument);
  const auto flags = reinterpret_cast<uintptr_t>(argument);
  if (command == F_SETFL && flags & O_ASYNC) prefer_tcp(fd);
  const bool copies = command == F_DUPFD || command == F_DUPFD_CLOEXEC;
  const int result = copies ? with_room<libc>(fd, command, argument) : libc(fd, command, argument);
  if (result < 0) return result;
  if (copies) copied(fd, result);
  if (command == F_SETFL) sockets::nonblocking_set(fd, flags & O_NONBLOCK);
  if (command == F_SETFD && !(flags & FD_CLOEXEC)) sockets::meant_for_next_program(fd);
  return result;
}

[[gnu::noinline]] int ioctl_concerned(int fd, unsigned long request, void* argument) {
  if (request == FIONCLEX && !sockets::in_borrowed_memory()) sockets::meant_for_next_program(fd);
  const bool reads_int = request == FIONBIO || request == FIOASYNC;
  int number;
  if (sockets::in_borrowed_memory() || (!reads_int && !writable(argument, sizeof number)) || !get(number, argument))
    return real::ioctl(fd, request, argument);
  if (request == FIOASYNC && number) prefer_tcp(fd);
  const bool nonblocking = request == FIONBIO && number;
  if (const auto answer = sockets::ioctl(fd, request, &number); answer.served())
    return !answer.result() || put(argument, number) ? finish(answer.result()) : fail(EFAULT);
  const int result = real::ioctl(fd, request, argument);
  if (request == FIONBIO && result == 0) sockets::nonblocking_set(fd, nonblocking);
  return result;
}

}  // namespace

RSOCK_EXPORT int getsockopt(int fd, int level, int name, void* value, socklen_t* size) noexcept {
  if (find(fd)) return getsockopt_concerned(fd, level, name, value, size);
  return real::getsockopt(fd, level, name, value, size);
}

RSOCK_EXPORT int setsockopt(int fd, int level, int name, const void* value, socklen_t size) noexcept {
  if (find(fd) || is_no_time(level, name, value, size)) return setsockopt_concerned(fd, level, name, value, size);
  return real::setsockopt(fd, level, name, value, size);
}

// The variadic ones are defined by the way in which the ABI passes their arguments, see calls.def.

RSOCK_EXPORT int rsock_fcntl(int fd, int command, void* argument) __asm__("fcntl");
int rsock_fcntl(int fd, int command, void* argument) {
  if (find(fd)) return fcntl_concerned<real::fcntl>(fd, command, argument);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) return with_room<real::fcntl>(fd, command, argument);
  return real::fcntl(fd, command, argument);
}
RSOCK_EXPORT __attribute__((alias("fcntl"))) decltype(rsock_fcntl) __fcntl;

RSOCK_EXPORT int rsock_fcntl64(int fd, int command, void* argument) __asm__("fcntl64");
int rsock_fcntl64(int fd, int command, void* argument) {
  if (find(fd)) return fcntl_concerned<real::fcntl64>(fd, command, argument);
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) return with_room<real::fcntl64>(fd, command, argument);
  return real::fcntl64(fd, command, argument);
}

RSOCK_EXPORT int rsock_ioctl(int fd, unsigned long request, void* argument) __asm__("ioctl");
int rsock_ioctl(int fd, unsigned long request, void* argument) {
  if (find(fd)) return ioctl_concerned(fd, request, argument);
  return real::ioctl(fd, request, argument);
}

RSOCK_EXPORT int sockatmark(int fd) noexcept {
  if (!find(fd)) return real::sockatmark(fd);
  int mark = 0;
  return ioctl_concerned(fd, SIOCATMARK, &mark) < 0 ? -1 : mark;
}
