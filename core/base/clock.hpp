#pragma once
// Monotonic time. The clock is the kernel's, whatever time a library that is preloaded with this one (libfaketime) shows the program.

#include "core/base/duration.hpp"
#include "core/base/kernel.hpp"

namespace rsock {

inline Time now() {
  timespec time;
  kernel.clock_gettime(CLOCK_MONOTONIC, &time);
  return Time(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
}

}  // namespace rsock
