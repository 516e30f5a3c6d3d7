// How descriptors of sockets come and go.

#include <linux/close_range.h>

#include "preload/program_memory.hpp"
#include "preload/shell.hpp"

namespace real = rsock::real;
namespace sockets = rsock::sockets;
using namespace rsock::preload;

namespace {

[[gnu::noinline]] int made(int fd, int domain, int type) {
  if (fd < 0 || sockets::in_borrowed_memory()) return fd;
  note(fd);
  sockets::socket_made(fd, domain, type);
  return fd;
}

[[gnu::noinline]] int accepted(int listener, int fd, int flags) {
  if (fd < 0 || sockets::in_borrowed_memory()) return fd;
  note(fd);
  sockets::accepted(listener, fd, flags);
  return fd;
}

// Tells of a connect(2) that a cancellation ended, too: like one that a signal ended, it goes on in the
// kernel.
class Connecting {
 public:
  explicit Connecting(int fd) : fd_(fd) {}
  Connecting(const Connecting&) = delete;
  Connecting& operator=(const Connecting&) = delete;
  ~Connecting() { sockets::connected(fd_, error_); }
  int ended(int result) {
    error_ = result < 0 ? errno : 0;
    return result;
  }

 private:
  int fd_;
  int error_ = EINTR;
};

[[gnu::noinline]] int connect_announced(int fd, const sockaddr* address, socklen_t size) {
  if (sockets::in_borrowed_memory() || size > sizeof(sockaddr_storage) || !readable(address, size))
    return real::connect(fd, address, size);
  note(fd);
  if (!sockets::connecting(fd, address, size)) return real::connect(fd, address, size);
  Connecting now(fd);
  return now.ended(real::connect(fd, address, size));
}

[[gnu::noinline]] int close_concerned(int fd) {
  if (!sockets::in_borrowed_memory()) {
    Uncancellable here;
    sockets::before_close(fd);
  }
  return real::close(fd);
}

[[gnu::noinline]] void closing_range(unsigned first, unsigned last) {
  if (sockets::in_borrowed_memory()) return;
  const int end = static_cast<int>(
      std::min<unsigned>(last, static_cast<unsigned>(highest.load(std::memory_order_relaxed))));
  for (unsigned fd = first; static_cast<int>(fd) <= end && fd <= last; ++fd)
    if (find(static_cast<int>(fd))) sockets::before_close(static_cast<int>(fd));
}

// What was at `to` is closed only by a dup that succeeds.
template <class Libc>
[[gnu::noinline]] int dup_onto(int from, int to, Libc libc) {
  if (from == to || sockets::in_borrowed_memory() || real::fcntl(from, F_GETFD, nullptr) < 0) return libc();
  if (find(to)) sockets::before_close(to);
  const int made = libc();
  if (made >= 0 && find(from)) copied(from, made);
  return made;
}

}  // namespace

RSOCK_EXPORT int socket(int domain, int type, int protocol) noexcept {
  ensure_started();
  const int fd = real::socket(domain, type, protocol);
  return sockets::idle() ? fd : made(fd, domain, type);
}

RSOCK_EXPORT int listen(int fd, int backlog) noexcept {
  ensure_started();
  const int result = real::listen(fd, backlog);
  if (result == 0 && !sockets::idle() && !sockets::in_borrowed_memory()) {
    note(fd);
    sockets::listening(fd);
  }
  return result;
}

RSOCK_EXPORT int accept(int listener, sockaddr* address, socklen_t* size) {
  ensure_started();
  if (find(listener)) return accepted(listener, real::accept(listener, address, size), 0);
  return real::accept(listener, address, size);
}

RSOCK_EXPORT int accept4(int listener, sockaddr* address, socklen_t* size, int flags) {
  ensure_started();
  if (find(listener)) return accepted(listener, real::accept4(listener, address, size, flags), flags);
  return real::accept4(listener, address, size, flags);
}

RSOCK_EXPORT int connect(int fd, const sockaddr* address, socklen_t size) {
  ensure_started();
  if (!sockets::idle()) return connect_announced(fd, address, size);
  return real::connect(fd, address, size);
}
RSOCK_EXPORT_ALIAS(__connect, connect);

RSOCK_EXPORT int shutdown(int fd, int how) noexcept {
  if (find(fd))
    if (const auto answer = sockets::shutdown(fd, how); answer.served()) return finish(answer.result());
  return real::shutdown(fd, how);
}

RSOCK_EXPORT int close(int fd) {
  if (find(fd)) return close_concerned(fd);
  return real::close(fd);
}
RSOCK_EXPORT_ALIAS(__close, close);

// Only with these flags does it close in this process; unknown flags close nothing.
RSOCK_EXPORT int close_range(unsigned first, unsigned last, int flags) noexcept {
  if (first <= last && (flags & ~CLOSE_RANGE_UNSHARE) == 0 && !nothing_concerns_us())
    closing_range(first, last);
  return real::close_range(first, last, flags);
}

RSOCK_EXPORT void closefrom(int first) noexcept {
  if (!nothing_concerns_us()) closing_range(static_cast<unsigned>(std::max(first, 0)), ~0U);
  return real::closefrom(first);
}

RSOCK_EXPORT int dup(int from) noexcept {
  if (!find(from)) return real::dup(from);
  const int made = real::dup(from);
  if (made >= 0 && !sockets::in_borrowed_memory()) copied(from, made);
  return made;
}

RSOCK_EXPORT int dup2(int from, int to) noexcept {
  if (find(from) || find(to)) return dup_onto(from, to, [=] { return real::dup2(from, to); });
  return real::dup2(from, to);
}
RSOCK_EXPORT_ALIAS(__dup2, dup2);

RSOCK_EXPORT int dup3(int from, int to, int flags) noexcept {
  if ((find(from) || find(to)) && (flags & ~O_CLOEXEC) == 0)
    return dup_onto(from, to, [=] { return real::dup3(from, to, flags); });
  return real::dup3(from, to, flags);
}
