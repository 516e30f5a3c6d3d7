// poll, epoll and their kin. A call that waits for nothing of concern goes to libc as it is; so does
// one whose arguments the kernel will refuse.

#include "preload/waiting.hpp"

#include <array>
#include <tuple>

#include "core/base/copy.hpp"
#include "core/base/time_left.hpp"
#include "core/sockets/signals.hpp"
#include "preload/shell.hpp"

namespace real = rsock::real;
namespace sockets = rsock::preload::sockets;
using namespace rsock::preload;

namespace {

// Milliseconds as poll and epoll_wait take them: negative is for ever.
class Timeout {
 public:
  explicit Timeout(int ms) : ever_(ms < 0), time_{ms / 1000, ms % 1000 * 1'000'000} {}
  operator const timespec*() const { return ever_ ? nullptr : &time_; }

 private:
  bool ever_;
  timespec time_;
};

// Our copy of the program's list: short as a rule.
class List {
 public:
  List(const pollfd* programs, nfds_t count) {
    if (count > few_.size()) many_.resize(count);
    list_ = {many_.empty() ? few_.data() : many_.data(), count};
    good_ = get_all(list_, programs);
  }
  List(const List&) = delete;
  List& operator=(const List&) = delete;
  bool good() const { return good_; }
  std::span<pollfd> operator*() const { return list_; }
  // What was found is told; false: EFAULT.
  bool tell(pollfd* programs) const {
    for (size_t i = 0; i < list_.size(); ++i)
      if (!put(&programs[i].revents, list_[i].revents)) return false;
    return true;
  }

