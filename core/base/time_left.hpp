#pragma once
// What is left of a time that a call was given. It may be further away than Time goes.

#include <time.h>

#include "core/base/clock.hpp"

namespace rsock {

inline void take_off(timespec& left, Duration spent) {
  constexpr long kSecond = 1'000'000'000;
  const auto nanoseconds = left.tv_nsec - spent.count() % kSecond;
  const auto seconds = left.tv_sec - spent.count() / kSecond - (nanoseconds < 0);
  left = seconds < 0 ? timespec{} : timespec{seconds, nanoseconds + (nanoseconds < 0 ? kSecond : 0)};
}

}  // namespace rsock
