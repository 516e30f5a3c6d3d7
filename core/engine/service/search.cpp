#include "core/engine/service/search.hpp"

#include <algorithm>
#include <mutex>
#include <utility>

#include "core/base/log.hpp"
#include "core/base/near.hpp"
#include "core/base/statistics.hpp"

namespace rsock::engine {
namespace {

constexpr size_t kMostLinksAsked = 4;  // before a dial
constexpr size_t kMostPeers = 4096;    // addresses remembered
constexpr int kMostFound = 3;          // links that a flow's own point led to
// The connector's point may open late (its first one loads rdma-core), and then stays open for one rendezvous
// time.
constexpr int kPatience = 4;
// A peer on this host: for how long it is looked for over shared memory alone where there is RDMA as well;
// and how long it may take to answer, while others wait.
constexpr auto kNearSearch = milliseconds(500);
constexpr auto kNearDial = milliseconds(250);

}  // namespace

void Search::find(uint64_t id) {
  const auto place = place_of(id);
  if (!place) return;
  if (place->lane == Lane::shm) (void)owners_.of(id);
  {
    const std::lock_guard guard(engine_.lock);
    const auto flow = engine_.find_eligible(id);
    if (!flow || claim_on_links(*flow)) return;
  }
  Reason why;
  if (!fabrics_.get(place->lane, why)) return not_found(id, why);
  if (!begin(id, place->lane)) return;
  auto* peer = peer_at(*place);
  if (!peer || !peer->add(id, now())) return settle(id, Reason::crowded);
  pump(*peer);
}

// Where the flow's peer is to be looked for now.
std::optional<Place> Search::place_of(uint64_t id) {
  const std::lock_guard guard(engine_.lock);
  const auto flow = engine_.find_eligible(id);
  if (!flow) return {};
  if (flow->candidacy().sought() == Lane::tcp) {
    const bool shm = flow->candidacy().wanted().shm && is_near(flow->local(), flow->remote());
    if (!shm && !flow->candidacy().wanted().rdma) return flow->settle(Reason::lane_unavailable), std::nullopt;
    flow->candidacy().seek_in(shm ? Lane::shm : Lane::rdma);
  }
  return Place{flow->candidacy().sought(), flow->remote().address};
}

// Its time there begins, unless it has. False if the flow is dialled no more.
bool Search::begin(uint64_t id, Lane lane) {
  const std::lock_guard guard(engine_.lock);
  const auto flow = engine_.find_flow(id);
  if (!flow) return false;
  // Whoever answers there and yet does not take the flow, or loses the link each time, is dialled no more.
  if (flow->candidacy().times_found() >= kMostFound) return flow->not_served(Reason::peer_declined), false;
  const auto& settings = engine_.settings;
  const bool also_rdma = flow->candidacy().wanted().rdma && fabrics_.find(Lane::rdma);
  const Duration search = lane == Lane::rdma ? kPatience * settings.rendezvous
                          : also_rdma        ? Duration(kNearSearch)
                                             : settings.rendezvous;
  flow->candidacy().seek_until(now() + search);
  return true;
}

// Asks the links to the flow's peer address that were not asked yet, newest first, one at a time.
bool Search::claim_on_links(Flow& flow) {
  if (flow.candidacy().links_tried() >= kMostLinksAsked) return false;
  for (auto* link : engine_.links_to(flow.remote().address, flow.candidacy().sought())) {
    if (flow.candidacy().has_tried(link->id()) || !flow.may_use(*link)) continue;
    flow.claim(*link);
    return true;
  }
  return false;
}

// nullptr if there are too many that are in use. Its timers are set before anybody waits: should there be no
// memory for what follows, that is done when they are due.
Peer* Search::peer_at(const Place& place) {
  if (peers_.size() >= kMostPeers && !peers_.contains(place)) {
    std::erase_if(
        peers_, [&](const auto& known) { return known.second.idle() && by_number_.erase(known.second.number()) > 0; });
    if (peers_.size() >= kMostPeers) return nullptr;
  }
  auto& peer = peers_.try_emplace(place, place, next_number_++).first->second;
  by_number_.try_emplace(peer.number(), &peer);
  for (const auto what : {Due::dial, Due::sweep})
    if (!timers_.find({what, peer.number()})) timers_.set({what, peer.number()}, now());
  return &peer;
}

// Dials what is due.
void Search::pump(Peer& peer) {
  const auto& [lane, address] = peer.place();
  for (auto next = peer.next_dial(); next && now() >= *next; next = peer.next_dial()) {
    const auto waiting = peer.take();
    Endpoint local, remote;
    if (lane == Lane::shm) (void)owners_.of(waiting.flow);
    {
      const std::lock_guard guard(engine_.lock);
      const auto flow = engine_.find_eligible(waiting.flow);
      if (!flow || claim_on_links(*flow)) continue;
      local = flow->local(), remote = flow->remote();
    }
    const auto entry = by_dialled_.emplace(waiting.flow, &peer);
    const auto failed = dial(peer, waiting.flow, local, remote);
    if (!failed) {
      const auto& most = engine_.settings.dial;
      peer.begin(waiting, now() + (lane == Lane::shm ? std::min<Duration>(most, kNearDial) : most));
      log::debug("dialling {} for a flow to {}", to_string(address), to_string(remote));
      break;
    }
    by_dialled_.erase(entry);
    if (*failed == Reason::plain_peer)
      peer.wait_again(waiting, now());
    else
      not_found(waiting.flow, *failed);
  }
  schedule(peer);
}

std::optional<Reason> Search::dial(const Peer& peer, uint64_t id, const Endpoint& local, const Endpoint& remote) {
  statistics.dials.add();
  wire::Greeting greeting;
  greeting.engine = engine_.identity;
  return fabrics_.find(peer.place().lane)->dial(id, local, remote, greeting);
}

void Search::schedule(const Peer& peer) {
  timers_.put({Due::dial, peer.number()}, peer.dialling() ? std::optional(peer.dial_ends()) : peer.next_dial());
  timers_.put({Due::sweep, peer.number()}, peer.next_sweep());
}

Peer::Waiting Search::end_dial(Peer& peer) {
  const auto dialled = peer.end();
  std::erase_if(by_dialled_, [&](const auto& known) { return known.first == dialled.flow && known.second == &peer; });
  return dialled;
}

void Search::dial_due(uint64_t number) {
  const auto found = by_number_.find(number);
  if (found == by_number_.end()) return;
  auto& peer = *found->second;
  if (peer.dialling() && now() >= peer.dial_ends()) {
    auto dialled = end_dial(peer);
    fabrics_.find(peer.place().lane)->cancel_dial(dialled.flow);
    // What a dial rests on are datagrams, which may be lost: a silent one is repeated like a refused one.
    dialled.failure = Reason::dial_timeout;
    peer.wait_again(dialled, now());
  }
  pump(peer);
}

void Search::failed(uint64_t id, Reason reason, const std::optional<wire::Greeting>& greeting) {
  const auto found = by_dialled_.find(id);
  if (found == by_dialled_.end()) return;
  auto& peer = *found->second;
  refused(peer, end_dial(peer), reason, greeting);
  pump(peer);
}

void Search::refused(Peer& peer, Peer::Waiting dialled, Reason reason, const std::optional<wire::Greeting>& greeting) {
  const auto verdict = greeting ? greeting->verdict : wire::Verdict::welcome;
  if (greeting && (!greeting->common() || verdict == wire::Verdict::version)) {
    settle(dialled.flow, Reason::peer_version);
  } else if (verdict == wire::Verdict::linked) {
    if (!claim_linked(peer.place().lane, dialled.flow, *greeting)) peer.wait_again(dialled, now());
  } else if (reason == Reason::plain_peer || reason == Reason::dial_timeout || verdict == wire::Verdict::stranger) {
    // A stranger to the point: it is another flow's, and the one that is sought has none yet.
    dialled.failure = verdict == wire::Verdict::stranger ? Reason::peer_declined : reason;
    peer.wait_again(dialled, now());
  } else {
    peer.space(now());
    not_found(dialled.flow, greeting ? Reason::peer_declined : reason);
  }
}

// The peer says that there is a link already. False if the flow cannot have it now.
bool Search::claim_linked(Lane lane, uint64_t id, const wire::Greeting& greeting) {
  const std::lock_guard guard(engine_.lock);
  const auto flow = engine_.find_flow(id);
  if (!flow) return true;
  auto* link = engine_.link_of(greeting.engine, flow->remote().address, lane);
  if (!link || !link->ready() || !flow->may_use(*link)) return false;
  flow->candidacy().found();
  flow->claim(*link);
  return true;
}

void Search::linked(uint64_t id, const Address& address, Link& link) {
  const auto found = peers_.find({link.lane(), address});
  if (found == peers_.end()) return;
  auto& peer = found->second;
  if (peer.dialling() && peer.dialling()->flow == id) (void)end_dial(peer);
  if (const auto flow = engine_.find_flow(id)) flow->candidacy().found(), flow->claim(link);
  peer.linked([&](uint64_t waiting) {
    const auto flow = engine_.find_flow(waiting);
    if (flow && !flow->may_use(link)) return false;
    if (flow) flow->claim(link);
    return true;
  });
  schedule(peer);
}

// Flows that are gone wait no longer; those whose peer cannot be waiting either settle, or are sought
// elsewhere.
void Search::sweep_due(uint64_t number) {
  const auto found = by_number_.find(number);
  if (found == by_number_.end()) return;
  auto& peer = *found->second;
  {
    const std::lock_guard guard(engine_.lock);
    peer.sweep(now(), [&](uint64_t id, Reason failure) {
      const auto flow = engine_.find_eligible(id);
      if (!flow) return Peer::Fate::gone;
      if (now() <= flow->candidacy().sought_until()) return Peer::Fate::waits;
      if (look_elsewhere(*flow)) return Peer::Fate::gone;
      flow->not_served(failure);
      return Peer::Fate::in_vain;
    });
  }
  pump(peer);
}

// Whether there is another lane for a flow that did not find its peer: then it is sought there, soon.
bool Search::look_elsewhere(Flow& flow) {
  if (flow.candidacy().sought() != Lane::shm || !flow.candidacy().wanted().rdma || !fabrics_.find(Lane::rdma))
    return false;
  flow.candidacy().seek_in(Lane::rdma);
  engine_.orders.seek(flow.id());
  return true;
}

// No peer where the flow's was looked for: it is looked for elsewhere, or the flow settles.
void Search::not_found(uint64_t id, Reason reason) {
  const std::lock_guard guard(engine_.lock);
  const auto flow = engine_.find_eligible(id);
  if (flow && !look_elsewhere(*flow)) flow->not_served(reason);
}

void Search::settle(uint64_t id, Reason reason) {
  const std::lock_guard guard(engine_.lock);
  if (const auto flow = engine_.find_eligible(id)) flow->not_served(reason);
}

void Search::give_up() {
  for (const auto& [flow, peer] : std::exchange(by_dialled_, {})) fabrics_.find(peer->place().lane)->cancel_dial(flow);
  by_number_.clear();
  peers_.clear();
  for (const auto what : {Due::dial, Due::sweep}) timers_.cancel_all(what);
}

}  // namespace rsock::engine
