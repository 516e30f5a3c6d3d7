// The accepting end: where a flow's peer is looked for, when it is dialled, and what follows from each
// answer.

#include "core/engine/service/search.hpp"

#include "parts.hpp"

using namespace rsock;
using namespace rsock::engine;
using wire::Verdict;

namespace {

Settings brief() {
  auto settings = small();
  settings.rendezvous = milliseconds(10);
  settings.dial = milliseconds(20);
  return settings;
}

struct World : Ground {
  World() : Ground(brief()) {}
  Search search{engine, fabrics, owners, timers};
  // Of the first address that anybody is looked for at.
  static constexpr Timers::Name kDial{Due::dial, 0}, kSweep{Due::sweep, 0};

  Flow& sought(Lanes lanes = kFar) {
    auto& one = flow(Role::acceptor, lanes);
    search.find(one.id());
    return one;
  }
  void run(Timers::Name name) {
    await(timers, name);
    name.what == Due::dial ? search.dial_due(name.id) : search.sweep_due(name.id);
  }
  static wire::Greeting greeting(Verdict verdict) { return {.verdict = verdict, .engine = 7, .receives = 0}; }
  void linked(Flow& of, Link& by) {
    locked([&] { search.linked(of.id(), of.remote().address, by); });
  }
  bool claims(Flow& of) {
    return locked([&] { return of.claims(); });
  }
};

}  // namespace

TEST_CASE("The peer's point is dialled, one at a time for an address", "[search]") {
  World world;
  auto& one = world.sought();
  auto& rdma = world.dialler(Lane::rdma);
  CHECK(rdma.dials.size() == 1);
  CHECK(rdma.dials.at(one.id()) == one.remote());
  auto& other = world.sought();
  CHECK(rdma.dials.size() == 1);
  // A link serves all that wait.
  auto& link = world.link(one, Lane::rdma);
  world.linked(one, link);
  CHECK(world.claims(one));
  CHECK(world.claims(other));
  CHECK(world.timers.size() == 0);
}

TEST_CASE("A link that is there is asked, before anything is dialled", "[search]") {
  World world;
  auto& flow = world.flow(Role::acceptor, kFar);
  world.link(flow, Lane::rdma);
  world.search.find(flow.id());
  CHECK(world.claims(flow));
  CHECK(world.made == 0);
}

TEST_CASE("Nobody is looked for where there is no fabric", "[search]") {
  World world;
  world.lacking[Lane::rdma] = Reason::no_device;
  CHECK(world.settled(world.sought()) == Reason::no_device);
  auto& none = world.flow(Role::acceptor, kNear, false);
  world.search.find(none.id());
  CHECK(world.settled(none) == Reason::lane_unavailable);
  world.search.find(4711);
  CHECK(world.timers.size() == 0);
}

TEST_CASE("A refused flow is dialled again until its time is over", "[search]") {
  World world;
  auto& flow = world.sought();
  auto& rdma = world.dialler(Lane::rdma);
  CHECK_FALSE(world.timers.find(World::kSweep));  // while it is dialled nobody waits
  while (!world.settled(flow)) {
    if (rdma.dials.erase(flow.id()) > 0) world.search.failed(flow.id(), Reason::plain_peer, {});
    const auto dial = world.timers.find(World::kDial), sweep = world.timers.find(World::kSweep);
    REQUIRE((dial || sweep));
    world.run(dial && (!sweep || *dial < *sweep) ? World::kDial : World::kSweep);
  }
  CHECK(world.settled(flow) == Reason::plain_peer);
  CHECK(rdma.dialled.size() > 1);
  CHECK(world.timers.size() == 0);
}

TEST_CASE("A silent dial is cancelled and repeated", "[search]") {
  World world;
  auto& flow = world.sought();
  auto& rdma = world.dialler(Lane::rdma);
  const auto dial = world.timers.find(World::kDial);
  CHECK(*dial <= now() + world.engine.settings.dial);
  world.run(World::kDial);
  CHECK(rdma.dials.empty());
  CHECK_FALSE(world.settled(flow));
  world.run(World::kDial);
  CHECK(rdma.dialled == std::vector{flow.id(), flow.id()});
}

