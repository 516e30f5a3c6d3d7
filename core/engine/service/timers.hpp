#pragma once
// The deadlines of the service thread, all in one queue: nothing is looked at before it is due.
//
// A timer is named by what is due and of which: the number of a flow or of a peer, 0 where there is only one.
// Setting it again replaces it, and needs no memory. Those that are due at one time come in the order in
// which they were set.
//
//   first: O(1)      set, cancel, find, and each that is due: O(log n)
//
// The service thread only, without a lock. No clock is read: times are handed in. A child
// of fork does not use it.

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "core/base/duration.hpp"

namespace rsock::engine {

enum class Due : uint8_t {
  tick,      // a look whether application threads poll
  control,   // callers at the control socket have had their time
  rings,     // a look for rings of io_uring
  children,  // what children ask may be answered again
  probe,     // links on which nothing is heard
  room,      // a look whether there are descriptors again
  young,     // connections whose worth is not known are old enough
  point,     // of a flow: its rendezvous point opens somewhere, or closes
  dial,      // of a peer: its next dial, or the end of the one under way
  sweep,     // of a peer: a look at the flows that wait for it
  retry,     // of a flow: a lane is looked for again
  cutover,   // of a flow: it has to be over
  cork,      // of a flow: what gathered has to go
  unsent,    // of a flow: what the kernel had no memory for is tried again
};

class Timers {
 public:
  struct Name {
    Due what;
    uint64_t id = 0;
    auto operator<=>(const Name&) const = default;
  };

  // Throws bad_alloc only for a timer that is not set.
  void set(Name name, Time time);
  // The same, or cancels it.
  void put(Name name, std::optional<Time> time) { time ? set(name, *time) : cancel(name); }
  void cancel(Name name);
  void cancel_all(Due what);
  std::optional<Time> find(Name name) const;
  std::optional<Time> first() const;
  size_t size() const { return queue_.size(); }

  // Hands over what is due by `time`, each once. `handle` may set and cancel any, its own too, for later than
  // `time`. If it throws, its timer stays due.
  template <class Handle>
  void expire(Time time, Handle&& handle) {
    while (!queue_.empty() && queue_.begin()->time <= time) {
      const auto due = *queue_.begin();
      handle(due.name);
      drop(due);
    }
  }

 private:
  struct Entry {
    Time time;
    uint64_t order;
    Name name;
    bool operator<(const Entry& other) const { return time != other.time ? time < other.time : order < other.order; }
  };
  // Unless it was set anew meanwhile.
  void drop(const Entry& entry);

  std::set<Entry> queue_;
  std::map<Name, std::set<Entry>::iterator> by_name_;
  uint64_t order_ = 0;
};

}  // namespace rsock::engine
