// How the two ends of a connection find each other: the acceptor dials the point that the connector opened. The two are not
// ordered in time, and a plain peer opens none, so a refusal is an ordinary answer. A flow whose dial is refused, or not answered,
// waits, on TCP and working, and is dialled again after a pause that grows, as long as its point could still be open. Dials to
// one address are also spaced: closely at first; far apart once a flow of that address has used up its time and none since was
// ever linked: then the address is taken for a plain peer's, and only its newest flow is tried, once a second.
//
// Where the peer is on this host, it is looked for over shared memory first, where a dial costs next to nothing and is not
// spaced; then, if the rule allows it, over RDMA. The connector opens its points in the same order.

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/base/log.hpp"
#include "core/engine/service.hpp"
#include "core/fabric/shm/dialler.hpp"
#include "core/fabric/verbs/dialler.hpp"

namespace rsock::engine {
namespace {

constexpr auto kFirstPause = milliseconds(2);  // of a flow
constexpr auto kLongestPause = milliseconds(500);
constexpr auto kGap = milliseconds(2);  // between refused dials to one address
constexpr auto kPlainGap = milliseconds(1000);
constexpr int kPauseFactor = 2;
constexpr auto kSweep = milliseconds(200);
constexpr size_t kMostWaiting = 1024;   // for one peer's address
constexpr size_t kMostLinksAsked = 4;   // before a dial
constexpr size_t kMostPeers = 4096;     // addresses remembered
constexpr int kMostFound = 3;           // links that a flow's own point led to
// The connector's point may open late (its first one loads rdma-core), and then stays open for one rendezvous time.
constexpr int kPatience = 4;
constexpr auto kDiallerRetry = milliseconds(100);  // a device that comes is found by the next flow
// Where the name of a point is taken: when it is tried again, at first, then later and later; and how many rendezvous times. Whoever has
// it keeps it for one.
constexpr auto kTakenPause = milliseconds(10);
constexpr int kTakenFor = 2;
// A peer on this host: for how long it is looked for over shared memory alone, at the accepting end, and offered that alone,
// at the connecting end, where there is RDMA as well; and how long it may take to answer, while others wait.
constexpr auto kNearSearch = milliseconds(500);
constexpr auto kNearOffer = milliseconds(300);
constexpr auto kNearDial = milliseconds(250);

// Whether the other end of a connection is on this host. Where any address can be bound, all seem to be: then nobody is found.
// Without a descriptor to find out, whoever goes on will notice.
bool near(const Endpoint& local, const Endpoint& remote) {
  if (local.address == remote.address) return true;
  const auto probe = sys::socket(remote.address.v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (!probe) return true;
  const UniqueFd owned(*probe);
  sockaddr_storage address;
  const auto size = write(Endpoint{remote.address, 0}, address);
  return static_cast<bool>(sys::bind(*probe, reinterpret_cast<sockaddr*>(&address), size));
}

// The pause there is to be now; the next is longer.
Duration take_pause(Duration& pause) {
  return std::exchange(pause, std::min<Duration>(pause * kPauseFactor, kLongestPause));
}

}  // namespace

void Service::forked() { fabric::verbs::library_forked(); }

fabric::Dialler* Service::dialler_of(Lane lane, Reason& why) {
  auto& fabric = fabrics_[static_cast<size_t>(lane)];
  if (!fabric.dialler && (!fabric.unavailable || now() >= fabric.retry)) {
    fabric.dialler = make_dialler(lane, why);
    if (fabric.dialler) return look_after_dialler(lane), fabric.dialler.get();
    fabric.unavailable = why;
    fabric.retry = now() + kDiallerRetry;
  }
  if (!fabric.dialler) why = *fabric.unavailable;
  return fabric.dialler.get();
}

std::unique_ptr<fabric::Dialler> Service::make_dialler(Lane lane, Reason& why) {
  const auto announce = [this](fabric::Completions& source) { announced(source); };
  if (lane == Lane::shm)
    return fabric::shm::SocketDialler::make(engine_.lock, budget_, engine_.settings.max_pinned, announce, why);
  why = Reason::no_device;
  return fabric::verbs::CmDialler::make(engine_.lock, budget_, engine_.settings.device, announce, why);
}

void Service::settle(uint64_t id, Reason reason) {
  const std::lock_guard guard(engine_.lock);
  if (const auto flow = engine_.find_flow(id); flow && flow->eligible()) flow->not_served(reason);
}

// ---- the connecting end

void Service::open_point(uint64_t id) {
  if (points_.contains(id)) return;
  Endpoint local, remote;
  Lanes wanted;
  {
    const std::lock_guard guard(engine_.lock);
    const auto flow = engine_.find_flow(id);
    if (!flow || !flow->eligible()) return;
    local = flow->local(), remote = flow->remote(), wanted = flow->wanted;
  }
  Point point;
  point.pause = kTakenPause;
  const bool shm = wanted.shm && near(local, remote);
  if (shm) point.opens_in(Lane::shm) = now();
  if (wanted.rdma) point.opens_in(Lane::rdma) = shm ? now() + kNearOffer : now();
  point.closes = now() + kTakenFor * engine_.settings.rendezvous;
  if (const auto failed = open_where_due(id, point)) return settle(id, *failed);
  points_[id] = point;
}

// A reason if it is open nowhere, and will not be. The name of a point may be another flow's: over RDMA it has no room for both
// ends, so that any flow of this host from the same address and port, to wherever, has the same. It is free when that flow has
// entered its lane, or is awaited no longer.
std::optional<Reason> Service::open_where_due(uint64_t id, Point& point) {
  Endpoint local, remote;
  bool wanted = false, again = false;
  {
    const std::lock_guard guard(engine_.lock);
    if (const auto flow = engine_.find_flow(id)) {
      wanted = flow->eligible(), again = flow->lost_lane();
      local = flow->local(), remote = flow->remote();
    }
  }
  auto failed = Reason::lane_unavailable;
  for (const auto lane : {Lane::shm, Lane::rdma}) {
    auto& opens = point.opens_in(lane);
    if (!opens || now() < *opens) continue;
    if (!wanted) {  // claimed meanwhile, on a link that was there
      opens = now() + take_pause(point.pause);
      continue;
    }
    opens.reset();
    const auto reason = open_point_in(lane, id, local, remote);
    if (reason == Reason::port_taken) {
      opens = now() + take_pause(point.pause);
    } else if (reason) {
      failed = *reason;
      if (auto& other = point.opens_in(Lane::rdma); lane == Lane::shm && other) other = now();
    } else if (!std::exchange(point.open, true)) {
      // The peer of a flow that was in a lane knows that one is to be found here, and comes when it can.
      point.closes = again ? Time::max() : now() + engine_.settings.rendezvous;
    }
  }
  if (point.open || point.opens_in(Lane::shm) || point.opens_in(Lane::rdma)) return {};
  return failed;
}

std::optional<Reason> Service::open_point_in(Lane lane, uint64_t id, const Endpoint& local, const Endpoint& remote) {
  Reason why;
  auto* dialler = dialler_of(lane, why);
  const auto failed = dialler ? dialler->open_point(id, local, remote) : why;
  if (failed) log::debug("no rendezvous at {} for flow {}: {}", to_string(local), id, key(*failed));
  return failed;
}

void Service::close_point(uint64_t id) {
  for (const auto& fabric : fabrics_)
    if (fabric.dialler) fabric.dialler->close_point(id);
}

wire::Greeting Service::asked(Lane lane, uint64_t cookie, const Address& from, const wire::Hello& hello) {
  const auto& greeting = hello.greeting;
  const std::lock_guard guard(engine_.lock);
  wire::Greeting answer;
  answer.engine = engine_.identity;
  const auto flow = engine_.find_flow(cookie);
  const auto expected = [&] { return flow->remote().address == from && flow->remote() == hello.acceptor; };
  // A stranger decides nothing about the flow.
  if (!flow || (engine_.settings.check_peer_address && !expected()))
    answer.verdict = wire::Verdict::stranger;
  else if (greeting.version != wire::kVersion)
    answer.verdict = wire::Verdict::version;
  else if (auto* link = engine_.link_of(greeting.engine, from, lane)) {
    // It may have failed for the peer already.
    link->probe();
    if (link->flows() == 0) link->fail(Reason::link_failed);
    if (link->alive()) answer.verdict = wire::Verdict::linked;
  }
  if (flow && answer.verdict == wire::Verdict::version && flow->eligible()) flow->settle(Reason::peer_version);
  // The peer has found the point late; its claim is on the way.
  const bool comes = answer.verdict == wire::Verdict::welcome || answer.verdict == wire::Verdict::linked;
  if (const auto point = points_.find(cookie); comes && point != points_.end())
    point->second.closes = std::max(point->second.closes, now() + engine_.settings.dial);
  return answer;
}

// ---- the accepting end

void Service::find_peer(uint64_t id) {
  Place place{};
  {
    const std::lock_guard guard(engine_.lock);
    const auto flow = engine_.find_flow(id);
    if (!flow || !flow->eligible()) return;
    if (flow->sought == Lane::tcp) {
      const bool shm = flow->wanted.shm && near(flow->local(), flow->remote());
      if (!shm && !flow->wanted.rdma) return flow->settle(Reason::lane_unavailable);
      flow->sought = shm ? Lane::shm : Lane::rdma;
    }
    place = {flow->sought, flow->remote().address};
    if (claim_on_links(*flow)) return;
  }
  Reason why;
  if (!dialler_of(place.lane, why)) return not_found(id, why);
  {
    const std::lock_guard guard(engine_.lock);
    const auto flow = engine_.find_flow(id);
    if (!flow) return;
    // Whoever answers there and yet does not take the flow, or loses the link each time, is dialled no more.
    if (flow->times_found >= kMostFound) return flow->not_served(Reason::peer_declined);
    const auto& settings = engine_.settings;
    const bool also_rdma = flow->wanted.rdma && dialler_of(Lane::rdma);
    const Duration search = place.lane == Lane::rdma ? kPatience * settings.rendezvous
                            : also_rdma              ? Duration(kNearSearch)
                                                     : settings.rendezvous;
    if (flow->sought_until == Time{}) flow->sought_until = now() + search;
  }
  if (peers_.size() >= kMostPeers && !peers_.contains(place)) {
    std::erase_if(peers_, [](const auto& known) { return known.second.waiting.empty() && !known.second.dialling; });
    if (peers_.size() >= kMostPeers) return settle(id, Reason::crowded);
  }
  auto& peer = peers_[place];
  if (peer.waiting.size() >= kMostWaiting) return settle(id, Reason::crowded);
  peer.waiting.push_back({.flow = id, .due = now(), .pause = kFirstPause});
  pump(place, peer);
}

// No peer where the flow's was looked for: it is looked for elsewhere, or the flow settles.
void Service::not_found(uint64_t id, Reason reason) {
  const std::lock_guard guard(engine_.lock);
  const auto flow = engine_.find_flow(id);
  if (flow && flow->eligible() && !look_elsewhere(*flow)) flow->not_served(reason);
}

// Whether there is another lane for a flow that did not find its peer: then it is sought there, soon.
bool Service::look_elsewhere(Flow& flow) {
  if (flow.sought != Lane::shm || !flow.wanted.rdma || !dialler_of(Lane::rdma)) return false;
  flow.sought = Lane::rdma;
  flow.sought_until = {};
  flow.times_found = 0;
  seek(flow.id());
  return true;
}

// Asks the links to the flow's peer address that were not asked yet, newest first, one at a time.
bool Service::claim_on_links(Flow& flow) {
  if (flow.tried.size() >= kMostLinksAsked) return false;
  for (auto* link : engine_.links_to(flow.remote().address, flow.sought)) {
    if (flow.tried.contains(link->id())) continue;
    flow.claim(*link);
    return true;
  }
  return false;
}

// The next flow to dial: nothing if none is due. `due`: when one will be.
std::deque<Service::Waiting>::iterator Service::next_waiting(Peer& peer) {
  if (peer.plain) return std::prev(peer.waiting.end());
  return std::min_element(peer.waiting.begin(), peer.waiting.end(),
                          [](const auto& a, const auto& b) { return a.due < b.due; });
}

Time Service::next_dial(Peer& peer) { return std::max(peer.next_dial, next_waiting(peer)->due); }

void Service::pump(const Place& place, Peer& peer) {
  while (!peer.dialling && !peer.waiting.empty() && now() >= next_dial(peer)) {
    const auto at = next_waiting(peer);
    const auto waiting = *at;
    peer.waiting.erase(at);
    Endpoint local, remote;
    {
      const std::lock_guard guard(engine_.lock);
      const auto flow = engine_.find_flow(waiting.flow);
      if (!flow || !flow->eligible() || claim_on_links(*flow)) continue;
      local = flow->local(), remote = flow->remote();
    }
    statistics.dials.add();
    wire::Greeting greeting;
    greeting.engine = engine_.identity;
    if (const auto reason = dialler_of(place.lane)->dial(waiting.flow, local, remote, greeting)) {
      if (*reason == Reason::plain_peer)
        wait_again(place.lane, peer, waiting);
      else
        not_found(waiting.flow, *reason);
      continue;
    }
    peer.dialling = waiting;
    const auto& settings = engine_.settings;
    peer.dial_ends = now() + (place.lane == Lane::shm ? std::min<Duration>(settings.dial, kNearDial) : settings.dial);
    log::debug("dialling {} for a flow to {}", to_string(place.address), to_string(remote));
  }
}

// After a refusal: the flow waits again, and so does its peer's address.
void Service::wait_again(Lane lane, Peer& peer, Waiting waiting) {
  waiting.due = now() + take_pause(waiting.pause);
  peer.waiting.push_back(waiting);
  space(lane, peer);
}

void Service::space(Lane lane, Peer& peer) {
  if (lane == Lane::rdma) peer.next_dial = now() + (peer.plain ? kPlainGap : kGap);
}

void Service::dial_failed(uint64_t cookie, Reason reason, std::optional<wire::Greeting> greeting) {
  const auto found = std::find_if(peers_.begin(), peers_.end(), [&](auto& p) { return p.second.dialling && p.second.dialling->flow == cookie; });
  if (found == peers_.end()) return;
  auto& [place, peer] = *found;
  auto waiting = *std::exchange(peer.dialling, {});
  const auto verdict = greeting ? greeting->verdict : wire::Verdict::welcome;
  if (greeting && (greeting->version != wire::kVersion || verdict == wire::Verdict::version)) {
    settle(cookie, Reason::peer_version);
  } else if (greeting && verdict == wire::Verdict::linked) {
    const std::lock_guard guard(engine_.lock);
    const auto flow = engine_.find_flow(cookie);
    auto* link = flow ? engine_.link_of(greeting->engine, flow->remote().address, place.lane) : nullptr;
    if (link && link->ready())
      ++flow->times_found, flow->claim(*link);
    else if (flow)
      wait_again(place.lane, peer, waiting);
  } else if (reason == Reason::plain_peer || reason == Reason::dial_timeout || verdict == wire::Verdict::stranger) {
    // A stranger to the point: it is another flow's, and the one that is sought has none yet.
    waiting.failure = verdict == wire::Verdict::stranger ? Reason::peer_declined : reason;
    wait_again(place.lane, peer, waiting);
  } else {
    space(place.lane, peer);
    not_found(cookie, greeting ? Reason::peer_declined : reason);
  }
  pump(place, peer);
}

// ---- both

void Service::linked(uint64_t cookie, bool dialled, const Address& address, const wire::Greeting& greeting,
                     std::unique_ptr<fabric::Connection> connection, fabric::Completions&) {
  const std::lock_guard guard(engine_.lock);
  auto& link = engine_.add_link(std::move(connection), address, greeting);
  if (!dialled) return;
  link.set_ready();
  const auto found = peers_.find({link.lane(), address});
  if (found == peers_.end()) return;
  auto& peer = found->second;
  if (peer.dialling && peer.dialling->flow == cookie) peer.dialling.reset();
  peer.plain = false;
  peer.next_dial = {};
  if (const auto flow = engine_.find_flow(cookie)) ++flow->times_found, flow->claim(link);
  for (const auto& waiting : std::exchange(peer.waiting, {}))
    if (const auto flow = engine_.find_flow(waiting.flow)) flow->claim(link);
}

void Service::established(fabric::Connection& connection) {
  const std::lock_guard guard(engine_.lock);
  if (auto* link = engine_.link_with(connection)) link->set_ready();
}

void Service::disconnected(fabric::Connection& connection) {
  const std::lock_guard guard(engine_.lock);
  auto* link = engine_.link_with(connection);
  if (!link) return;
  // What the peer sent before it left is there already.
  engine_.drain();
  link->fail(Reason::link_failed);
}

void Service::point_lost(uint64_t cookie, Reason reason) {
  points_.erase(cookie);
  close_point(cookie);
  settle(cookie, reason);
}

// A lane for a flow that had one.
void Service::try_again(uint64_t id) {
  Role role;
  {
    const std::lock_guard guard(engine_.lock);
    const auto flow = engine_.find_flow(id);
    if (!flow || flow->settled()) return;
    if (!flow->admitted()) return;  // an operator's next word begins the search
    // Not all is read, or sent, that the lane left behind.
    if (flow->not_yet() && flow->stage() != Stage::lane) retries_[id] = now() + flow->pause();
    if (!flow->eligible()) return;
    flow->seek_again();
    role = flow->role();
  }
  if (role == Role::connector)
    open_point(id);
  else
    find_peer(id);
}

void Service::expire() {
  const auto time = now();
  for (auto at = points_.begin(); at != points_.end();) {
    const auto id = at->first;
    auto& point = at->second;
    auto over = time < point.closes ? std::nullopt
                                    : std::optional(point.open ? Reason::not_dialled : Reason::port_taken);
    if (!over && time >= point.due()) over = open_where_due(id, point);
    if (!over) {
      ++at;
      continue;
    }
    at = points_.erase(at);
    close_point(id);
    settle(id, *over);
  }
  std::vector<uint64_t> due;
  std::erase_if(retries_, [&](const auto& retry) { return retry.second <= time && (due.push_back(retry.first), true); });
  for (const auto id : due) try_again(id);
  if (next_probe_ && time >= *next_probe_) probe();
  std::erase_if(corks_, [&](const auto& cork) {
    if (time < cork.second) return false;
    const std::lock_guard guard(engine_.lock);
    if (const auto flow = engine_.find_flow(cork.first)) flow->cork_expired();
    return true;
  });
  std::erase_if(cutovers_, [&](const auto& cutover) {
    if (time < cutover.second) return false;
    const std::lock_guard guard(engine_.lock);
    if (const auto flow = engine_.find_flow(cutover.first)) flow->give_up();
    return true;
  });
  for (auto& [place, peer] : peers_) {
    if (peer.dialling && time >= peer.dial_ends) {
      auto waiting = *std::exchange(peer.dialling, {});
      dialler_of(place.lane)->cancel_dial(waiting.flow);
      // What a dial rests on are datagrams, which may be lost: a silent one is repeated like a refused one.
      waiting.failure = Reason::dial_timeout;
      wait_again(place.lane, peer, waiting);
    }
    if (!peer.waiting.empty() && time >= peer.next_sweep) sweep(place.lane, peer);
    pump(place, peer);
  }
}

// Flows that are gone wait no longer; those whose peer cannot be waiting either settle, or are sought elsewhere.
void Service::sweep(Lane lane, Peer& peer) {
  peer.next_sweep = now() + kSweep;
  const std::lock_guard guard(engine_.lock);
  std::erase_if(peer.waiting, [&](const Waiting& waiting) {
    const auto flow = engine_.find_flow(waiting.flow);
    if (!flow || !flow->eligible()) return true;
    if (now() <= flow->sought_until) return false;
    if (look_elsewhere(*flow)) return true;
    peer.plain = lane == Lane::rdma;
    flow->not_served(waiting.failure);
    return true;
  });
}

}  // namespace rsock::engine
