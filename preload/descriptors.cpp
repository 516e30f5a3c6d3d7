// How descriptors of sockets come and go.

#include <linux/close_range.h>

#include <climits>

#include "core/base/own.hpp"
#include "preload/open_descriptors.hpp"
#include "preload/passing.hpp"
#include "preload/program_memory.hpp"
#include "preload/shell.hpp"
#include "preload/waiting.hpp"

namespace real = rsock::real;
namespace sockets = rsock::preload::sockets;
namespace own = rsock::own;
using namespace rsock::preload;

namespace {

constexpr unsigned kNumbers = INT_MAX;  // what a descriptor may be

// There is nothing of ours, or this is no memory of ours to change.
bool only_libc() { return (sockets::idle() && own::next(0) < 0) || sockets::in_borrowed_memory(); }

[[gnu::noinline]] int made(int fd, int domain, int type) {
  if (fd < 0 || sockets::in_borrowed_memory()) return fd;
  note(fd);
  sockets::socket_made(fd, domain, type);
  return fd;
}

// Nothing that is accepted here is selected, as is known already.
[[gnu::always_inline]] inline bool of_no_rule(int listener) { return !find(listener) && sockets::met(listener); }

// A listener that is met for the first time came from another process, by a way that shows nothing of it.
[[gnu::noinline]] int accepted(int listener, int fd, int flags) {
  if (fd < 0 || sockets::in_borrowed_memory()) return fd;
  if (!sockets::met(listener)) {
    note(listener);
    sockets::listening(listener);
    if (!find(listener)) return fd;
  }
  note(fd);
  sockets::accepted(listener, fd, flags);
  return fd;
}

template <const auto& libc, class... Flags>
[[gnu::noinline]] int accept_concerned(int listener, sockaddr* address, socklen_t* size, Flags... flags) {
  ensure_started();
  const int fd = with_room<libc>(listener, address, size, flags...);
  return sockets::idle() ? fd : accepted(listener, fd, (0 | ... | flags));
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
  // Dissolves the connection: the kernel's, with nothing in a lane.
  sa_family_t family;
  if (size >= sizeof family && get(family, &address->sa_family) && family == AF_UNSPEC) to_tcp(fd);
  if (find(fd)) {
    Uncancellable here;
    sockets::end_known(fd);
  }
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

// To the program, a number of the library's own is not open.
bool not_open(int fd) { return own::keeps(fd) && !sockets::in_borrowed_memory(); }

[[gnu::noinline]] int close_unless_own(int fd) {
  if (!not_open(fd)) return real::close(fd);
  if (!own::trusted) return fail(EBADF);
  own::forget(fd);
  return real::close(fd);
}

[[gnu::noinline]] int dup_concerned(int from) {
  const int made = with_room<real::dup>(from);
  if (made >= 0 && !sockets::in_borrowed_memory()) copied(from, made);
  return made;
}

[[gnu::noinline]] void flows_closing(unsigned first, unsigned last) {
  const long end = std::min<long>({last, highest.load(std::memory_order_relaxed), sockets::kTableSize - 1});
  for (long fd = first; fd <= end; ++fd)
    if (find(static_cast<int>(fd))) sockets::before_close(static_cast<int>(fd));
}

// Calls `close(from, to)` for what is between the library's own descriptors, until it fails.
template <class Close>
int around_own(unsigned first, unsigned last, Close close) {
  const sockets::Still still;
  for (int own = own::next(static_cast<int>(std::min(first, kNumbers))); own >= 0; own = own::next(own + 1)) {
    const auto number = static_cast<unsigned>(own);
    if (number > last) break;
    if (first < number && close(first, number - 1) < 0) return -1;
    first = number + 1;
  }
  return first <= last ? close(first, last) : 0;
}

[[gnu::noinline]] int close_range_concerned(unsigned first, unsigned last, int flags) {
  Uncancellable here;
  if (flags & CLOSE_RANGE_UNSHARE) {
    if (sockets::only_thread())
      flags &= ~CLOSE_RANGE_UNSHARE;
    else
      sockets::before_unshare();
  }
  if (flags & CLOSE_RANGE_CLOEXEC) return real::close_range(first, last, flags);
  flows_closing(first, last);
  return around_own(first, last, [&](unsigned from, unsigned to) { return real::close_range(from, to, flags); });
}

// By no other name than close_range: libbsd has a closefrom of its own, which would come back here.
[[gnu::noinline]] void closefrom_concerned(int first) {
  Uncancellable here;
  flows_closing(static_cast<unsigned>(first), ~0U);
  const bool closed = around_own(static_cast<unsigned>(first), ~0U,
                                 [](unsigned from, unsigned to) { return real::close_range(from, to, 0); }) == 0;
  if (closed) return;
  // An old kernel, or a sandbox as old.
  const bool found = each_open_descriptor([=](int fd) {
    if (fd >= first && !own::keeps(fd)) real::close(fd);
  });
  if (found) return;
  for (long fd = first; fd < sysconf(_SC_OPEN_MAX); ++fd)
    if (!own::keeps(static_cast<int>(fd))) real::close(static_cast<int>(fd));
}

// What was at `to` is closed only by a dup that succeeds.
template <class Libc>
[[gnu::noinline]] int dup_onto(int from, int to, Libc libc) {
  if (from == to || sockets::in_borrowed_memory() || !rsock::sys::fcntl(from, F_GETFD, 0)) return libc();
  if (find(to)) sockets::before_close(to);
  const int made = libc();
  if (made >= 0 && find(from)) copied(from, made);
  return made;
}

}  // namespace

RSOCK_EXPORT int socket(int domain, int type, int protocol) noexcept {
  ensure_started();
  const int fd = with_room<real::socket>(domain, type, protocol);
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
  if (of_no_rule(listener)) return with_room<real::accept>(listener, address, size);
  return accept_concerned<real::accept>(listener, address, size);
}

RSOCK_EXPORT int accept4(int listener, sockaddr* address, socklen_t* size, int flags) {
  if (of_no_rule(listener)) return with_room<real::accept4>(listener, address, size, flags);
  return accept_concerned<real::accept4>(listener, address, size, flags);
}

RSOCK_EXPORT int connect(int fd, const sockaddr* address, socklen_t size) {
  ensure_started();
  if (!sockets::idle()) return connect_announced(fd, address, size);
  return real::connect(fd, address, size);
}
RSOCK_EXPORT_ALIAS(__connect, connect);

RSOCK_EXPORT int pidfd_getfd(int process, int theirs, unsigned flags) noexcept {
  ensure_started();
  const int fd = with_room<real::pidfd_getfd>(process, theirs, flags);
  if (fd < 0 || sockets::in_borrowed_memory()) return fd;
  const Uncancellable here;
  const int before = errno;
  sockets::taken(theirs, fd);
  adopt_if_listener(fd);
  errno = before;
  return fd;
}

RSOCK_EXPORT int shutdown(int fd, int how) noexcept {
  if (find(fd))
    if (const auto answer = sockets::shutdown(fd, how); answer.served()) return finish(answer.result());
  return real::shutdown(fd, how);
}

RSOCK_EXPORT int close(int fd) {
  if (find(fd)) return close_concerned(fd);
  if (own::may_keep(fd)) return close_unless_own(fd);
  return real::close(fd);
}
RSOCK_EXPORT_ALIAS(__close, close);

// With other flags it does nothing.
RSOCK_EXPORT int close_range(unsigned first, unsigned last, int flags) noexcept {
  constexpr int kFlags = CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC;
  if (first <= last && (flags & ~kFlags) == 0 && !only_libc()) return close_range_concerned(first, last, flags);
  return real::close_range(first, last, flags);
}

RSOCK_EXPORT void closefrom(int first) noexcept {
  if (!only_libc()) return closefrom_concerned(std::max(first, 0));
  return real::closefrom(first);
}

RSOCK_EXPORT int dup(int from) noexcept { return find(from) ? dup_concerned(from) : with_room<real::dup>(from); }

// What the library cannot give back is as good as a number beyond the limit.
RSOCK_EXPORT int dup2(int from, int to) noexcept {
  if (not_open(to) && (!made_room() || not_open(to))) return fail(EBADF);
  if (find(from) || find(to)) return dup_onto(from, to, [=] { return real::dup2(from, to); });
  if (to >= table_size.load(std::memory_order_relaxed)) return has_number(real::dup2(from, to));
  return real::dup2(from, to);
}
RSOCK_EXPORT_ALIAS(__dup2, dup2);

RSOCK_EXPORT int dup3(int from, int to, int flags) noexcept {
  if (not_open(to) && (!made_room() || not_open(to))) return fail(EBADF);
  if ((find(from) || find(to)) && (flags & ~O_CLOEXEC) == 0)
    return dup_onto(from, to, [=] { return real::dup3(from, to, flags); });
  if (to >= table_size.load(std::memory_order_relaxed)) return has_number(real::dup3(from, to, flags));
  return real::dup3(from, to, flags);
}
