// select and its kin. A call that waits for nothing of concern goes to libc; so does one whose arguments the
// kernel will refuse.

#include <array>
#include <climits>

#include "core/base/own.hpp"
#include "core/base/time_left.hpp"
#include "core/sockets/signals.hpp"
#include "preload/open_descriptors.hpp"
#include "preload/shell.hpp"
#include "preload/waiting.hpp"

namespace real = rsock::real;
namespace sockets = rsock::preload::sockets;
namespace own = rsock::own;
using namespace rsock::preload;

constinit std::atomic<int> rsock::preload::table_size{64};

namespace {

struct Sets {
  fd_set *reads, *writes, *excepts;
};

using Word = unsigned long;
constexpr int kBits = 8 * sizeof(Word);
// Of a set in which so many descriptors are looked at: a program may say INT_MAX.
constexpr size_t bytes_for(int count) { return (static_cast<size_t>(count) + kBits - 1) / kBits * sizeof(Word); }

// Calls `what` for each descriptor from `first` on that is in the set, as far as the set can be read, until
// it says false; then the answer is true. Sets may be larger than FD_SETSIZE: programs make their own.
template <class Do>
bool any_in(const fd_set* set, int first, int count, Do what) {
  if (!set || first >= count) return false;
  const int begin = first / kBits;
  const auto* bits = reinterpret_cast<const Word*>(set) + begin;
  const auto size = bytes_for(count) - static_cast<size_t>(begin) * sizeof(Word);
  const auto words = static_cast<int>(memory::usable(bits, size, memory::Use::read) / sizeof(Word));
  std::array<Word, FD_SETSIZE / kBits> some;
  for (int at = 0; at < words; at += static_cast<int>(some.size())) {
    const std::span part(some.data(), std::min(some.size(), static_cast<size_t>(words - at)));
    if (!get_all(part, bits + at)) return false;
    for (size_t i = 0; i < part.size(); ++i)
      for (Word word = part[i]; word; word &= word - 1) {
        const int fd = (begin + at + static_cast<int>(i)) * kBits + __builtin_ctzl(word);
        if (fd >= first && fd < count && what(fd)) return true;
      }
  }
  return false;
}
template <class Do>
bool any_in(Sets sets, int first, int count, Do what) {
  return any_in(sets.reads, first, count, what) || any_in(sets.writes, first, count, what) ||
         any_in(sets.excepts, first, count, what);
}

// ---- How many descriptors are looked at. The kernel looks at no more than the process's table has room for,
// and old programs rely on it: they say getdtablesize(), and have sets for 1024 descriptors, or for fewer.
// The library's own, out of the program's way, make that table larger than the program made it; so it is the
// program's part of it that counts.

int table_for(int fd) {
  int size = 128;  // as the kernel makes it
  while (size <= fd) size *= 2;
  return size;
}

[[gnu::noinline]] int within_table(int count, Sets sets) {
  const int known = table_size.load(std::memory_order_relaxed);
  if (own::next(0) < 0) return count;  // the table is as large as the program made it
  if (!any_in(sets, known, count, [](int) { return true; })) return known;
  int top = -1;
  if (!each_open_descriptor([&](int fd) { top = own::keeps(fd) ? top : std::max(top, fd); })) return count;
  const int grown = std::max(known, top < known ? known : table_for(top));
  table_size.store(grown, std::memory_order_relaxed);
  return std::min(count, grown);
}

int looked_at(int count, Sets sets) {
  return count <= table_size.load(std::memory_order_relaxed) ? count : within_table(count, sets);
}

// ---- Sets of concern.

bool concerns(int count, Sets sets) {
  const int end = std::min(count, highest.load(std::memory_order_relaxed) + 1);
  return any_in(sets, 0, end, [](int fd) { return find(fd) != nullptr; });
}

// Where a set cannot be read, or written, the kernel says so, and the flows wait there.
bool whole(int count, fd_set* set) { return !set || writable(set, bytes_for(count)); }
bool only_kernel_can(int count, Sets sets) {
  if (whole(count, sets.reads) && whole(count, sets.writes) && whole(count, sets.excepts)) return false;
  any_in(sets, 0, count, [](int fd) { return prefer_tcp(fd), false; });
  return true;
}

// Our copy of one of the program's sets, as far as the call looks.
class Bits {
 public:
  Bits(int count, fd_set* programs) : programs_(programs), size_(bytes_for(count)) {
    if (size_ > sizeof few_) many_.resize(size_ / sizeof few_[0]);
    good_ = !programs || get_bytes(words(), programs, size_);
  }
  Bits(const Bits&) = delete;
  Bits& operator=(const Bits&) = delete;
  bool good() const { return good_; }
  fd_set* set() { return programs_ ? reinterpret_cast<fd_set*>(words()) : nullptr; }
  bool tell() { return !programs_ || put_bytes(programs_, words(), size_); }

 private:
  Word* words() { return many_.empty() ? few_.data() : many_.data(); }

