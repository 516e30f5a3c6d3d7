#pragma once
// How long to wait before something is tried again: twice as long each time, up to a bound.

#include <algorithm>
#include <utility>

#include "core/base/duration.hpp"

namespace rsock::engine {

class Pause {
 public:
  Pause(Duration first, Duration longest) : next_(first), longest_(longest) {}
  // The pause that there is to be now; the next is longer.
  Duration take() { return std::exchange(next_, std::min(2 * next_, longest_)); }

 private:
  Duration next_, longest_;
};

}  // namespace rsock::engine
