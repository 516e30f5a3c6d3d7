#pragma once
// How the two ends of a connection find each other: the acceptor dials the point that the connector opened
// (Search, Points), and then both have a link, on which flows are claimed. What diallers tell comes in here,
// and goes on to the end whose flow it is.
//
// The service's thread, without the engine's lock, but for again(); nothing blocks. A flow that had a lane
// looks for one again at its Due::retry. A child of fork does not use it.

#include "core/engine/service/points.hpp"
#include "core/engine/service/search.hpp"

namespace rsock::engine {

class Rendezvous final : public fabric::Meeting {
 public:
  Rendezvous(Engine& engine, Fabrics& fabrics, PeerOwners& owners, Timers& timers);

  // For an accepted flow, and for a connected one.
  void find_peer(uint64_t flow) { search_.find(flow); }
  void await_peer(uint64_t flow) { points_.open(flow); }
  // The flow waits for no peer any more.
  void forget(uint64_t flow) { points_.close(flow); }
  // A lane is looked for after a pause. Under the engine's lock.
  void again(Flow& flow);
  // A timer of these is due.
  void due(Timers::Name timer);
  // Nobody is looked for, or expected, any more.
  void give_up();

  // ---- fabric::Meeting
  wire::Greeting asked(Lane lane, uint64_t cookie, const Address& from, const wire::Hello& hello) override;
  void linked(uint64_t cookie, bool dialled, const Address& peer, const wire::Greeting& greeting,
              std::unique_ptr<fabric::Connection> connection, fabric::Completions& completions) override;
  void established(fabric::Connection& connection) override;
  void dial_failed(uint64_t cookie, Reason reason, std::optional<wire::Greeting> greeting) override;
  void disconnected(fabric::Connection& connection) override;
  void point_lost(uint64_t cookie, Reason reason) override;

 private:
  wire::Verdict judge(Lane lane, Flow* flow, const Address& from, const wire::Hello& hello);
  void try_again(uint64_t id);

  Engine& engine_;
  Timers& timers_;
  Points points_;
  Search search_;
};

}  // namespace rsock::engine
