#include "core/engine/service/fabrics.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

namespace rsock::engine {
namespace {

constexpr auto kRetry = milliseconds(100);  // a device that comes is found by the next flow

}  // namespace

Fabrics::Fabrics(Engine& engine, Events& events, Make make, Announced announced)
    : engine_(engine), events_(events), make_(std::move(make)), announced_(std::move(announced)) {}

fabric::Dialler* Fabrics::get(Lane lane, Reason& why) {
  auto& fabric = of(lane);
  if (!fabric.dialler && (!fabric.unavailable || now() >= fabric.retry)) {
    const auto announce = [this, &fabric](fabric::Completions& source) {
      const std::lock_guard guard(engine_.lock);
      fabric.sources.push_back(&source);
      announced_(source);
    };
    fabric.dialler = make_(lane, announce, why);
    if (fabric.dialler) {
      (void)events_.add(fabric.dialler->fd(), EPOLLIN, Events::tag(Events::Kind::dialler, static_cast<uint64_t>(lane)));
      return fabric.dialler.get();
    }
    fabric.unavailable = why;
    fabric.retry = now() + kRetry;
  }
  if (!fabric.dialler) why = *fabric.unavailable;
  return fabric.dialler.get();
}

void Fabrics::close_point(uint64_t flow) {
  for (const auto& fabric : fabrics_)
    if (fabric.dialler) fabric.dialler->close_point(flow);
}

void Fabrics::bury(std::vector<std::unique_ptr<Link>> dead) {
  for (auto& link : dead) find(link->lane())->bury(link->take_connection());
}

bool Fabrics::leave_near() {
  auto& fabric = of(Lane::shm);
  {
    const std::lock_guard guard(engine_.lock);
    const auto is_near = [](const auto& link) { return link->lane() == Lane::shm; };
    if (std::any_of(engine_.links().begin(), engine_.links().end(), is_near)) return false;
    engine_.vacate(fabric.sources);
  }
  fabric = {};
  return true;
}

}  // namespace rsock::engine
