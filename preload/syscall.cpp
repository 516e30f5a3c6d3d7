// syscall(2): socket calls by number become the calls by name, for descriptors of concern. All else goes on
// as it is.
//
// libc's syscall is no cancellation point, so cancellation is off while a named call, which may be one,
// stands in for it.

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstring>

#include "core/base/copy.hpp"
#include "preload/io_uring.hpp"
#include "preload/processes.hpp"
#include "preload/program_memory.hpp"
#include "preload/shell.hpp"
#include "preload/waiting.hpp"

namespace real = rsock::real;
namespace sockets = rsock::preload::sockets;
using namespace rsock::preload;

namespace {

struct Arguments {
  long number, a, b, c, d, e, f;
};

template <class T>
T as(long value) {
  if constexpr (std::is_pointer_v<T>)
    return reinterpret_cast<T>(value);
  else
    return static_cast<T>(value);
}

// Calls `named` with the first of the six, converted to its own types.
template <class R, class... A>
long call(R (*named)(A...), const Arguments& it) {
  Uncancellable here;
  const long values[] = {it.a, it.b, it.c, it.d, it.e, it.f};
  return [&]<size_t... i>(std::index_sequence<i...>) { return static_cast<long>(named(as<A>(values[i])...)); }
  (std::index_sequence_for<A...>{});
}

// epoll_pwait and epoll_pwait2 by number have the size of the mask behind it.
bool has_mask_of_wrong_size(const Arguments& it) { return it.e != 0 && as<size_t>(it.f) != kMaskSize; }

// The kernel's struct sigaction is not libc's.
long rt_sigaction(const Arguments& it) {
  struct Action {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)();
    uint64_t mask;
  };
  constexpr unsigned long kRestorer = 0x04000000;
  const auto* wanted = as<const Action*>(it.b);
  auto* before = as<Action*>(it.c);
  if (as<size_t>(it.d) != sizeof wanted->mask) return fail(EINVAL);
  Action own{};
  if ((wanted && !get(own, wanted)) || (before && !writable(before, sizeof *before))) return fail(EFAULT);
  struct sigaction changed {
  }, was{};
  if (wanted) {
    changed.sa_handler = own.handler;
    changed.sa_flags = static_cast<int>(own.flags & ~kRestorer);
    std::memcpy(&changed.sa_mask, &own.mask, sizeof own.mask);
  }
  const int result = sigaction(as<int>(it.a), wanted ? &changed : nullptr, &was);
  if (result == 0 && before) {
    own = {was.sa_handler, static_cast<unsigned long>(was.sa_flags), nullptr, 0};
    std::memcpy(&own.mask, &was.sa_mask, sizeof own.mask);
    if (!put(before, own)) return fail(EFAULT);
  }
  return result;
}

// The first argument is a descriptor of concern.
[[gnu::noinline]] long on_first(long number, long a, long b, long c, long d, long e, long f) {
  const Arguments it{number, a, b, c, d, e, f};
  switch (number) {
    case SYS_read: return call(read, it);
    case SYS_readv: return call(readv, it);
    case SYS_recvfrom: return call(recvfrom, it);
    case SYS_write: return call(write, it);
    case SYS_writev: return call(writev, it);
    case SYS_sendto: return call(sendto, it);
    case SYS_sendfile: return call(sendfile, it);
    case SYS_shutdown: return call(shutdown, it);
    case SYS_dup: return call(dup, it);
    case SYS_getsockopt: return call(getsockopt, it);
    case SYS_setsockopt: return call(setsockopt, it);
    case SYS_epoll_pwait: return has_mask_of_wrong_size(it) ? fail(EINVAL) : call(epoll_pwait, it);
    case SYS_epoll_pwait2: return has_mask_of_wrong_size(it) ? fail(EINVAL) : call(epoll_pwait2, it);
#ifdef SYS_epoll_wait
    case SYS_epoll_wait: return call(epoll_wait, it);
#endif
    // The offset comes in two halves, of which the second is unused on 64-bit machines.
    case SYS_preadv2: {
      Uncancellable here;
      return preadv2(as<int>(it.a), as<const iovec*>(it.b), as<int>(it.c), it.d, as<int>(it.f));
    }
    case SYS_pwritev2: {
      Uncancellable here;
      return pwritev2(as<int>(it.a), as<const iovec*>(it.b), as<int>(it.c), it.d, as<int>(it.f));
    }
    case SYS_fcntl: {
      Uncancellable here;
      return fcntl(as<int>(it.a), as<int>(it.b), it.c);
    }
    case SYS_ioctl: {
      Uncancellable here;
      return ioctl(as<int>(it.a), as<unsigned long>(it.b), it.c);
    }
    default: return real::syscall(number, a, b, c, d, e, f);
  }
}

