#pragma once
// The connecting end of the search for a peer: the rendezvous points of flows, where their peers can dial. A
// point is open in one fabric or in both, shared memory before RDMA where the peer is on this host. Its name
// may be another flow's: over RDMA it has no room for both ends, so that any flow of this host from the same
// address and port, to wherever, has the same. It is free when that flow has entered its lane, or is awaited
// no longer; until then it is tried again.
//
//   is to be opened ─▶ open ─▶ closed: dialled, not wanted, or not dialled for a rendezvous time
//                └─▶ given up: the name was taken, or no fabric opens it
//
// A flow that had a lane has its point until it is used: its peer knows that one is to be found here, and
// comes when it can.
//
// The service's thread, without the engine's lock; nothing blocks. When a point has to be looked at is its
// Due::point. A child of fork does not use it, and has no points.

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "core/engine/engine.hpp"
#include "core/engine/service/fabrics.hpp"
#include "core/engine/service/pause.hpp"
#include "core/engine/service/peer_owners.hpp"
#include "core/engine/service/timers.hpp"

namespace rsock::engine {

class Points {
 public:
  Points(Engine& engine, Fabrics& fabrics, PeerOwners& owners, Timers& timers)
      : engine_(engine), fabrics_(fabrics), owners_(owners), timers_(timers) {}

  // For a flow that may enter a lane; it settles if none is open, and none will be.
  void open(uint64_t flow);
  // Its timer is due.
  void due(uint64_t flow);
  // Its peer has found it late, and what follows is on the way. Any lock.
  void found(uint64_t flow);
  void close(uint64_t flow);
  void close_all();
  // Its device was removed.
  void lost(uint64_t flow, Reason reason);
  size_t size() const { return points_.size(); }

 private:
  struct Point {
    Time closes{};      // or is given up, if it could not be opened; Time::max(): once it is used
    bool open = false;  // somewhere
    Pause pause;        // before it is tried again
    std::array<std::optional<Time>, kLaneNames.size()> opens{};  // by lane: when it will be opened there
    std::optional<Time>& opens_in(Lane lane) { return opens[static_cast<size_t>(lane)]; }
    bool will_open() const {
      return std::any_of(opens.begin(), opens.end(), [](const auto& time) { return time.has_value(); });
    }
    // When there is something to do next.
    std::optional<Time> due() const;
  };

  std::optional<Reason> open_where_due(uint64_t id, Point& point);
  std::optional<Reason> open_in(Lane lane, uint64_t id, const Endpoint& local, const Endpoint& remote);
  void settle(uint64_t id, Reason reason);

  Engine& engine_;
  Fabrics& fabrics_;
  PeerOwners& owners_;
  Timers& timers_;
  std::map<uint64_t, Point> points_;  // by flow
};

}  // namespace rsock::engine
