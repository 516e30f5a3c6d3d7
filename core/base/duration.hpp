#pragma once
// Durations and points in time are distinct types, in nanoseconds.

#include <chrono>

namespace rsock {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;
using Duration = Clock::duration;
using std::chrono::microseconds;
using std::chrono::milliseconds;

}  // namespace rsock
