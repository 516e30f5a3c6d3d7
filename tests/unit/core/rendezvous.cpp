// What diallers tell, and to which end it goes.

#include "core/engine/service/rendezvous.hpp"

#include "parts.hpp"

using namespace rsock;
using namespace rsock::engine;
using wire::Verdict;

namespace {

struct World : Ground {
  Rendezvous rendezvous{engine, fabrics, owners, timers};

  // Somebody dials the flow's point.
  wire::Greeting asked(Flow& flow, uint16_t version = wire::kVersion, int wrong_port = 0) {
    wire::Hello hello{.greeting = {.version = version, .engine = 7, .receives = kReceives, .oldest = version},
                      .acceptor = flow.remote()};
    hello.acceptor.port = static_cast<uint16_t>(hello.acceptor.port + wrong_port);
    return rendezvous.asked(Lane::rdma, flow.id(), flow.remote().address, hello);
  }
  bool claims(Flow& of) {
    return locked([&] { return of.claims(); });
  }
};

}  // namespace

TEST_CASE("Who dials a point is judged", "[rendezvous]") {
  World world;
  auto& flow = world.flow(Role::connector, kFar);
  world.rendezvous.await_peer(flow.id());
  SECTION("the peer is welcome, and is told the key") {
    const auto before = now();
    const auto answer = world.asked(flow);
    CHECK(answer.verdict == Verdict::welcome);
    CHECK(answer.engine == world.engine.identity);
    CHECK(answer.key == world.engine.keys().own());
    CHECK(*world.timers.find({Due::point, flow.id()}) >= before + world.engine.settings.dial);
  }
  SECTION("one that looks for another flow is a stranger") {
    CHECK(world.asked(flow, wire::kVersion, 1).verdict == Verdict::stranger);
  }
  SECTION("so is one that looks for a flow that is gone") {
    CHECK(world.rendezvous.asked(Lane::rdma, 4711, {}, {}).verdict == Verdict::stranger);
  }
  SECTION("one of another version leaves the flow on TCP") {
    const auto answer = world.asked(flow, wire::kVersion + 1);
    CHECK(answer.verdict == Verdict::version);
    CHECK(answer.key == wire::PublicKey{});
    CHECK(world.settled(flow) == Reason::peer_version);
  }
  SECTION("one that has a link uses it") {
    auto& link = world.link(flow, Lane::rdma);
    auto& other = world.flow(Role::acceptor, kFar);
    world.locked([&] { other.claim(link); });  // the link has flows
    CHECK(world.asked(flow).verdict == Verdict::linked);
    world.locked([&] { link.fail(Reason::link_failed); });
    CHECK(world.asked(flow).verdict == Verdict::welcome);
  }
}

TEST_CASE("A dial that succeeds makes a link, and the flow claims on it", "[rendezvous]") {
  World world;
  auto& flow = world.flow(Role::acceptor, kFar);
  world.rendezvous.find_peer(flow.id());
  auto& rdma = world.dialler(Lane::rdma);
  REQUIRE(rdma.dials.contains(flow.id()));
  Wire far;
  auto connection = std::make_unique<Wire>();
  auto* own = connection.get();
  own->peer = &far, far.peer = own;
  REQUIRE(world.locked([&] { return world.engine.has_keys(); }));
  const auto keys = std::move(*keys::KeyPair::make());
  const wire::Greeting greeting{.engine = 7, .receives = kReceives, .key = keys.own()};
  world.rendezvous.linked(flow.id(), true, flow.remote().address, greeting, std::move(connection), rdma.source);
  CHECK(world.claims(flow));
  CHECK(far.arrived.size() == 2);  // KEY and CLAIM
  CHECK(world.engine.any_links);

  // It goes with its medium.
  Wire unknown;
  world.rendezvous.disconnected(unknown);
  world.rendezvous.established(unknown);
  world.rendezvous.disconnected(*own);
  CHECK(world.engine.any_failed);
  CHECK_FALSE(world.claims(flow));
}

TEST_CASE("A link that was dialled is not ready before the other end has spoken", "[rendezvous]") {
  World world;
  auto& flow = world.flow(Role::connector, kFar);
  Wire far;
  auto connection = std::make_unique<Wire>();
  auto* own = connection.get();
  own->peer = &far, far.peer = own;
  REQUIRE(world.locked([&] { return world.engine.has_keys(); }));
  auto& rdma = world.dialler(Lane::rdma);
  world.rendezvous.linked(flow.id(), false, flow.remote().address, {.engine = 7, .receives = kReceives},
                          std::move(connection), rdma.source);
  world.rendezvous.established(*own);
  CHECK_FALSE(world.locked([&] { return world.engine.link_with(*own)->ready(); }));
  CHECK_FALSE(world.claims(flow));
}

TEST_CASE("A dial that fails comes to the search, a point that is lost to its flow", "[rendezvous]") {
  World world;
  auto& sought = world.flow(Role::acceptor, kFar);
  world.rendezvous.find_peer(sought.id());
  world.rendezvous.dial_failed(sought.id(), Reason::no_route, {});
  CHECK(world.settled(sought) == Reason::no_route);
  auto& awaited = world.flow(Role::connector, kFar);
  world.rendezvous.await_peer(awaited.id());
  world.rendezvous.point_lost(awaited.id(), Reason::no_device);
  CHECK(world.settled(awaited) == Reason::no_device);
}

TEST_CASE("A flow looks for a lane again after a pause, by its role", "[rendezvous]") {
  World world;
  auto &acceptor = world.flow(Role::acceptor, kFar), &connector = world.flow(Role::connector, kFar);
  auto& rdma = world.dialler(Lane::rdma);
  for (auto* flow : {&acceptor, &connector}) {
    const auto before = now();
    world.locked([&] { world.rendezvous.again(*flow); });
    CHECK(*world.timers.find({Due::retry, flow->id()}) >= before + milliseconds(50));
  }
  world.rendezvous.due({Due::retry, acceptor.id()});
  world.rendezvous.due({Due::retry, connector.id()});
  CHECK(rdma.dials.contains(acceptor.id()));
  CHECK(rdma.points.contains(connector.id()));
}

TEST_CASE("A flow that may not enter a lane is not tried again", "[rendezvous]") {
  World world;
  auto &settled = world.flow(Role::acceptor, kFar), &barred = world.flow(Role::acceptor, kFar);
  world.locked([&] { settled.settle(Reason::unserved_call), world.engine.gate.set(false, barred.local().port); });
  for (auto* flow : {&settled, &barred}) world.rendezvous.due({Due::retry, flow->id()});
  world.rendezvous.due({Due::retry, 4711});
  CHECK(world.made == 0);
  CHECK_FALSE(world.settled(barred));
}

TEST_CASE("Where it is given up, no timer and no point is left", "[rendezvous]") {
  World world;
  auto &acceptor = world.flow(Role::acceptor, kFar), &connector = world.flow(Role::connector, kFar);
  world.rendezvous.find_peer(acceptor.id());
  world.rendezvous.await_peer(connector.id());
  world.locked([&] { world.rendezvous.again(acceptor); });
  world.timers.set({Due::cutover, acceptor.id()}, now());
  world.rendezvous.give_up();
  CHECK(world.dialler(Lane::rdma).points.empty());
  CHECK(world.dialler(Lane::rdma).dials.empty());
  CHECK(world.timers.size() == 1);
  world.rendezvous.forget(connector.id());
}
