#include "core/engine/service/timers.hpp"

#include <limits>
#include <utility>

namespace rsock::engine {

void Timers::set(Name name, Time time) {
  if (const auto known = by_name_.find(name); known != by_name_.end()) {
    if (known->second->time == time) return;
    auto node = queue_.extract(known->second);
    node.value() = {time, order_++, name};
    known->second = queue_.insert(std::move(node)).position;
    return;
  }
  const auto entry = queue_.insert({time, order_++, name}).first;
  try {
    by_name_.emplace(name, entry);
  } catch (...) {
    queue_.erase(entry);
    throw;
  }
}

void Timers::cancel(Name name) {
  const auto known = by_name_.find(name);
  if (known == by_name_.end()) return;
  queue_.erase(known->second);
  by_name_.erase(known);
}

void Timers::cancel_all(Due what) {
  const auto begin = by_name_.lower_bound({what, 0});
  const auto end = by_name_.upper_bound({what, std::numeric_limits<uint64_t>::max()});
  for (auto at = begin; at != end; ++at) queue_.erase(at->second);
  by_name_.erase(begin, end);
}

std::optional<Time> Timers::find(Name name) const {
  const auto known = by_name_.find(name);
  return known == by_name_.end() ? std::nullopt : std::optional(known->second->time);
}

std::optional<Time> Timers::first() const {
  return queue_.empty() ? std::nullopt : std::optional(queue_.begin()->time);
}

void Timers::drop(const Entry& entry) {
  const auto known = by_name_.find(entry.name);
  if (known != by_name_.end() && known->second->order == entry.order) cancel(entry.name);
}

}  // namespace rsock::engine
