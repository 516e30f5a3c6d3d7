#include "core/engine/engine.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

#include "core/base/log.hpp"
#include "core/engine/service/service.hpp"

namespace rsock::engine {
namespace {

constexpr size_t kMostIdleLinks = 16;  // to one address
// A peer on this host answers within a few times what waking from sleep costs, or has something else to do.
constexpr auto kNearSpin = microseconds(50);
constexpr int kMostRounds = 64;  // of polling at a stretch: a peer may fill the queues as fast as they are emptied

// Where there are no random numbers it is 0: then there are no tokens either, and no flow enters a lane.
uint64_t random_identity() {
  uint64_t identity = 0;
  if (!sys::random(&identity, sizeof identity)) return 0;
  return identity;
}

// In the place of a source that has gone.
class Vacant final : public fabric::Completions {
 public:
  int poll() override { return 0; }
  void arm() override {}
  void acknowledge() override {}
  int fd() const override { return -1; }
};
Vacant& vacant() {
  static auto& one = *new Vacant;  // leaked: threads may poll until the very end
  return one;
}

}  // namespace

Engine::Engine(const Settings& with) : settings(with), identity(random_identity()) {}
Engine::~Engine() = default;

bool Engine::poll_sources(Look look) {
  int found = 0;
  for (size_t i = 0; i < completions_.size(); ++i) found += (completions_[i]->*look)();
  polls.store(polls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  return found > 0;
}

bool Engine::poll() {
  bool rung = false;
  for (auto* source : completions_) rung |= source->listen();
  if (rung) rearm();
  return poll(&fabric::Completions::poll);
}

bool Engine::glance() { return poll(&fabric::Completions::glance); }

bool Engine::poll(Look look) {
  assert(!handling_);
  handling_ = true;
  bool found = poll_sources(look);
  if (!ended_.empty()) decide_ends(), found = true;
  handling_ = false;
  return found;
}

// What the peers posted before these ends has completed already; it may be several batches.
void Engine::decide_ends() {
  while (!ended_.empty()) {
    for (int rounds = 0; rounds < kMostRounds && poll_sources(&fabric::Completions::look_everywhere); ++rounds) {
    }
    for (const auto& flow : std::exchange(ended_, {})) flow->decide_end();
  }
}

void Engine::tcp_ended(Flow& flow) {
  ended_.push_back(flow.shared_from_this());
  if (!handling_) poll();
}

bool Engine::drain() {
  for (int rounds = 0; rounds < kMostRounds; ++rounds)
    if (!poll()) return true;
  return false;
}

Duration Engine::longest_spin() const { return far_ ? settings.spin : std::min<Duration>(settings.spin, kNearSpin); }

void Engine::arm() {
  if (armed_) return;
  for (auto* source : completions_) source->arm();
  armed_ = true;
}

void Engine::acknowledge() {
  for (auto* source : completions_) source->acknowledge();
  rearm();
}

// Whoever took the event may not be the one who sleeps on it.
void Engine::rearm() {
  armed_ = false;
  if (asleep > 0 || guarded) arm();
}

size_t Engine::add_source(fabric::Completions& source) {
  armed_ = false;
  const auto vacant = static_cast<size_t>(std::find(source_fds_.begin(), source_fds_.end(), -1) - source_fds_.begin());
  if (vacant == source_fds_.size()) completions_.push_back(nullptr), source_fds_.push_back(-1);
  ++source_changes_;
  completions_[vacant] = &source;
  source_fds_[vacant] = source.fd();
  return vacant;
}

void Engine::vacate(const std::vector<fabric::Completions*>& sources) {
  for (auto* source : sources) {
    const auto at =
        static_cast<size_t>(std::find(completions_.begin(), completions_.end(), source) - completions_.begin());
    completions_[at] = &vacant();
    source_fds_[at] = -1;
    ++source_changes_;
  }
}

std::shared_ptr<Flow> Engine::make_flow(Role role, int fd) {
  const auto id = next_id_++;
  auto flow = std::make_shared<Flow>(*this, id, role, fd);
  flows_.emplace_hint(flows_.end(), id, flow);  // numbers grow
  return flow;
}

std::shared_ptr<Flow> Engine::find_flow(uint64_t id) {
  const auto found = flows_.find(id);
  return found == flows_.end() ? nullptr : found->second;
}

std::shared_ptr<Flow> Engine::find_eligible(uint64_t id) {
  auto flow = find_flow(id);
  return flow && flow->eligible() ? flow : nullptr;
}

std::shared_ptr<Flow> Engine::find_flow(const Endpoint& local, const Endpoint& remote) {
  for (const auto& [id, flow] : flows_)
    if (flow->local() == local && flow->remote() == remote) return flow;
  return nullptr;
}

void Engine::forget(Flow& flow) {
  remove_connector(flow);
  const auto found = flows_.find(flow.id());
  if (found == flows_.end()) return;
  finished_.push_back(std::move(found->second));
  flows_.erase(found);
}

// One that is inside connect(2) has no name yet.
void Engine::add_connector(Flow& flow) {
  if (flow.local().port == 0)
    unnamed_.push_back(&flow);
  else
    connectors_.emplace(flow.local(), &flow);
}

void Engine::remove_connector(Flow& flow) {
  std::erase(unnamed_, &flow);
  const auto [begin, end] = connectors_.equal_range(flow.local());
  const auto found = std::find_if(begin, end, [&](const auto& one) { return one.second == &flow; });
  if (found != end) connectors_.erase(found);
}

void Engine::name_connector(Flow& flow, const Endpoint& local, const Endpoint& remote) {
  remove_connector(flow);
  flow.set_endpoints(local, remote);
  add_connector(flow);
}

// The kernel knows their names before we are told.
void Engine::name_connectors() {
  for (auto* flow : std::vector(unnamed_)) {
    sockaddr_storage address{};
    Endpoint local;
    if (sys::getsockname(flow->shadow(), address) && parse(reinterpret_cast<sockaddr&>(address), local) &&
        local.port != 0)
      name_connector(*flow, local, flow->remote());
  }
}

Flow* Engine::find_connector(const wire::Claim& claim, const Link& link) {
  name_connectors();
  const auto [begin, end] = connectors_.equal_range(claim.connector);
  for (auto at = begin; at != end; ++at) {
    auto* flow = at->second;
    if (!flow->candidacy().wanted().has(link.lane())) continue;
    if (settings.check_peer_address && (flow->remote() != claim.acceptor || link.peer() != flow->remote().address))
      continue;
    return flow;
  }
  return nullptr;
}

Link& Engine::add_link(std::unique_ptr<fabric::Connection> connection, const Address& peer,
                       const wire::Greeting& greeting, bool dialled) {
  fail_idle_links(peer);
  links_.push_back(std::make_unique<Link>(*this, next_id_++, std::move(connection), peer, greeting, dialled));
  any_links = true;
  far_ = far_ || links_.back()->lane() != Lane::shm;
  had_device_ = had_device_ || links_.back()->lane() == Lane::rdma;
  statistics.links.add();
  log::info("link {} to {}", links_.back()->id(), to_string(peer));
  return *links_.back();
}

bool Engine::has_keys() {
  if (keyed_) return true;
  auto made = keys::KeyPair::make();
  if (!made) return false;
  keys_ = std::move(*made);
  return keyed_ = true;
}

// A peer costs us the links that its flows need, and a few more. Those that have shown no key go first: whoever only
// dials is not to cost an honest engine at the same address its link.
void Engine::fail_idle_links(const Address& peer) {
  std::vector<Link*> idle;
  for (const auto& link : links_)
    if (link->alive() && link->flows() == 0 && link->peer() == peer) idle.push_back(link.get());
  std::stable_partition(idle.begin(), idle.end(), [](const Link* link) { return !link->proven(); });
  for (size_t i = 0; i + kMostIdleLinks < idle.size() + 1; ++i) {
    log::info("link {} to {} is one too many without flows", idle[i]->id(), to_string(peer));
    idle[i]->fail(Reason::link_failed);
  }
}

void Engine::forgo_lanes(Reason reason) {
  forgone_ = reason;
  std::vector<std::shared_ptr<Flow>> selected;
  for (const auto& [id, flow] : flows_)
    if (flow->selected()) selected.push_back(flow);
  for (const auto& flow : selected) flow->leave(reason);
}

void Engine::link_failed(Link&) {
  any_failed = true;
  orders.wake();
}

std::vector<Link*> Engine::links_to(const Address& peer, Lane lane) {
  std::vector<Link*> found;
  for (auto at = links_.rbegin(); at != links_.rend(); ++at)
    if ((*at)->ready() && !(*at)->silent() && (*at)->peer() == peer && (*at)->lane() == lane)
      found.push_back(at->get());
  return found;
}

Link* Engine::link_of(uint64_t peer_engine, const Address& peer, Lane lane) {
  for (const auto& link : links_)
    if (link->alive() && link->lane() == lane && link->peer_engine() == peer_engine && link->peer() == peer)
      return link.get();
  return nullptr;
}

Link* Engine::link_with(const fabric::Connection& connection) {
  for (const auto& link : links_)
    if (&link->connection() == &connection) return link.get();
  return nullptr;
}

std::vector<std::unique_ptr<Link>> Engine::take_dead_links() {
  std::vector<std::unique_ptr<Link>> dead;
  for (auto& link : links_)
    if (!link->alive() && link->flows() == 0) dead.push_back(std::move(link));
  std::erase(links_, nullptr);
  any_links = !links_.empty();
  far_ = std::any_of(links_.begin(), links_.end(), [](const auto& link) { return link->lane() != Lane::shm; });
  any_failed = std::any_of(links_.begin(), links_.end(), [](const auto& link) { return !link->alive(); });
  return dead;
}

void Engine::ask_owner(Flow& flow) { orders.ask_owner(flow.id()); }
void Engine::seek(Flow& flow) { forgone_ ? flow.settle(*forgone_) : orders.seek(flow.id()); }
void Engine::expect(Flow& flow) { forgone_ ? flow.settle(*forgone_) : orders.expect(flow.id()); }
void Engine::is_young(Flow& flow) {
  if (settings.young == Duration::zero()) return is_worth_it(flow);
  auto& young = flow.role() == Role::acceptor ? young_acceptors : young_connectors;
  if (young.add(flow.id(), now())) orders.wake();
}
void Engine::is_worth_it(Flow& flow) {
  if (flow.candidacy().worth()) return;
  flow.role() == Role::acceptor ? seek(flow) : expect(flow);
  flow.candidacy().show_worth();
}
void Engine::again(Flow& flow) { orders.again(flow.id()); }
void Engine::settled(Flow& flow) {
  if (service_ && flow.candidacy().worth()) orders.not_wanted(flow.id());
}
void Engine::declined(Flow& flow) { orders.seek(flow.id()); }
void Engine::in_cutover(Flow& flow) { orders.in_cutover(flow.id()); }
void Engine::corked(Flow& flow) { orders.corked(flow.id()); }
void Engine::unsent(Flow& flow) { orders.unsent(flow.id()); }
void Engine::watch(Flow& flow) {
  if (service_) service_->watch(flow);
}
void Engine::unwatch(Flow& flow) {
  if (service_) service_->unwatch(flow);
}

Family* Engine::family() {
  if (!family_ && service_ && !service_->absent()) family_ = Family::make(sys::process_id());
  return family_.get();
}

void Engine::dissolve_family() {
  std::vector<std::shared_ptr<Flow>> shared;
  for (const auto& [id, flow] : flows_)
    if (flow->share()) shared.push_back(flow);
  for (const auto& flow : shared) flow->leave(Reason::shared);
  family_.reset();
}

void Engine::answer_family() {
  if (!family_ || !family_->called()) return;
  std::vector<std::shared_ptr<Flow>> wanted;
  for (const auto& [id, flow] : flows_)
    if (flow->wanted_elsewhere()) wanted.push_back(flow);
  for (const auto& flow : wanted) flow->leave_to_family();
  program.asked();
}

bool Engine::start_service() {
  if (service_) return true;
  service_ = Service::start(*this);
  started_.store(service_.get(), std::memory_order_release);
  return service_ != nullptr;
}

}  // namespace rsock::engine
