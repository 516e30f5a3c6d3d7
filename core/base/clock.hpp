#pragma once
// The clock is the kernel's, whatever time a library that is preloaded with this one (libfaketime) shows the program.

#include "core/base/duration.hpp"
#include "core/base/kernel.hpp"

namespace rsock {

// Monotonic.
inline Time now() {
  timespec time;
  kernel.clock_gettime(CLOCK_MONOTONIC, &time);
  return Time(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
}

// The time of day, in nanoseconds since 1970 (UTC).
inline uint64_t time_of_day() {
  timespec time;
  kernel.clock_gettime(CLOCK_REALTIME, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

}  // namespace rsock
