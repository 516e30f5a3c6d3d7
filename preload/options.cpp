// Options of sockets and descriptors.

#include <asm/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>

#include "preload/program_memory.hpp"
#include "preload/shell.hpp"

namespace real = rsock::real;
namespace sockets = rsock::sockets;
using namespace rsock::preload;

namespace {

[[gnu::noinline]] int getsockopt_concerned(int fd, int level, int name, void* value, socklen_t* size) {
  if (writable(size, sizeof *size) && static_cast<int>(*size) >= 0)
    if (const auto answer = sockets::getsockopt(fd, level, name, value, size); answer.served())
      return finish(answer.result());
  return real::getsockopt(fd, level, name, value, size);
}

// What a set option asks of every later call, and no lane does: control data with the bytes, looks that move on,
// records of TLS.
bool only_tcp_serves(int level, int name, const void* value, socklen_t size) {
  int number = 1;
  if (size >= sizeof number) __builtin_memcpy(&number, value, sizeof number);
  if (level == IPPROTO_TCP) return name == TCP_ULP || (name == TCP_INQ && number != 0);
  if (level != SOL_SOCKET) return false;
  switch (name) {
    case SO_PEEK_OFF:
      return number >= 0;
    case SO_TIMESTAMP_OLD:
    case SO_TIMESTAMPNS_OLD:
    case SO_TIMESTAMPING_OLD:
    case SO_TIMESTAMP_NEW:
    case SO_TIMESTAMPNS_NEW:
    case SO_TIMESTAMPING_NEW:
      return number != 0;
    default:
      return false;
  }
}

[[gnu::noinline]] int setsockopt_concerned(int fd, int level, int name, const void* value, socklen_t size) {
  if (readable(value, size) && only_tcp_serves(level, name, value, size)) to_tcp(fd);
  const int result = real::setsockopt(fd, level, name, value, size);
  if (result == 0 && !sockets::in_borrowed_memory()) sockets::option_set(fd, level, name, value, size);
  return result;
}

// Signals for input and output come from the kernel, which sees none of a lane's.
template <class Real>
[[gnu::noinline]] int fcntl_concerned(Real libc, int fd, int command, void* argument) {
  if (sockets::in_borrowed_memory()) return libc(fd, command, argument);
  const auto flags = reinterpret_cast<uintptr_t>(argument);
  if (command == F_SETFL && flags & O_ASYNC) to_tcp(fd);
  const int result = libc(fd, command, argument);
  if (result < 0) return result;
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) copied(fd, result);
  if (command == F_SETFL) sockets::nonblocking_set(fd, flags & O_NONBLOCK);
  if (command == F_SETFD && !(flags & FD_CLOEXEC)) sockets::meant_for_next_program(fd);
  return result;
}

[[gnu::noinline]] int ioctl_concerned(int fd, unsigned long request, void* argument) {
  if (request == FIONCLEX && !sockets::in_borrowed_memory()) sockets::meant_for_next_program(fd);
  const bool reads_int = request == FIONBIO || request == FIOASYNC;
  if (sockets::in_borrowed_memory() ||
      !(reads_int ? readable(argument, sizeof(int)) : writable(argument, sizeof(int))))
    return real::ioctl(fd, request, argument);
  if (request == FIOASYNC && *static_cast<const int*>(argument)) to_tcp(fd);
  if (const auto answer = sockets::ioctl(fd, request, argument); answer.served())
    return finish(answer.result());
  const bool nonblocking = request == FIONBIO && *static_cast<const int*>(argument);
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
  if (find(fd)) return setsockopt_concerned(fd, level, name, value, size);
  return real::setsockopt(fd, level, name, value, size);
}

// The variadic ones are defined by the way in which the ABI passes their arguments, see calls.def.

RSOCK_EXPORT int rsock_fcntl(int fd, int command, void* argument) __asm__("fcntl");
int rsock_fcntl(int fd, int command, void* argument) {
  if (find(fd)) return fcntl_concerned(real::fcntl, fd, command, argument);
  return real::fcntl(fd, command, argument);
}
RSOCK_EXPORT __attribute__((alias("fcntl"))) decltype(rsock_fcntl) __fcntl;

RSOCK_EXPORT int rsock_fcntl64(int fd, int command, void* argument) __asm__("fcntl64");
int rsock_fcntl64(int fd, int command, void* argument) {
  if (find(fd)) return fcntl_concerned(real::fcntl64, fd, command, argument);
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
