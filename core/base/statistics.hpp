#pragma once
// What the process did, counted: one JSON line per process at its end. Counters are relaxed atomics, any thread.

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/clock.hpp"
#include "core/base/lane.hpp"
#include "core/base/reason.hpp"

namespace rsock {

struct Counter {
  std::atomic<uint64_t> count{0};
  void add(uint64_t n = 1) { count.fetch_add(n, std::memory_order_relaxed); }
  uint64_t get() const { return count.load(std::memory_order_relaxed); }
};

struct PerLane {
  std::array<Counter, 3> lanes;
  Counter& operator[](Lane lane) { return lanes[static_cast<size_t>(lane)]; }
};

// How long something took, each time: four buckets to the octave of microseconds, up to an hour.
class Durations {
 public:
  void add(Duration duration);
  uint64_t count() const;
  uint64_t sum() const { return sum_.get(); }  // microseconds
  // The least number of microseconds that `share` of all did not exceed, rounded up to the bucket's end; 0 if there
  // were none.
  uint64_t percentile(double share) const;
  void clear();

 private:
  static constexpr size_t kBuckets = 128;
  static size_t bucket(uint64_t us);
  static uint64_t end_of(size_t bucket);
  std::array<Counter, kBuckets> buckets_;
  Counter sum_;
};

struct Statistics {
  PerLane flows;     // selected flows that ended or still live, by the furthest lane they reached
  PerLane bytes_in;  // application bytes of selected flows, by the lane that carried them
  PerLane bytes_out;
  Counter links;  // links that were set up
  Counter dials;  // links that this process asked for, whatever came of it
  std::array<Counter, kReasons> fallback;
  std::array<Counter, kReasons> returns;  // from a lane to TCP, whether or not the flow enters one again
  Durations way_back;                     // how long each of those took, from when it began
  Counter reentries;                      // of flows that had been in a lane before

  void fell_back(Reason reason) { fallback[static_cast<size_t>(reason)].add(); }
  void returned(Reason reason) { returns[static_cast<size_t>(reason)].add(); }
  // One line of JSON, with its end of line.
  std::string to_json(std::string_view program);
  void clear();
};

extern Statistics statistics;

}  // namespace rsock
