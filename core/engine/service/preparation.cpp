#include "core/engine/service/preparation.hpp"

#include <climits>
#include <utility>

#include "core/base/log.hpp"

namespace rsock::engine {
namespace {

constexpr auto kPatience = milliseconds(1000), kLook = milliseconds(50);

}  // namespace

void Preparation::await(Lanes lanes) {
  std::unique_lock lock(lock_);
  lanes = lanes - ever_;
  if (!lanes.any()) return;
  ever_ = ever_ | lanes;
  wanted_ = wanted_ | lanes;
  const auto mine = ++asked_;
  {
    const std::lock_guard guard(engine_.lock);
    engine_.orders.wake();
  }
  lock.unlock();
  const auto deadline = now() + kPatience;
  for (uint32_t answered; (answered = answered_) < mine && now() < deadline;)
    sys::futex_sleep(answered_, answered, kLook);
}

void Preparation::answer() {
  std::unique_lock lock(lock_);
  if (answered_ == asked_) return;
  const auto asked = asked_;
  const auto wanted = std::exchange(wanted_, {});
  lock.unlock();
  prepare(wanted);
  answered_ = asked;
  sys::futex_wake(answered_, INT_MAX);
}

void Preparation::prepare(Lanes lanes) {
  if (!events_.is_open()) return;
  for (const auto lane : {Lane::shm, Lane::rdma})
    if (Reason why; lanes.has(lane) && !fabrics_.get(lane, why))
      log::info("no {} here for now: {}", kLaneNames[static_cast<size_t>(lane)], key(why));
}

}  // namespace rsock::engine
