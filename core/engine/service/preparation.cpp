#include "core/engine/service/preparation.hpp"

#include <utility>

#include "core/base/log.hpp"
#include "core/base/numbers.hpp"

namespace rsock::engine {

void Preparation::ask(Lanes lanes) {
  const std::lock_guard lock(lock_);
  lanes = lanes - ever_;
  if (!lanes.any()) return;
  ever_ = ever_ | lanes;
  if (!wanted_.any()) numbers::take();
  wanted_ = wanted_ | lanes;
  const std::lock_guard guard(engine_.lock);
  engine_.orders.wake();
}

void Preparation::answer() {
  std::unique_lock lock(lock_);
  if (!wanted_.any()) return;
  const auto wanted = std::exchange(wanted_, {});
  lock.unlock();
  prepare(wanted);
  numbers::give_back();
}

void Preparation::prepare(Lanes lanes) {
  if (!events_.is_open()) return;
  for (const auto lane : {Lane::shm, Lane::rdma})
    if (Reason why; lanes.has(lane) && !fabrics_.get(lane, why))
      log::info("no {} here for now: {}", kLaneNames[static_cast<size_t>(lane)], key(why));
}

}  // namespace rsock::engine
