#pragma once
// What the interposers share. An interposer asks find(fd); a descriptor that is of no concern goes to libc
// with the same arguments, result and errno, by a tail jump. Errno is set here and nowhere else, from the
// core's results.

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "core/base/limit.hpp"
#include "core/base/numbers.hpp"
#include "core/base/own.hpp"
#include "preload/guarded.hpp"
#include "preload/real.hpp"
#include "preload/start.hpp"

#define RSOCK_EXPORT extern "C" __attribute__((visibility("default")))
// A second name for a function defined above in the same file.
#define RSOCK_EXPORT_ALIAS(alias_name, name) \
  extern "C" __attribute__((visibility("default"), alias(#name))) decltype(name) alias_name

namespace rsock::preload {

using sockets::find;

// No descriptor above this one was ever announced to the core, so none is of concern; -1 at first. Bounds
// walks over the table.
inline constinit std::atomic<int> highest{-1};

inline bool nothing_concerns_us() { return sockets::concerned.load(std::memory_order_relaxed) == 0; }

// Before every announcement of a descriptor to the core.
inline void note(int fd) {
  int seen = highest.load(std::memory_order_relaxed);
  while (fd > seen && !highest.compare_exchange_weak(seen, fd, std::memory_order_relaxed)) {
  }
}

// The value, or -1 and errno.
template <class T>
std::make_signed_t<T> finish(const Result<T>& result) {
  if (result) return static_cast<std::make_signed_t<T>>(*result);
  errno = result.error();
  return -1;
}
inline int fail(int error) {
  errno = error;
  return -1;
}

inline bool failed(long result) { return result < 0; }
inline bool failed(const void* result) { return !result; }

// No cancellation while it lives: around what may block inside a function that is no cancellation point in
// libc, and under whose frame an unwinding would end the program.
class Uncancellable {
 public:
  Uncancellable() { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  ~Uncancellable() noexcept(false) { pthread_setcancelstate(before_, nullptr); }
  Uncancellable(const Uncancellable&) = delete;
  Uncancellable& operator=(const Uncancellable&) = delete;

 private:
  int before_ = 0;
};

// A call found no free descriptor, and gave EMFILE. True if it is to be repeated.
[[gnu::noinline]] inline bool made_room() {
  const int error = errno;
  Uncancellable here;
  const bool made = sockets::make_room();
  errno = error;
  return made;
}

[[gnu::noinline]] inline void few_left() {
  const int error = errno;
  Uncancellable here;
  sockets::make_room_soon();
  errno = error;
}

// The library is opening files of its own, each with a number that is the program's. rdma-core's calls, too, come here.
[[gnu::noinline]] inline void await_numbers() {
  if (own::trusted) return;
  const int error = errno;
  Uncancellable here;
  numbers::await();
  errno = error;
}

template <const auto& libc, class... Arguments>
[[gnu::noinline]] auto once_more_with_room(Arguments... arguments) {
  if (numbers::are_taken()) await_numbers();
  const int before = errno;
  const auto result = libc(arguments...);
  if (failed(result)) {
    if (errno != EMFILE || !made_room()) return result;
    errno = before;  // which a call that succeeds leaves alone
    return libc(arguments...);
  }
  if constexpr (std::is_same_v<decltype(result), const int>)
    if (result >= sys::crowded_from.load(std::memory_order_relaxed)) few_left();
  return result;
}

// A call of libc's that makes a descriptor, once more if it was the library that left it none. Where the library has
// none itself, by a tail jump.
template <const auto& libc, class... Arguments>
auto with_room(Arguments... arguments) {
  return own::any() ? once_more_with_room<libc>(arguments...) : libc(arguments...);
}

// The flow at `fd`, if any, goes back to TCP, where libc's own call will find it.
[[gnu::noinline]] inline void to_tcp(int fd, Reason reason = Reason::unserved_call) {
  if (!find(fd) || sockets::in_borrowed_memory()) return;
  Uncancellable here;
  sockets::unserved(fd, reason);
}

// The same for a call that moves no bytes.
[[gnu::noinline]] inline void prefer_tcp(int fd) {
  if (!find(fd) || sockets::in_borrowed_memory()) return;
  Uncancellable here;
  sockets::unhonoured(fd);
}

// `to` is a new descriptor for what `from` is. stdio writes to 0, 1 and 2 behind our back, so there only TCP
// will do.
inline void copied(int from, int to) {
  note(to);
  sockets::duplicated(from, to);
  if (to <= STDERR_FILENO) to_tcp(to);
}

}  // namespace rsock::preload
