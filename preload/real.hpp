#pragma once
// The next definitions of the names in calls.def, which is libc's as a rule: real::recv(fd, …) and so on.
//
// Each is a pointer that is constant-initialised to a function that binds it and goes on to what it found. So
// a call is one indirect jump without a check, and works before any constructor ran, also within the first
// call of an allocator: nothing is allocated. bind_all() binds all at the start (dlsym, RTLD_NEXT), so that
// later calls from signal handlers and children of fork never enter the loader. Any thread; binding twice at
// once finds the same. Errno is not touched by binding. A name that this libc lacks is the bare system call
// if a newer libc makes no more of it, and fails with ENOSYS otherwise.

#include <aio.h>
#include <dirent.h>
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <type_traits>

#include "core/base/newer_calls.hpp"
#include "core/base/system_call.hpp"
#include "preload/undeclared.hpp"

namespace rsock::real {

enum class Name : unsigned {
#define RSOCK_CALL(name) name,
#define RSOCK_CALL_AS(name, signature) name,
#define RSOCK_OWN(name)
#define RSOCK_ALIAS(alias, name)
#include "preload/calls.def"
#undef RSOCK_CALL
#undef RSOCK_CALL_AS
};

// The next definition after this library, or null. The early one allocates nothing, and may miss one of a
// library that was linked in an uncommon way.
void* early_definition(Name name);
void* next_definition(Name name);
void bind_all();

// The system call that a name newer than glibc 2.31 is.
constexpr long kNone = -1;
constexpr long number_of(Name name) {
  switch (name) {
    case Name::close_range: return SYS_close_range;
    case Name::epoll_pwait2: return SYS_epoll_pwait2;
    case Name::execveat: return SYS_execveat;
    case Name::pidfd_getfd: return SYS_pidfd_getfd;
    case Name::pidfd_open: return SYS_pidfd_open;
    default: return kNone;
  }
}

// The pointer type without the attributes and the exception specification of libc's header.
template <class R, class... A>
auto plain(R (*function)(A...)) -> R (*)(A...);

template <Name name, class Pointer>
class Next;
template <Name name, class R, class... A>
class Next<name, R (*)(A...)> {
 public:
  using Pointer = R (*)(A...);

  R operator()(A... arguments) const { return target_.load(std::memory_order_relaxed)(arguments...); }

  static void bind() { bind_to(next_definition(name)); }

 private:
  static void bind_to(void* found) {
    target_.store(found ? reinterpret_cast<Pointer>(found) : missing, std::memory_order_relaxed);
  }
  static R first_call(A... arguments) {
    void* const found = early_definition(name);
    bind_to(found ? found : next_definition(name));
    return target_.load(std::memory_order_relaxed)(arguments...);
  }
  static R missing(A... arguments) {
    if constexpr (constexpr long number = number_of(name); number != kNone) {
      constexpr size_t kSignals = 64 / 8;  // the size of a mask, for the one that has one
      const long answer = system_call(number, arguments..., kSignals);
      if (!is_error(answer)) return static_cast<R>(answer);
      return errno = static_cast<int>(-answer), R(-1);
    }
    errno = ENOSYS;
    if constexpr (std::is_pointer_v<R>)
      return nullptr;
    else if constexpr (!std::is_void_v<R>)
      return R(-1);
  }

  static constinit inline std::atomic<Pointer> target_{first_call};
};

#define RSOCK_CALL(name) inline constexpr Next<Name::name, decltype(plain(&::name))> name{};
#define RSOCK_CALL_AS(name, signature) inline constexpr Next<Name::name, std::add_pointer_t<signature>> name{};
#include "preload/calls.def"
#undef RSOCK_CALL
#undef RSOCK_CALL_AS
#undef RSOCK_OWN
#undef RSOCK_ALIAS

}  // namespace rsock::real
