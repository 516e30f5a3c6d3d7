#include "core/base/limit.hpp"

#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>

#include "core/base/kernel.hpp"

namespace rsock::sys {
namespace {

// What is left to the program, of the numbers below `limit`.
constexpr int margin(int limit) {
  constexpr int kMost = 1024;
  return std::clamp(limit / 4, 1, kMost);
}
// The kernel gives the lowest: what is given from here on says that few are left.
constexpr int few_from(int limit) { return limit - margin(limit) / 2; }

}  // namespace

int soft_limit() {
  rlimit limit{};
  if (kernel.syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit) != 0) return 0;
  return static_cast<int>(std::min<rlim_t>(limit.rlim_cur, INT_MAX));
}

bool leaves_few(int fd) { return fd >= few_from(soft_limit()); }

Result<int> duplicate_spare(int fd) {
  const auto copy = duplicate_high(fd);
  const int limit = soft_limit();
  if (!copy || *copy >= limit) return copy;
  if (*copy < limit - margin(limit)) {
    crowded_from = few_from(limit);
    return copy;
  }
  (void)close(*copy);
  return Errno{EMFILE};
}

// Poll says of each number whether it is open, and needs none itself.
bool has_spare_numbers() {
  constexpr int kAtATime = 256;
  const int limit = soft_limit();
  const timespec none{};
  for (int first = 0, spare = 0; first < limit; first += kAtATime) {
    pollfd asked[kAtATime];
    const int count = std::min(kAtATime, limit - first);
    for (int i = 0; i < count; ++i) asked[i] = {first + i, 0, 0};
    if (kernel.syscall(SYS_ppoll, asked, count, &none, nullptr, 0) < 0) return false;
    spare +=
        static_cast<int>(std::count_if(asked, asked + count, [](const auto& one) { return one.revents & POLLNVAL; }));
    if (spare >= margin(limit)) return true;
  }
  return false;
}

}  // namespace rsock::sys