  fd_set* programs_;
  size_t size_;
  std::array<Word, FD_SETSIZE / kBits> few_;
  sockets::HeldVector<Word> many_;
  bool good_;
};

// Passes where nothing is of concern, and where the kernel will refuse the arguments. `left`: our copy,
// nullptr for ever.
[[gnu::noinline]] sockets::Answer<int> select_in_lanes(int count, Sets sets, timespec* left,
                                                       const sigset_t* programs_mask) {
  return sockets::guarded([&]() -> sockets::Answer<int> {
    const SignalMask mask(programs_mask);
    if (!sound(left) || !mask.sound() || only_kernel_can(count, sets)) return sockets::Answer<int>::pass();
    Bits reads(count, sets.reads), writes(count, sets.writes), excepts(count, sets.excepts);
    if (!reads.good() || !writes.good() || !excepts.good()) return sockets::Answer<int>::pass();
    const auto answer = sockets::select(count, reads.set(), writes.set(), excepts.set(), left, mask);
    if (answer.served() && answer.result() && !(reads.tell() && writes.tell() && excepts.tell()))
      return rsock::Errno{EFAULT};
    return answer;
  });
}

// Microseconds may be more than a second's.
timespec time_of(const timeval& time) {
  constexpr long kMillion = 1'000'000;
  const auto more = time.tv_usec / kMillion;
  if (time.tv_sec < 0 || time.tv_usec < 0) return {-1, 0};
  if (time.tv_sec > LONG_MAX - more) return {LONG_MAX, 999'999'999};
  return {time.tv_sec + more, time.tv_usec % kMillion * 1000};
}
timeval time_of(const timespec& time) { return {time.tv_sec, time.tv_nsec / 1000}; }

// As the four calls have it: with `Time`'s precision, and libc's or the kernel's manners.
template <class Time, class Kernel>
[[gnu::noinline]] int select_concerned(int count, Sets sets, Time* timeout, bool updates, const sigset_t* mask,
                                       Kernel kernel) {
  Time given{};
  if (timeout && !get(given, timeout)) return static_cast<int>(kernel());
  timespec left;
  if constexpr (std::is_same_v<Time, timeval>)
    left = time_of(given);
  else
    left = given;
  const auto answer = select_in_lanes(count, sets, timeout ? &left : nullptr, mask);
  if (!answer.served()) return static_cast<int>(kernel());
  // As the kernel, which says nothing of it where it cannot.
  if (timeout && updates) {
    if constexpr (std::is_same_v<Time, timeval>)
      (void)put(timeout, time_of(left));
    else
      (void)put(timeout, left);
  }
  return finish(answer.result());
}

}  // namespace

// libc reads a time before the kernel does, and dies of a bad pointer to it.
RSOCK_EXPORT int select(int count, fd_set* reads, fd_set* writes, fd_set* excepts, timeval* timeout) {
  const Sets sets{reads, writes, excepts};
  count = looked_at(count, sets);
  if (nothing_concerns_us() || !concerns(count, sets)) return real::select(count, reads, writes, excepts, timeout);
  return select_concerned(count, sets, timeout, true, nullptr,
                          [=] { return real::select(count, reads, writes, excepts, timeout); });
}
RSOCK_EXPORT_ALIAS(__select, select);

RSOCK_EXPORT int pselect(int count, fd_set* reads, fd_set* writes, fd_set* excepts, const timespec* timeout,
                         const sigset_t* mask) {
  const Sets sets{reads, writes, excepts};
  count = looked_at(count, sets);
  if (nothing_concerns_us() || !concerns(count, sets))
    return real::pselect(count, reads, writes, excepts, timeout, mask);
  return select_concerned(count, sets, const_cast<timespec*>(timeout), false, mask,
                          [=] { return real::pselect(count, reads, writes, excepts, timeout, mask); });
}

namespace rsock::preload {

int has_number(int fd) {
  if (fd >= table_size.load(std::memory_order_relaxed)) table_size.store(table_for(fd), std::memory_order_relaxed);
  return fd;
}

long select_by_number(int count, fd_set* reads, fd_set* writes, fd_set* excepts, timeval* timeout) {
  const Sets sets{reads, writes, excepts};
  count = looked_at(count, sets);
  const auto kernel = [=] {
    return real::syscall(SYS_select, count, as_word(reads), as_word(writes), as_word(excepts), as_word(timeout), 0);
  };
  if (nothing_concerns_us() || !concerns(count, sets)) return kernel();
  return select_concerned(count, sets, timeout, true, nullptr, kernel);
}

long pselect6_by_number(int count, fd_set* reads, fd_set* writes, fd_set* excepts, timespec* timeout,
                        const Mask* mask) {
  const Sets sets{reads, writes, excepts};
  count = looked_at(count, sets);
  const auto kernel = [=] {
    return real::syscall(SYS_pselect6, count, as_word(reads), as_word(writes), as_word(excepts), as_word(timeout),
                         as_word(mask));
  };
  Mask own{};
  const bool refused = mask && (!get(own, mask) || (own.set && own.size != kMaskSize));
  if (refused || nothing_concerns_us() || !concerns(count, sets)) return kernel();
  return select_concerned(count, sets, timeout, true, own.set, kernel);
}

}  // namespace rsock::preload
