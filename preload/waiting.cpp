// poll, select, epoll and their kin. A call that waits for nothing of concern goes to libc as it is; so does
// one whose arguments the kernel will refuse.

#include <sys/single_threaded.h>

#include <tuple>

#include "preload/program_memory.hpp"
#include "preload/shell.hpp"

namespace real = rsock::real;
namespace sockets = rsock::sockets;
using namespace rsock::preload;

namespace {

// A null pointer means for ever, or no mask, and is sound.
bool sound(const timespec* time) {
  return !time || (readable(time, sizeof *time) && time->tv_sec >= 0 &&
                   static_cast<unsigned long>(time->tv_nsec) < 1'000'000'000);
}
bool sound(const sigset_t* mask) {
  return !mask || readable(mask, 8);
}

// Milliseconds as poll and epoll_wait take them: negative is for ever.
class Timeout {
 public:
  explicit Timeout(int ms) : ever_(ms < 0), time_{ms / 1000, ms % 1000 * 1'000'000} {}
  operator const timespec*() const { return ever_ ? nullptr : &time_; }

 private:
  bool ever_;
  timespec time_;
};

bool concerns(const pollfd* fds, nfds_t count) {
  if (count > sockets::kTableSize || !writable(fds, count * sizeof *fds)) return false;
  for (nfds_t i = 0; i < count; ++i)
    if (find(fds[i].fd)) return true;
  return false;
}

template <class Libc>
[[gnu::noinline]] int poll_concerned(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask,
                                     Libc libc) {
  if (!sound(timeout) || !sound(mask)) return libc();
  const auto answer = sockets::poll(fds, count, timeout, mask);
  return answer.served() ? finish(answer.result()) : libc();
}

[[gnu::noinline]] int poll_or(pollfd* fds, nfds_t count, int ms) {
  if (concerns(fds, count))
    return poll_concerned(fds, count, Timeout(ms), nullptr, [=] { return real::poll(fds, count, ms); });
  return real::poll(fds, count, ms);
}

[[gnu::noinline]] int ppoll_or(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  if (concerns(fds, count))
    return poll_concerned(fds, count, timeout, mask, [=] { return real::ppoll(fds, count, timeout, mask); });
  return real::ppoll(fds, count, timeout, mask);
}

struct Sets {
  fd_set *reads, *writes, *excepts;
};

// The descriptors of concern in one set. Sets may be larger than FD_SETSIZE: programs make their own.
template <class Do>
bool each_concerned(int count, fd_set* set, Do what) {
  using Word = unsigned long;
  constexpr int kBits = 8 * sizeof(Word);
  const int words = (std::min(count, highest.load(std::memory_order_relaxed) + 1) + kBits - 1) / kBits;
  const auto* bits = reinterpret_cast<const Word*>(set);
  if (!set || !writable(set, static_cast<size_t>(words) * sizeof(Word))) return false;
  for (int i = 0; i < words; ++i)
    for (Word word = bits[i]; word; word &= word - 1) {
      const int fd = i * kBits + __builtin_ctzl(word);
      if (fd < count && find(fd) && !what(fd)) return true;
    }
  return false;
}

bool concerns(int count, Sets sets) {
  if (count <= 0) return false;
  const auto stop = [](int) { return false; };
  return each_concerned(count, sets.reads, stop) || each_concerned(count, sets.writes, stop) ||
         each_concerned(count, sets.excepts, stop);
}

// The kernel takes a count beyond what it has descriptors, and touches less of the sets then. Where that is so, and where a set is
// no memory at all, it has the call, and the flows wait there.
bool whole(int count, fd_set* set) {
  return !set || writable(set, (static_cast<size_t>(count) + 63) / 64 * 8);
}
bool only_kernel_can(int count, Sets sets) {
  if (whole(count, sets.reads) && whole(count, sets.writes) && whole(count, sets.excepts)) return false;
  const auto leave = [](int fd) { return to_tcp(fd), true; };
  each_concerned(count, sets.reads, leave);
  each_concerned(count, sets.writes, leave);
  each_concerned(count, sets.excepts, leave);
  return true;
}

[[gnu::noinline]] int select_concerned(int count, Sets sets, timeval* timeout) {
  if ((timeout && (!writable(timeout, sizeof *timeout) || timeout->tv_sec < 0 || timeout->tv_usec < 0)) ||
      only_kernel_can(count, sets))
    return real::select(count, sets.reads, sets.writes, sets.excepts, timeout);
  timespec left{};
  if (timeout) left = {timeout->tv_sec + timeout->tv_usec / 1'000'000, timeout->tv_usec % 1'000'000 * 1000};
  const auto answer =
      sockets::select(count, sets.reads, sets.writes, sets.excepts, timeout ? &left : nullptr, nullptr);
  if (!answer.served()) return real::select(count, sets.reads, sets.writes, sets.excepts, timeout);
  if (timeout) *timeout = {left.tv_sec, left.tv_nsec / 1000};
  return finish(answer.result());
}

[[gnu::noinline]] int pselect_concerned(int count, Sets sets, const timespec* timeout, const sigset_t* mask) {
  if (!sound(timeout) || !sound(mask) || only_kernel_can(count, sets))
    return real::pselect(count, sets.reads, sets.writes, sets.excepts, timeout, mask);
  timespec left = timeout ? *timeout : timespec{};
  const auto answer =
      sockets::select(count, sets.reads, sets.writes, sets.excepts, timeout ? &left : nullptr, mask);
  if (!answer.served()) return real::pselect(count, sets.reads, sets.writes, sets.excepts, timeout, mask);
  return finish(answer.result());
}

[[gnu::noinline]] int select_or(int count, Sets sets, timeval* timeout) {
  if (concerns(count, sets)) return select_concerned(count, sets, timeout);
  return real::select(count, sets.reads, sets.writes, sets.excepts, timeout);
}

[[gnu::noinline]] int pselect_or(int count, Sets sets, const timespec* timeout, const sigset_t* mask) {
  if (concerns(count, sets)) return pselect_concerned(count, sets, timeout, mask);
  return real::pselect(count, sets.reads, sets.writes, sets.excepts, timeout, mask);
}

[[gnu::noinline]] int epoll_ctl_concerned(int set, int operation, int fd, epoll_event* event) {
  if (operation != EPOLL_CTL_DEL && !readable(event, sizeof *event))
    return real::epoll_ctl(set, operation, fd, event);
  note(set);
  const auto answer = sockets::epoll_ctl(set, operation, fd, event);
  return answer.served() ? finish(answer.result()) : real::epoll_ctl(set, operation, fd, event);
}

// Programs may say that there is room for more events than there is. The kernel writes what it has.
int room(epoll_event* events, int capacity) {
  while (capacity > 0 && !writable(events, static_cast<size_t>(capacity) * sizeof *events)) capacity /= 2;
  return capacity;
}

// Where there is no memory for events, a wait is in order until there is one.
template <class Libc>
[[gnu::noinline]] int wait_for_a_fault(int set, const timespec* timeout, const sigset_t* mask, Libc libc) {
  pollfd one{set, POLLIN, 0};
  const auto answer = sockets::poll(&one, 1, timeout, mask);
  if (!answer.served()) return libc();
  return answer.result() && *answer.result() > 0 ? fail(EFAULT) : finish(answer.result());
}

template <class Libc>
[[gnu::noinline]] int epoll_wait_concerned(int set, epoll_event* events, int capacity,
                                           const timespec* timeout, const sigset_t* mask, Libc libc) {
  constexpr int kMostEvents = static_cast<int>(0x7fffffff / sizeof(epoll_event));
  constexpr auto kKernelsOwn = uintptr_t{1} << 63;
  if (capacity <= 0 || capacity > kMostEvents || !sound(timeout) || !sound(mask)) return libc();
  if (reinterpret_cast<uintptr_t>(events) & kKernelsOwn) return libc();
  capacity = room(events, capacity);
  if (capacity == 0) return wait_for_a_fault(set, timeout, mask, libc);
  const auto answer = sockets::epoll_wait(set, events, capacity, timeout, mask);
  return answer.served() ? finish(answer.result()) : libc();
}

// ---- epoll_wait and its kin in three forms: a set of concern; libc's own; and one that is of no concern, but may become so while
// the thread sleeps in it, since there are others that could add a flow.

[[gnu::noinline]] int wait_concerned(int set, epoll_event* events, int capacity, int ms) {
  return epoll_wait_concerned(set, events, capacity, Timeout(ms), nullptr,
                              [=] { return real::epoll_wait(set, events, capacity, ms); });
}
[[gnu::noinline]] int wait_concerned(int set, epoll_event* events, int capacity, int ms, const sigset_t* mask) {
  return epoll_wait_concerned(set, events, capacity, Timeout(ms), mask,
                              [=] { return real::epoll_pwait(set, events, capacity, ms, mask); });
}
[[gnu::noinline]] int wait_concerned(int set, epoll_event* events, int capacity, const timespec* timeout,
                                     const sigset_t* mask) {
  return epoll_wait_concerned(set, events, capacity, timeout, mask,
                              [=] { return real::epoll_pwait2(set, events, capacity, timeout, mask); });
}

// What libc's own call found in a set that has become one of concern meanwhile; it waits anew if that was our bell only.
template <class... More>
[[gnu::noinline, gnu::cold]] int came_back(int found, int set, epoll_event* events, More... more) {
  if (found <= 0) return found;
  found = sockets::epoll_waited(set, events, found);
  return found == 0 ? wait_concerned(set, events, more...) : found;
}

// Its arguments are kept in memory for the rare case that they are needed again, not in registers that would have to be saved.
template <auto& libc, class... More>
[[gnu::noinline]] int wait_unaware(int set, epoll_event* events, More... more) {
  std::tuple kept(set, events, more...);
  int found;
  {
    const sockets::Unaware here(set);
    if (find(set)) goto aware;
    asm volatile("" : "+m"(kept));
    found = libc(set, events, more...);
  }
  if (__builtin_expect(find(std::get<0>(kept)) == nullptr, true)) return found;
  return std::apply([&](auto... them) { return came_back(found, them...); }, kept);
aware:
  return wait_concerned(set, events, more...);
}

template <auto& libc, class... More>
[[gnu::always_inline]] inline int wait_in(int set, epoll_event* events, More... more) {
  if (find(set)) return wait_concerned(set, events, more...);
  return __libc_single_threaded ? libc(set, events, more...) : wait_unaware<libc>(set, events, more...);
}

}  // namespace

RSOCK_EXPORT int poll(pollfd* fds, nfds_t count, int ms) {
  if (nothing_concerns_us()) return real::poll(fds, count, ms);
  return poll_or(fds, count, ms);
}
RSOCK_EXPORT_ALIAS(__poll, poll);

RSOCK_EXPORT int __poll_chk(pollfd* fds, nfds_t count, int ms, size_t object) {
  if (object / sizeof *fds < count) __chk_fail();
  return poll_or(fds, count, ms);
}

RSOCK_EXPORT int ppoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  if (nothing_concerns_us()) return real::ppoll(fds, count, timeout, mask);
  return ppoll_or(fds, count, timeout, mask);
}

