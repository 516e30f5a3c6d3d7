#include "core/engine/service/rendezvous.hpp"

#include <mutex>
#include <utility>

namespace rsock::engine {

Rendezvous::Rendezvous(Engine& engine, Fabrics& fabrics, PeerOwners& owners, Timers& timers)
    : engine_(engine),
      timers_(timers),
      points_(engine, fabrics, owners, timers),
      search_(engine, fabrics, owners, timers) {}

void Rendezvous::due(Timers::Name timer) {
  if (timer.what == Due::point) points_.due(timer.id);
  if (timer.what == Due::dial) search_.dial_due(timer.id);
  if (timer.what == Due::sweep) search_.sweep_due(timer.id);
  if (timer.what == Due::retry) try_again(timer.id);
}

void Rendezvous::again(Flow& flow) { timers_.set({Due::retry, flow.id()}, now() + flow.pause()); }

// A lane for a flow that had one.
void Rendezvous::try_again(uint64_t id) {
  Role role;
  {
    const std::lock_guard guard(engine_.lock);
    const auto flow = engine_.find_flow(id);
    if (!flow || flow->settled()) return;
    if (!flow->admitted()) return;  // an operator's next word begins the search
    // Not all is read, or sent, that the lane left behind.
    if (flow->not_yet() && flow->stage() != Stage::lane) again(*flow);
    if (!flow->eligible()) return;
    flow->candidacy().seek_again();
    role = flow->role();
  }
  if (role == Role::connector)
    await_peer(id);
  else
    find_peer(id);
}

void Rendezvous::give_up() {
  points_.close_all();
  search_.give_up();
  timers_.cancel_all(Due::retry);
}

wire::Greeting Rendezvous::asked(Lane lane, uint64_t cookie, const Address& from, const wire::Hello& hello) {
  const std::lock_guard guard(engine_.lock);
  const auto flow = engine_.find_flow(cookie);
  wire::Greeting answer;
  answer.engine = engine_.identity;
  answer.verdict = judge(lane, flow.get(), from, hello);
  if (answer.verdict == wire::Verdict::welcome) answer.key = engine_.keys().own();
  if (flow && answer.verdict == wire::Verdict::version && flow->eligible()) flow->settle(Reason::peer_version);
  // Its claim is on the way.
  if (answer.verdict == wire::Verdict::welcome || answer.verdict == wire::Verdict::linked) points_.found(cookie);
  return answer;
}

// A stranger decides nothing about the flow. A welcome can be given: there are keys.
wire::Verdict Rendezvous::judge(Lane lane, Flow* flow, const Address& from, const wire::Hello& hello) {
  const auto& greeting = hello.greeting;
  const auto expected = [&] { return flow->remote().address == from && flow->remote() == hello.acceptor; };
  if (!flow || (engine_.settings.check_peer_address && !expected())) return wire::Verdict::stranger;
  if (!greeting.common()) return wire::Verdict::version;
  if (auto* link = engine_.link_of(greeting.engine, from, lane); link && flow->may_use(*link)) {
    // It may have failed for the peer already.
    link->probe();
    if (link->flows() == 0) link->fail(Reason::link_failed);
    if (link->alive()) return wire::Verdict::linked;
  }
  return engine_.has_keys() ? wire::Verdict::welcome : wire::Verdict::resources;
}

void Rendezvous::linked(uint64_t cookie, bool dialled, const Address& address, const wire::Greeting& greeting,
                        std::unique_ptr<fabric::Connection> connection, fabric::Completions&) {
  const std::lock_guard guard(engine_.lock);
  auto& link = engine_.add_link(std::move(connection), address, greeting, dialled);
  if (!dialled) return;
  link.set_ready();
  if (link.ready()) search_.linked(cookie, address, link);
}

void Rendezvous::established(fabric::Connection& connection) {
  const std::lock_guard guard(engine_.lock);
  if (auto* link = engine_.link_with(connection)) link->set_ready();
}

void Rendezvous::dial_failed(uint64_t cookie, Reason reason, std::optional<wire::Greeting> greeting) {
  search_.failed(cookie, reason, greeting);
}

void Rendezvous::disconnected(fabric::Connection& connection) {
  const std::lock_guard guard(engine_.lock);
  auto* link = engine_.link_with(connection);
  if (!link) return;
  // What the peer sent before it left is there already.
  engine_.drain();
  link->fail(Reason::link_failed);
}

void Rendezvous::point_lost(uint64_t cookie, Reason reason) { points_.lost(cookie, reason); }

}  // namespace rsock::engine
