#pragma once
// Connections that are too young to tell whether they are worth a lane (core/engine/flow/worth.hpp), in the
// order in which they came. Most end before anybody looks: so they cost nobody a call of the service, but the
// first.
//
// The acceptor's are looked at when they are twice as old as the connector's, from connect(2) and from the first use:
// the connector is to wait before it is dialled, and may be looked at later by as much.
//
// Under the engine's lock; no clock is read.

#include <cstdint>
#include <deque>
#include <vector>

#include "core/base/duration.hpp"

namespace rsock::engine {

class Young {
 public:
  // True if there was none: the service has to be told.
  bool add(uint64_t flow, Time born) {
    const bool first = born_.empty();
    born_.push_back({born, flow});
    return first;
  }
  bool none() const { return born_.empty(); }
  // Those that were born by `time`, by number.
  std::vector<uint64_t> take(Time time) {
    std::vector<uint64_t> grown;
    for (; !born_.empty() && born_.front().time <= time; born_.pop_front()) grown.push_back(born_.front().flow);
    return grown;
  }

 private:
  struct Birth {
    Time time;
    uint64_t flow;
  };
  std::deque<Birth> born_;
};

}  // namespace rsock::engine