 private:
  std::array<pollfd, 16> few_;
  sockets::HeldVector<pollfd> many_;
  std::span<pollfd> list_;
  bool good_ = false;
};

bool concerns(const pollfd* fds, nfds_t count) {
  if (count > sockets::kTableSize) return false;
  std::array<pollfd, 16> some;
  for (nfds_t at = 0; at < count; at += some.size()) {
    const std::span part(some.data(), std::min<size_t>(some.size(), count - at));
    if (!get_all(part, fds + at)) return false;
    for (const auto& one : part)
      if (find(one.fd)) return readable(fds, count * sizeof *fds);
  }
  return false;
}

// The kernel waits also where it can write no answer, or part of it, and says so afterwards.
sockets::Answer<int> poll_in_lanes(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  return sockets::guarded([&]() -> sockets::Answer<int> {
    const List list(fds, count);
    if (!list.good()) return sockets::Answer<int>::pass();
    const auto answer = sockets::poll((*list).data(), count, timeout, mask);
    if (!answer.served() || (!answer.result() && !answer.result().is(EINTR))) return answer;
    if (!list.tell(fds)) return rsock::Errno{EFAULT};
    return answer;
  });
}

template <class Libc>
[[gnu::noinline]] int poll_concerned(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* programs_mask,
                                     Libc libc) {
  const TimeLimit time(timeout);
  const SignalMask mask(programs_mask);
  if (!time.sound() || !mask.sound()) return libc();
  const auto answer = poll_in_lanes(fds, count, time, mask);
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

[[gnu::noinline]] int epoll_ctl_concerned(int set, int operation, int fd, epoll_event* event) {
  epoll_event own{};
  if (operation != EPOLL_CTL_DEL && !get(own, event)) return real::epoll_ctl(set, operation, fd, event);
  note(set);
  const auto answer = sockets::epoll_ctl(set, operation, fd, &own);
  return answer.served() ? finish(answer.result()) : real::epoll_ctl(set, operation, fd, event);
}

// Programs may say that there is room for more events than there is. The kernel writes what it has.
int room(epoll_event* events, int capacity) {
  for (;; capacity /= 2) {
    const auto usable = memory::usable(events, static_cast<size_t>(capacity) * sizeof *events, memory::Use::write);
    capacity = static_cast<int>(usable / sizeof *events);
    // What comes as an edge comes once: it should find its place.
    epoll_event last;
    if (capacity == 0 || rsock::copy(&last, events + capacity - 1, sizeof last)) return capacity;
  }
}

// What is found at a time goes by memory of ours, so that no lock is held where the program's cannot be
// touched.
constexpr int kMostAtATime = 128;

// Where there is no memory for events, a wait is in order until there is one.
template <class Libc>
[[gnu::noinline]] int wait_for_a_fault(int set, const timespec* timeout, const sigset_t* mask, Libc libc) {
  pollfd one{set, POLLIN, 0};
  const auto answer = sockets::poll(&one, 1, timeout, mask);
  if (!answer.served()) return libc();
  return answer.result() && *answer.result() > 0 ? fail(EFAULT) : finish(answer.result());
}

template <class Libc>
[[gnu::noinline]] int epoll_wait_concerned(int set, epoll_event* events, int capacity, const timespec* timeout,
                                           const sigset_t* programs_mask, Libc libc) {
  const TimeLimit time(timeout);
  const SignalMask mask(programs_mask);
  constexpr int kMostEvents = static_cast<int>(0x7fffffff / sizeof(epoll_event));
  constexpr auto kKernelsOwn = uintptr_t{1} << 63;
  if (capacity <= 0 || capacity > kMostEvents || !time.sound() || !mask.sound()) return libc();
  if (reinterpret_cast<uintptr_t>(events) & kKernelsOwn) return libc();
  capacity = room(events, std::min(capacity, kMostAtATime));
  if (capacity == 0) return wait_for_a_fault(set, time, mask, libc);
  std::array<epoll_event, kMostAtATime> found;
  const auto answer = sockets::epoll_wait(set, found.data(), capacity, time, mask);
  if (!answer.served()) return libc();
  if (answer.result() && !rsock::copy(events, found.data(), static_cast<size_t>(*answer.result()) * sizeof *events))
    return fail(EFAULT);
  return finish(answer.result());
}

// ---- epoll_wait and its kin in three forms: a set of concern; libc's own; and one that is of no concern, but may
// become so while the thread sleeps in it, since there are others that could add a flow.

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

// What libc's own call found in a set that has become one of concern meanwhile; it waits anew if that was our bell
// only.
template <class... More>
[[gnu::noinline, gnu::cold]] int came_back(int found, int set, epoll_event* events, More... more) {
  if (found <= 0) return found;
  const auto left = sockets::guarded([&]() -> rsock::Result<int> {
    sockets::HeldVector<epoll_event> own(static_cast<size_t>(found));
    if (!get_all(std::span(own), events)) return rsock::Errno{EFAULT};
    const int count = rsock::sockets::epoll_waited(set, own.data(), found);
    if (!put_all(events, std::span(own).first(static_cast<size_t>(count)))) return rsock::Errno{EFAULT};
    return count;
  });
  return left && *left == 0 ? wait_concerned(set, events, more...) : finish(left);
}

// Its arguments are kept in memory for the rare case that they are needed again, not in registers that would have to be
// saved.
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
  return &__libc_single_threaded && __libc_single_threaded ? libc(set, events, more...)
                                                           : wait_unaware<libc>(set, events, more...);
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

RSOCK_EXPORT int __ppoll_chk(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask, size_t object) {
  if (object / sizeof *fds < count) __chk_fail();
  return ppoll_or(fds, count, timeout, mask);
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

namespace rsock::preload {

long ppoll_by_number(pollfd* fds, nfds_t count, timespec* timeout, const sigset_t* mask, size_t mask_size) {
  const auto kernel = [=] {
    return real::syscall(SYS_ppoll, as_word(fds), as_word(count), as_word(timeout), as_word(mask), as_word(mask_size),
                         0);
  };
  if (nothing_concerns_us() || !concerns(fds, count) || (mask && mask_size != kMaskSize)) return kernel();
  const TimeLimit time(timeout);
  const SignalMask programs(mask);
  if (!time.sound() || !programs.sound()) return kernel();
  const auto begun = now();
  const auto answer = poll_in_lanes(fds, count, time, programs);
  if (!answer.served()) return kernel();
  if (timeout) {
    timespec left = *static_cast<const timespec*>(time);
    take_off(left, now() - begun);
    (void)put(timeout, left);  // as the kernel, which says nothing of it where it cannot
  }
  return finish(answer.result());
}

}  // namespace rsock::preload