// These concern us whatever their first argument is: they make descriptors, or name them elsewhere.
// clang-format off
#define RSOCK_ALWAYS_NAMED(X)                                                                     \
  X(socket) X(close) X(listen) X(accept) X(accept4) X(connect) X(close_range) X(dup3) X(munmap)   \
  X(mprotect) X(recvmsg) X(recvmmsg) X(sendmsg) X(sendmmsg) X(splice) X(epoll_ctl) X(execve)      \
  X(execveat) X(pidfd_getfd)
// clang-format on
#ifdef SYS_poll
#define RSOCK_ALWAYS_NAMED_OLD(X) X(poll) X(dup2)
#else
#define RSOCK_ALWAYS_NAMED_OLD(X)
#endif

bool always_named(long number, long first) {
  switch (number) {
#define RSOCK_CASE(name) case SYS_##name:
    RSOCK_ALWAYS_NAMED(RSOCK_CASE)
    RSOCK_ALWAYS_NAMED_OLD(RSOCK_CASE)
#undef RSOCK_CASE
    case SYS_ppoll:
    case SYS_pselect6:
#ifdef SYS_select
    case SYS_select:
#endif
    case SYS_mmap:
    case SYS_mremap:
    case SYS_exit:
    case SYS_exit_group:
    case SYS_prctl:
    case SYS_seccomp:
    case SYS_io_uring_setup: return true;
    case SYS_rt_sigprocmask: return true;
    case SYS_rt_sigaction: return !sockets::idle() && first != 32 && first != 33;  // libc's own signals
    default: return false;
  }
}

[[gnu::noinline]] long named(long number, long a, long b, long c, long d, long e, long f) {
  const Arguments it{number, a, b, c, d, e, f};
  switch (number) {
#define RSOCK_CASE(name) \
  case SYS_##name: return call(name, it);
    RSOCK_ALWAYS_NAMED(RSOCK_CASE)
    RSOCK_ALWAYS_NAMED_OLD(RSOCK_CASE)
#undef RSOCK_CASE
    case SYS_exit: sockets::thread_ends(as<int>(a)); return real::syscall(number, a, b, c, d, e, f);
    case SYS_exit_group: _exit(as<int>(a));
    case SYS_rt_sigaction: return rt_sigaction(it);
    case SYS_rt_sigprocmask: {
      if (b) rsock::mask_changes(rsock::kFaults);
      return real::syscall(number, a, b, c, d, e, f);
    }
    case SYS_prctl: before_prctl(as<int>(a), b, c); return real::syscall(number, a, b, c, d, e, f);
    case SYS_seccomp: before_seccomp(a, c); return real::syscall(number, a, b, c, d, e, f);
    case SYS_mmap: return as_word(mmap(as<void*>(a), as<size_t>(b), as<int>(c), as<int>(d), as<int>(e), f));
    case SYS_mremap: return as_word(mremap(as<void*>(a), as<size_t>(b), as<size_t>(c), as<int>(d), as<void*>(e)));
    case SYS_ppoll: return call(ppoll_by_number, it);
#ifdef SYS_select
    case SYS_select: return call(select_by_number, it);
#endif
    case SYS_io_uring_setup: return may_make_ring() ? with_room<real::syscall>(number, a, b, c, d, e, f) : fail(ENOSYS);
    default: return call(pselect6_by_number, it);
  }
}

bool makes_descriptor(long number) {
  switch (number) {
#ifdef SYS_open
    case SYS_open:
    case SYS_creat:
    case SYS_pipe:
    case SYS_eventfd:
    case SYS_signalfd:
    case SYS_epoll_create:
    case SYS_inotify_init:
#endif
    case SYS_openat:
    case SYS_openat2:
    case SYS_open_by_handle_at:
    case SYS_pipe2:
    case SYS_socketpair:
    case SYS_dup:
    case SYS_fcntl:
    case SYS_eventfd2:
    case SYS_signalfd4:
    case SYS_timerfd_create:
    case SYS_epoll_create1:
    case SYS_inotify_init1:
    case SYS_fanotify_init:
    case SYS_memfd_create:
    case SYS_pidfd_open:
    case SYS_userfaultfd:
    case SYS_perf_event_open:
    case SYS_mq_open:
    case SYS_bpf:
    case SYS_open_tree:
    case SYS_fsopen:
    case SYS_fspick:
    case SYS_fsmount: return true;
    default: return false;
  }
}

}  // namespace

RSOCK_EXPORT long rsock_syscall(long number, long a, long b, long c, long d, long e, long f) __asm__("syscall");
long rsock_syscall(long number, long a, long b, long c, long d, long e, long f) {
  if (always_named(number, a)) return named(number, a, b, c, d, e, f);
  if (find(as<int>(a))) return on_first(number, a, b, c, d, e, f);
  if (makes_descriptor(number)) return with_room<real::syscall>(number, a, b, c, d, e, f);
  return real::syscall(number, a, b, c, d, e, f);
}
