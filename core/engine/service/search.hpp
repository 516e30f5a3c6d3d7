#pragma once
// The accepting end of the search for a peer: for a flow that is used, links to its peer's address are asked;
// if none serves it, the point that its peer opened is dialled. It is looked for as long as that point could
// still be open, on TCP and working: over shared memory first, where the peer is on this host, then, if the
// rule allows it, over RDMA.
//
//   find ─▶ claims on a link that is there
//     └──▶ waits ─▶ is dialled ─▶ linked: it claims, and so do all that wait for this address
//            ▲           └─▶ refused, silent ─▶ waits
//            └─ its time is over: elsewhere, or settled
//
// What is known of an address is a Peer's. The service's thread, without the engine's lock, but for linked();
// nothing blocks. When there is something to do for a peer is its Due::dial and Due::sweep; no more than one
// peer is looked at for that. A child of fork does not use it.

#include <map>
#include <optional>
#include <unordered_map>

#include "core/engine/engine.hpp"
#include "core/engine/service/fabrics.hpp"
#include "core/engine/service/peer.hpp"
#include "core/engine/service/peer_owners.hpp"
#include "core/engine/service/timers.hpp"

namespace rsock::engine {

class Search {
 public:
  Search(Engine& engine, Fabrics& fabrics, PeerOwners& owners, Timers& timers)
      : engine_(engine), fabrics_(fabrics), owners_(owners), timers_(timers) {}

  // For an accepted flow that may enter a lane. Again, for one whose claim was declined.
  void find(uint64_t flow);
  // Timers of a peer are due: it is named by its number.
  void dial_due(uint64_t peer);
  void sweep_due(uint64_t peer);
  // The dial for this flow has failed: refused by `greeting`, if there is one.
  void failed(uint64_t flow, Reason reason, const std::optional<wire::Greeting>& greeting);
  // The dial for this flow has led to a link. Under the engine's lock.
  void linked(uint64_t flow, const Address& address, Link& link);
  // Nobody is looked for any more.
  void give_up();

 private:
  std::optional<Place> place_of(uint64_t id);
  bool begin(uint64_t id, Lane lane);
  bool claim_on_links(Flow& flow);
  Peer* peer_at(const Place& place);
  void pump(Peer& peer);
  std::optional<Reason> dial(const Peer& peer, uint64_t id, const Endpoint& local, const Endpoint& remote);
  Peer::Waiting end_dial(Peer& peer);
  void refused(Peer& peer, Peer::Waiting dialled, Reason reason, const std::optional<wire::Greeting>& greeting);
  bool claim_linked(Lane lane, uint64_t id, const wire::Greeting& greeting);
  void schedule(const Peer& peer);
  bool look_elsewhere(Flow& flow);
  void not_found(uint64_t id, Reason reason);
  void settle(uint64_t id, Reason reason);

  Engine& engine_;
  Fabrics& fabrics_;
  PeerOwners& owners_;
  Timers& timers_;
  std::map<Place, Peer> peers_;
  std::unordered_map<uint64_t, Peer*> by_number_;
  std::multimap<uint64_t, Peer*>
      by_dialled_;  // by the flow that is dialled: in both lanes, if its search began anew meanwhile
  uint64_t next_number_ = 0;
};

}  // namespace rsock::engine
