#pragma once
// What makes the links of each lane: its dialler, from when it is first needed, and the sources of
// completions that come with it. Where none can be had, it is tried again for a flow that comes later: a
// device may come.
//
// The service's thread, without the engine's lock. What a dialler does may take that lock; to make one may
// take long (rdma-core is loaded), and opens files. A child of fork makes its own, when it needs them.

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/base/clock.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/service/events.hpp"
#include "core/fabric/fabric.hpp"

namespace rsock::engine {

class Fabrics {
 public:
  // A reason if there is no dialler to be had.
  using Make = std::function<std::unique_ptr<fabric::Dialler>(Lane lane, const fabric::Dialler::Announce& announce,
                                                              Reason& why)>;
  // A source is there; under the engine's lock.
  using Announced = std::function<void(fabric::Completions& source)>;
  // Diallers are members of `events` as Events::Kind::dialler, with the lane as their number.
  Fabrics(Engine& engine, Events& events, Make make, Announced announced);

  // nullptr and a reason if there is none to be had, or was not a moment ago.
  fabric::Dialler* get(Lane lane, Reason& why);
  // nullptr if there is none by now.
  fabric::Dialler* find(Lane lane) const { return of(lane).dialler.get(); }
  void dispatch(Lane lane, fabric::Meeting& meeting) { find(lane)->dispatch(meeting); }
  // Wherever the flow has one.
  void close_point(uint64_t flow);
  // Those of links that have failed.
  void bury(std::vector<std::unique_ptr<Link>> dead);
  // All that is open for shared memory is closed; false if there are links.
  bool leave_near();

 private:
  struct Fabric {
    std::unique_ptr<fabric::Dialler> dialler;
    std::optional<Reason> unavailable;
    Time retry{};
    std::vector<fabric::Completions*> sources;
  };
  Fabric& of(Lane lane) { return fabrics_[static_cast<size_t>(lane)]; }
  const Fabric& of(Lane lane) const { return fabrics_[static_cast<size_t>(lane)]; }

  Engine& engine_;
  Events& events_;
  const Make make_;
  const Announced announced_;
  std::array<Fabric, kLaneNames.size()> fabrics_;
};

}  // namespace rsock::engine
