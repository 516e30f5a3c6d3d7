#pragma once
// What the parts of the service are tested with, in place of the service: an engine of whom nobody takes
// orders, flows on connections of this host's, and a fabric that the test plays.

#include <sys/eventfd.h>

#include <map>
#include <set>

#include "core/engine/service/events.hpp"
#include "core/engine/service/fabrics.hpp"
#include "core/engine/service/peer_owners.hpp"
#include "core/engine/service/timers.hpp"
#include "ends.hpp"

namespace rsock::engine {

// A source of completions that come when the test says so.
class Source final : public fabric::Completions {
 public:
  int poll() override {
    if (to_come == 0) return 0;
    --to_come;
    return 1;
  }
  void arm() override { ++armed; }
  void acknowledge() override {
    uint64_t count;
    (void)!::read(fd(), &count, sizeof count);
  }
  int fd() const override { return event_.get(); }
  void ring() {
    const uint64_t one = 1;
    REQUIRE(::write(fd(), &one, sizeof one) == sizeof one);
  }

  int to_come = 0, armed = 0;

 private:
  UniqueFd event_{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
};

// What an open set of events tells now: the tags.
inline std::vector<uint64_t> told(const Events& events) {
  std::array<epoll_event, 16> found{};
  const auto count = sys::epoll_poll(events.set(), found.data(), static_cast<int>(found.size()));
  REQUIRE(count);
  std::vector<uint64_t> tags;
  for (int i = 0; i < *count; ++i) tags.push_back(found[static_cast<size_t>(i)].data.u64);
  return tags;
}

// A dialler that does nothing, and remembers what it was to do. It opens points and begins dials unless it is
// given a reason.
class FakeDialler final : public fabric::Dialler {
 public:
  std::optional<Reason> open_point(uint64_t cookie, const Endpoint&, const Endpoint&) override {
    if (!no_point) points.insert(cookie);
    return no_point;
  }
  void close_point(uint64_t cookie) override { points.erase(cookie); }
  std::optional<Reason> dial(uint64_t cookie, const Endpoint&, const Endpoint& to, const wire::Greeting&) override {
    dialled.push_back(cookie);
    if (!no_dial) dials[cookie] = to;
    return no_dial;
  }
  void cancel_dial(uint64_t cookie) override { dials.erase(cookie); }
  void bury(std::unique_ptr<fabric::Connection> connection) override { buried.push_back(std::move(connection)); }
  int fd() const override { return source.fd(); }
  void dispatch(fabric::Meeting&) override { ++dispatched; }

  std::optional<Reason> no_point, no_dial;
  std::set<uint64_t> points;           // that are open
  std::map<uint64_t, Endpoint> dials;  // that are under way
  std::vector<uint64_t> dialled;       // ever
  std::vector<std::unique_ptr<fabric::Connection>> buried;
  Source source;
  int dispatched = 0;
};

// All that a part needs, without a service.
struct Ground {
  Engine& engine;
  Events events;
  Timers timers;
  PeerOwners owners{engine};
  // By lane: the dialler, once it is made, unless there is a reason not to.
  std::map<Lane, FakeDialler*> diallers;
  std::map<Lane, Reason> lacking;
  int made = 0;  // or tried
  std::vector<fabric::Completions*> announced;
  Fabrics fabrics{engine, events,
                  [this](Lane lane, const auto& announce, Reason& why) { return make(lane, announce, why); },
                  [this](fabric::Completions& source) { announced.push_back(&source), engine.add_source(source); }};

  // The engine is never destroyed, as in a process.
  explicit Ground(const Settings& settings = small()) : engine(*new Engine(settings)) {
    REQUIRE(events.open(engine.orders.summons()));
  }

  FakeDialler& dialler(Lane lane) {
    Reason why;
    REQUIRE(fabrics.get(lane, why));
    return *diallers[lane];
  }

  // One end of a connection to this host, or, as far as the library knows, to another. It may enter one of
  // `lanes`.
  Flow& flow(Role role, Lanes lanes, bool near = true) {
    const auto connection = tcp_connection();
    const int one = connection[0], other = connection[1];
    others.emplace_back(role == Role::connector ? other : one);
    const std::lock_guard guard(engine.lock);
    End end(engine);
    Ends::join(end, role, role == Role::connector ? one : other);
    end.flow->select(lanes);
    if (!near) {
      constexpr Address kDocumentation{.bytes = {192, 0, 2, 1}};
      end.flow->set_endpoints(end.flow->local(), {kDocumentation, end.flow->remote().port});
    }
    return *end.flow;
  }
  // A link to the flow's peer, as a dial brings it about: its other end is nobody's.
  Link& link(Flow& flow, Lane lane) {
    auto* own = new Wire;  // the link's
    wires.push_back(std::make_unique<Wire>());
    own->peer = wires.back().get(), wires.back()->peer = own;
    own->medium = wires.back()->medium = lane;
    wire::Greeting greeting{.engine = 7, .receives = kReceives};
    greeting.key = peers_keys.own();
    const std::lock_guard guard(engine.lock);
    REQUIRE(engine.has_keys());
    auto& link = engine.add_link(std::unique_ptr<Wire>(own), flow.remote().address, greeting, true);
    link.set_ready();
    REQUIRE(link.ready());
    return link;
  }
  template <class Act>
  auto locked(Act&& act) {
    const std::lock_guard guard(engine.lock);
    return act();
  }
  std::optional<Reason> settled(Flow& flow) {
    return locked([&] { return flow.settled_for(); });
  }

 private:
  std::unique_ptr<fabric::Dialler> make(Lane lane, const fabric::Dialler::Announce& announce, Reason& why) {
    ++made;
    if (const auto known = lacking.find(lane); known != lacking.end()) return why = known->second, nullptr;
    auto dialler = std::make_unique<FakeDialler>();
    diallers[lane] = dialler.get();
    announce(dialler->source);
    return dialler;
  }

  std::vector<UniqueFd> others;  // ends of the connections
  std::vector<std::unique_ptr<Wire>> wires;
  const keys::KeyPair peers_keys = std::move(*keys::KeyPair::make());
};

inline constexpr Lanes kBoth{.rdma = true, .shm = true}, kNear{.rdma = false, .shm = true},
    kFar{.rdma = true, .shm = false};

// Until a timer is due, which is set; the clock is real.
inline void await(const Timers& timers, Timers::Name name) {
  const auto due = timers.find(name);
  REQUIRE(due);
  REQUIRE(*due < now() + kPatience);
  std::this_thread::sleep_for(*due - now());
}

}  // namespace rsock::engine
