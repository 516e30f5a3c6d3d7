#include "core/engine/service/points.hpp"

#include <mutex>
#include <utility>

#include "core/base/log.hpp"
#include "core/base/near.hpp"

namespace rsock::engine {
namespace {

// Where the name of a point is taken: when it is tried again, at first, then later and later; and how many
// rendezvous times. Whoever has it keeps it for one.
constexpr auto kTakenPause = milliseconds(10), kLongestPause = milliseconds(500);
constexpr int kTakenFor = 2;
// A peer on this host is offered shared memory alone for so long, where there is RDMA as well.
constexpr auto kNearOffer = milliseconds(300);

}  // namespace

std::optional<Time> Points::Point::due() const {
  auto first = closes;
  for (const auto& time : opens) first = std::min(first, time.value_or(closes));
  return first == Time::max() ? std::nullopt : std::optional(first);
}

void Points::open(uint64_t id) {
  if (points_.contains(id)) return;
  Endpoint local, remote;
  Lanes wanted;
  {
    const std::lock_guard guard(engine_.lock);
    const auto flow = engine_.find_eligible(id);
    if (!flow) return;
    local = flow->local(), remote = flow->remote(), wanted = flow->candidacy().wanted();
  }
  Point point{.pause = {kTakenPause, kLongestPause}};
  const bool shm = wanted.shm && is_near(local, remote);
  if (shm) point.opens_in(Lane::shm) = now();
  if (wanted.rdma) point.opens_in(Lane::rdma) = shm ? now() + kNearOffer : now();
  point.closes = now() + kTakenFor * engine_.settings.rendezvous;
  // Should there be no memory for what follows, it is done when this is due.
  timers_.set({Due::point, id}, now());
  points_.emplace(id, point);
  due(id);
}

// A reason if it is open nowhere, and will not be.
std::optional<Reason> Points::open_where_due(uint64_t id, Point& point) {
  Endpoint local, remote;
  bool wanted = false, again = false, paused = false;
  {
    const std::lock_guard guard(engine_.lock);
    if (const auto flow = engine_.find_flow(id)) {
      wanted = flow->eligible(), again = flow->lost_lane(), paused = flow->candidacy().tried_before();
      local = flow->local(), remote = flow->remote();
    }
  }
  auto failed = Reason::lane_unavailable;
  for (const auto lane : {Lane::shm, Lane::rdma}) {
    auto& opens = point.opens_in(lane);
    if (!opens || now() < *opens) continue;
    if (!wanted) {  // claimed meanwhile, on a link that was there
      opens = now() + point.pause.take();
      continue;
    }
    opens.reset();
    const auto reason = open_in(lane, id, local, remote);
    if (reason == Reason::port_taken) {
      opens = now() + point.pause.take();
    } else if (reason) {
      failed = *reason;
      if (auto& other = point.opens_in(Lane::rdma); lane == Lane::shm && other) other = now();
    } else if (!std::exchange(point.open, true)) {
      // The peer of a flow that was looked for in vain may pause as well.
      const auto open = engine_.settings.rendezvous + (paused ? Candidacy::kLongestPause : Duration::zero());
      point.closes = again ? Time::max() : now() + open;
    }
  }
  if (point.open || point.will_open()) return {};
  return failed;
}

std::optional<Reason> Points::open_in(Lane lane, uint64_t id, const Endpoint& local, const Endpoint& remote) {
  Reason why;
  auto* dialler = fabrics_.get(lane, why);
  if (lane == Lane::shm && dialler)
    if (const auto silence = owners_.silence()) dialler = nullptr, why = *silence;
  const auto failed = dialler ? dialler->open_point(id, local, remote) : why;
  if (failed) log::debug("no rendezvous at {} for flow {}: {}", to_string(local), id, key(*failed));
  return failed;
}

void Points::due(uint64_t id) {
  const auto at = points_.find(id);
  if (at == points_.end()) return;
  auto& point = at->second;
  const auto over = now() >= point.closes ? std::optional(point.open ? Reason::not_dialled : Reason::port_taken)
                                          : open_where_due(id, point);
  if (!over) return timers_.put({Due::point, id}, point.due());
  close(id);
  settle(id, *over);
}

void Points::found(uint64_t id) {
  const auto at = points_.find(id);
  if (at == points_.end()) return;
  auto& point = at->second;
  point.closes = std::max(point.closes, now() + engine_.settings.dial);
  timers_.put({Due::point, id}, point.due());
}

void Points::close(uint64_t id) {
  timers_.cancel({Due::point, id});
  if (points_.erase(id) > 0) fabrics_.close_point(id);
}

void Points::close_all() {
  for (const auto& [id, point] : std::exchange(points_, {})) fabrics_.close_point(id);
  timers_.cancel_all(Due::point);
}

// What is left of it elsewhere closes as well.
void Points::lost(uint64_t id, Reason reason) {
  close(id);
  settle(id, reason);
}

void Points::settle(uint64_t id, Reason reason) {
  const std::lock_guard guard(engine_.lock);
  if (const auto flow = engine_.find_eligible(id)) flow->not_served(reason);
}

}  // namespace rsock::engine