TEST_CASE("What the peer's answer means", "[search]") {
  World world;
  auto& flow = world.sought();
  auto& rdma = world.dialler(Lane::rdma);
  rdma.dials.clear();
  SECTION("another version") {
    world.search.failed(flow.id(), Reason::peer_declined, World::greeting(Verdict::version));
    CHECK(world.settled(flow) == Reason::peer_version);
  }
  SECTION("another version, without a word of it") {
    auto greeting = World::greeting(Verdict::welcome);
    greeting.oldest = ++greeting.version;
    world.search.failed(flow.id(), Reason::peer_declined, greeting);
    CHECK(world.settled(flow) == Reason::peer_version);
  }
  SECTION("no resources") {
    world.search.failed(flow.id(), Reason::no_route, World::greeting(Verdict::resources));
    CHECK(world.settled(flow) == Reason::peer_declined);
  }
  SECTION("no way there") {
    world.search.failed(flow.id(), Reason::no_route, {});
    CHECK(world.settled(flow) == Reason::no_route);
  }
  SECTION("the point of another flow: again") {
    world.search.failed(flow.id(), Reason::peer_declined, World::greeting(Verdict::stranger));
    CHECK_FALSE(world.settled(flow));
    world.run(World::kDial);
    CHECK(rdma.dials.contains(flow.id()));
  }
  SECTION("a link that is not here yet: again") {
    world.search.failed(flow.id(), Reason::peer_declined, World::greeting(Verdict::linked));
    CHECK_FALSE(world.settled(flow));
    world.run(World::kDial);
    CHECK(rdma.dials.contains(flow.id()));
  }
  SECTION("a link that is here: it claims") {
    world.link(flow, Lane::rdma);
    world.search.failed(flow.id(), Reason::peer_declined, World::greeting(Verdict::linked));
    CHECK(world.claims(flow));
    CHECK(flow.candidacy().times_found() == 1);
  }
  SECTION("an answer for nobody") {
    world.search.failed(4711, Reason::plain_peer, {});
    CHECK_FALSE(world.settled(flow));
  }
}

TEST_CASE("A dial that cannot begin", "[search]") {
  World world;
  auto& rdma = world.dialler(Lane::rdma);
  SECTION("is repeated if it was refused") {
    rdma.no_dial = Reason::plain_peer;
    auto& flow = world.sought();
    CHECK_FALSE(world.settled(flow));
    rdma.no_dial.reset();
    world.run(World::kDial);
    CHECK(rdma.dials.contains(flow.id()));
  }
  SECTION("settles the flow if not") {
    rdma.no_dial = Reason::descriptors;
    CHECK(world.settled(world.sought()) == Reason::descriptors);
  }
}

TEST_CASE("A peer on this host is looked for in memory first, then over RDMA", "[search]") {
  World world;
  auto& rdma = world.dialler(Lane::rdma);
  auto& flow = world.sought(kBoth);
  auto& shm = world.dialler(Lane::shm);
  CHECK(shm.dials.contains(flow.id()));
  CHECK(rdma.dials.empty());
  shm.dials.clear();
  world.search.failed(flow.id(), Reason::descriptors, {});
  CHECK_FALSE(world.settled(flow));
  const auto orders = world.locked([&] { return world.engine.orders.take(); });
  CHECK(orders.seek == std::vector{flow.id()});
  world.search.find(flow.id());
  CHECK(rdma.dials.contains(flow.id()));
}

TEST_CASE("Whoever is found three times, and does not take the flow, is dialled no more", "[search]") {
  World world;
  auto& flow = world.flow(Role::acceptor, kFar);
  world.locked([&] {
    flow.candidacy().seek_in(Lane::rdma);
    for (int i = 0; i < 3; ++i) flow.candidacy().found();
  });
  world.search.find(flow.id());
  CHECK(world.settled(flow) == Reason::peer_declined);
}

TEST_CASE("Flows that are gone wait no longer", "[search]") {
  World world;
  world.sought();
  auto& other = world.sought();
  world.locked([&] { other.settle(Reason::unserved_call); });
  world.run(World::kSweep);
  CHECK_FALSE(world.timers.find(World::kSweep));
  CHECK(world.timers.find(World::kDial));  // the end of the first one's dial
}

TEST_CASE("A flow whose search began anew may be dialled in both lanes", "[search]") {
  World world;
  auto& rdma = world.dialler(Lane::rdma);
  auto& shm = world.dialler(Lane::shm);
  auto& flow = world.flow(Role::acceptor, kBoth);
  world.locked([&] { flow.candidacy().seek_in(Lane::rdma); });
  world.search.find(flow.id());
  world.locked([&] { flow.candidacy().seek_again(); });
  world.search.find(flow.id());
  CHECK(rdma.dials.contains(flow.id()));
  CHECK(shm.dials.contains(flow.id()));
  world.search.failed(flow.id(), Reason::plain_peer, {});
  world.search.failed(flow.id(), Reason::plain_peer, {});
  world.run({Due::dial, 0});
  world.run({Due::dial, 1});
  CHECK(rdma.dialled.size() == 2);
  CHECK(shm.dialled.size() == 2);
}

TEST_CASE("A search that is given up leaves nothing under way", "[search]") {
  World world;
  world.sought();
  world.sought();
  world.search.give_up();
  CHECK(world.dialler(Lane::rdma).dials.empty());
  CHECK(world.timers.size() == 0);
  world.search.dial_due(0);
  world.search.sweep_due(0);
}
