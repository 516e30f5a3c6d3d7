#include "core/base/statistics.hpp"

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>

#include "core/base/kernel.hpp"

namespace rsock {

constinit Statistics statistics{};

namespace {

nlohmann::ordered_json to_object(PerLane& counts) {
  nlohmann::ordered_json object;
  for (size_t i = 0; i < kLaneNames.size(); ++i) object[std::string(kLaneNames[i])] = counts.lanes[i].get();
  return object;
}

nlohmann::ordered_json to_object(std::array<Counter, kReasons>& counts) {
  auto object = nlohmann::ordered_json::object();
  for (size_t i = 0; i < kReasons; ++i)
    if (const auto count = counts[i].get()) object[std::string(kReasonKeys[i])] = count;
  return object;
}

void clear_counts(PerLane& counts) {
  for (auto& counter : counts.lanes) counter.count = 0;
}

}  // namespace

// Below 4 us each has a bucket of its own; from there bucket 4 * (k + 1) + q holds [(4 + q) << k, (5 + q) << k).
size_t Durations::bucket(uint64_t us) {
  if (us < 4) return static_cast<size_t>(us);
  const auto octave = static_cast<size_t>(std::bit_width(us)) - 1;
  return std::min(4 * (octave - 1) + ((us >> (octave - 2)) & 3), kBuckets - 1);
}

uint64_t Durations::end_of(size_t bucket) {
  if (bucket < 4) return bucket;
  return ((4 + bucket % 4 + 1) << (bucket / 4 - 1)) - 1;
}

void Durations::add(Duration duration) {
  const auto us =
      static_cast<uint64_t>(std::max<int64_t>(std::chrono::duration_cast<microseconds>(duration).count(), 0));
  buckets_[bucket(us)].add();
  sum_.add(us);
}

uint64_t Durations::count() const {
  uint64_t sum = 0;
  for (const auto& bucket : buckets_) sum += bucket.get();
  return sum;
}

uint64_t Durations::percentile(double share) const {
  const auto all = count();
  uint64_t sum = 0;
  for (size_t i = 0; all && i < kBuckets; ++i)
    if (sum += buckets_[i].get(); static_cast<double>(sum) >= share * static_cast<double>(all)) return end_of(i);
  return 0;
}

void Durations::clear() {
  for (auto& bucket : buckets_) bucket.count = 0;
  sum_.count = 0;
}

std::string Statistics::to_json(std::string_view program) {
  nlohmann::ordered_json line;
  line["pid"] = sys::process_id();
  line["program"] = program;
  line["flows"] = to_object(flows);
  line["bytes_in"] = to_object(bytes_in);
  line["bytes_out"] = to_object(bytes_out);
  line["links"] = links.get();
  line["dials"] = dials.get();
  line["fallback"] = to_object(fallback);
  line["returns"] = to_object(returns);
  line["return_us"] = {{"count", way_back.count()},
                       {"sum", way_back.sum()},
                       {"p50", way_back.percentile(0.5)},
                       {"p99", way_back.percentile(0.99)}};
  line["reentries"] = reentries.get();
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void Statistics::clear() {
  clear_counts(flows);
  clear_counts(bytes_in);
  clear_counts(bytes_out);
  links.count = 0;
  dials.count = 0;
  way_back.clear();
  for (auto& counter : fallback) counter.count = 0;
  for (auto& counter : returns) counter.count = 0;
  reentries.count = 0;
}

}  // namespace rsock
