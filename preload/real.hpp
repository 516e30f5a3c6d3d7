#pragma once
// The next definitions of the names in calls.def, which is libc's as a rule: real::recv(fd, …) and so on.
//
// Each is a pointer that is constant-initialised to a function that binds it (dlsym, RTLD_NEXT) and goes on
// to what it found. So a call is one indirect jump without a check, and works before any constructor ran.
// bind_all() binds the rest at the start, so that later calls from signal handlers and children of fork never
// enter the loader. Any thread; binding twice at once finds the same. Errno is not touched by binding. A name
// that this libc lacks fails with ENOSYS.

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
extern "C" {  // which glibc 2.36 forgot
#include <sys/pidfd.h>
}
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

// The next definition after this library, or null.
void* next_definition(Name name);
void bind_all();

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

  static Pointer bind() {
    if (void* found = next_definition(name))
      target_.store(reinterpret_cast<Pointer>(found), std::memory_order_relaxed);
    else
      target_.store(missing, std::memory_order_relaxed);
    return target_.load(std::memory_order_relaxed);
  }

 private:
  static R first_call(A... arguments) { return bind()(arguments...); }
  static R missing(A...) {
    errno = ENOSYS;
    if constexpr (std::is_pointer_v<R>)
      return nullptr;
    else if constexpr (!std::is_void_v<R>)
      return R(-1);
  }

  static constinit inline std::atomic<Pointer> target_{first_call};
};

#define RSOCK_CALL(name) inline constexpr Next<Name::name, decltype(plain(&::name))> name{};
#define RSOCK_CALL_AS(name, signature) \
  inline constexpr Next<Name::name, std::add_pointer_t<signature>> name{};
#include "preload/calls.def"
#undef RSOCK_CALL
#undef RSOCK_CALL_AS
#undef RSOCK_OWN
#undef RSOCK_ALIAS

}  // namespace rsock::real
