#pragma once
// What poll, select and epoll share, and those of them that differ from libc's when they are called by number
// (syscall.cpp): the kernel answers a bad pointer to a time with EFAULT, where libc reads it, and writes back
// what is left of all times, where it can.

#include <poll.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <time.h>

#include <atomic>

#include "preload/program_memory.hpp"

namespace rsock::preload {

inline constexpr size_t kMaskSize = 8;  // of the kernel's sets of signals

// Our copy of what the program may leave out by a null pointer.
template <class T, size_t kSize = sizeof(T)>
class Optional {
 public:
  explicit Optional(const T* programs) : there_(programs) {
    if (!programs) return;
    own_ = {};
    good_ = get_bytes(&own_, programs, kSize);
  }
  bool sound() const { return good_; }
  operator const T*() const { return there_ ? &own_ : nullptr; }

 private:
  T own_;
  bool good_ = true, there_;
};
using SignalMask = Optional<sigset_t, kMaskSize>;

// For ever without one.
inline bool sound(const timespec* own) {
  return !own || (own->tv_sec >= 0 && static_cast<unsigned long>(own->tv_nsec) < 1'000'000'000);
}
class TimeLimit : public Optional<timespec> {
 public:
  using Optional::Optional;
  bool sound() const { return Optional::sound() && preload::sound(static_cast<const timespec*>(*this)); }
};

template <class T>
long as_word(T value) {
  if constexpr (std::is_pointer_v<T>)
    return static_cast<long>(reinterpret_cast<uintptr_t>(value));
  else
    return static_cast<long>(value);
}

// The size of the process's table of descriptors, as far as the program is known to have made it so large. As the
// kernel's, it only grows.
extern constinit std::atomic<int> table_size;
// A number that the program chose, and has.
int has_number(int fd);

struct Mask {  // pselect6's last argument points to it
  const sigset_t* set;
  size_t size;
};

long ppoll_by_number(pollfd* fds, nfds_t count, timespec* timeout, const sigset_t* mask, size_t mask_size);
long select_by_number(int count, fd_set* reads, fd_set* writes, fd_set* excepts, timeval* timeout);
long pselect6_by_number(int count, fd_set* reads, fd_set* writes, fd_set* excepts, timespec* timeout, const Mask* mask);

}  // namespace rsock::preload
