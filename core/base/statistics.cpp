#include "core/base/statistics.hpp"

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
  line["reentries"] = reentries.get();
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void Statistics::clear() {
  clear_counts(flows);
  clear_counts(bytes_in);
  clear_counts(bytes_out);
  links.count = 0;
  dials.count = 0;
  for (auto& counter : fallback) counter.count = 0;
  for (auto& counter : returns) counter.count = 0;
  reentries.count = 0;
}

}  // namespace rsock