RSOCK_EXPORT int __ppoll_chk(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask,
                             size_t object) {
  if (object / sizeof *fds < count) __chk_fail();
  return ppoll_or(fds, count, timeout, mask);
}

RSOCK_EXPORT int select(int count, fd_set* reads, fd_set* writes, fd_set* excepts, timeval* timeout) {
  if (nothing_concerns_us()) return real::select(count, reads, writes, excepts, timeout);
  return select_or(count, {reads, writes, excepts}, timeout);
}
RSOCK_EXPORT_ALIAS(__select, select);

RSOCK_EXPORT int pselect(int count, fd_set* reads, fd_set* writes, fd_set* excepts, const timespec* timeout,
                         const sigset_t* mask) {
  if (nothing_concerns_us()) return real::pselect(count, reads, writes, excepts, timeout, mask);
  return pselect_or(count, {reads, writes, excepts}, timeout, mask);
}

RSOCK_EXPORT int epoll_ctl(int set, int operation, int fd, epoll_event* event) noexcept {
  if (find(fd) || find(set)) return epoll_ctl_concerned(set, operation, fd, event);
  return real::epoll_ctl(set, operation, fd, event);
}

RSOCK_EXPORT int epoll_wait(int set, epoll_event* events, int capacity, int ms) {
  return wait_in<real::epoll_wait>(set, events, capacity, ms);
}

RSOCK_EXPORT int epoll_pwait(int set, epoll_event* events, int capacity, int ms, const sigset_t* mask) {
  return wait_in<real::epoll_pwait>(set, events, capacity, ms, mask);
}

RSOCK_EXPORT int epoll_pwait2(int set, epoll_event* events, int capacity, const timespec* timeout,
                              const sigset_t* mask) {
  return wait_in<real::epoll_pwait2>(set, events, capacity, timeout, mask);
}
