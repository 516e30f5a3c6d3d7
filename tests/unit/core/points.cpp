// The connecting end: when the point of a flow opens, where, and until when.

#include "core/engine/service/points.hpp"

#include "parts.hpp"

using namespace rsock;
using namespace rsock::engine;

namespace {

Settings brief() {
  auto settings = small();
  settings.rendezvous = milliseconds(40);
  return settings;
}

struct World : Ground {
  World() : Ground(brief()) {}
  Points points{engine, fabrics, owners, timers};

  std::optional<Time> due(const Flow& flow) const { return timers.find({Due::point, flow.id()}); }
  void run(const Flow& flow) {
    await(timers, {Due::point, flow.id()});
    points.due(flow.id());
  }
  void enter_lane(Flow& flow) {
    auto& to = link(flow, Lane::rdma);
    locked([&] { flow.claim(to); });
    REQUIRE(locked([&] { return !flow.eligible(); }));
  }
};

}  // namespace

TEST_CASE("A point is open for a rendezvous time, and its flow settles", "[points]") {
  World world;
  auto& flow = world.flow(Role::connector, kFar);
  auto& rdma = world.dialler(Lane::rdma);
  const auto before = now();
  world.points.open(flow.id());
  CHECK(rdma.points == std::set{flow.id()});
  CHECK(*world.due(flow) >= before + milliseconds(40));
  CHECK(*world.due(flow) <= now() + milliseconds(40));
  world.run(flow);
  CHECK(rdma.points.empty());
  CHECK(world.settled(flow) == Reason::not_dialled);
  CHECK_FALSE(world.due(flow));
  CHECK(world.points.size() == 0);
}

TEST_CASE("A peer on this host is offered shared memory first", "[points]") {
  World world;
  auto& flow = world.flow(Role::connector, kBoth);
  auto &shm = world.dialler(Lane::shm), &rdma = world.dialler(Lane::rdma);
  const auto before = now();
  SECTION("alone, for a while") {
    world.points.open(flow.id());
    CHECK(shm.points == std::set{flow.id()});
    CHECK(rdma.points.empty());
  }
  SECTION("but RDMA at once where there is none") {
    shm.no_point = Reason::descriptors;
    world.points.open(flow.id());
    CHECK(rdma.points == std::set{flow.id()});
  }
  CHECK(*world.due(flow) >= before + milliseconds(40));
}

TEST_CASE("One on another host is not looked for in memory", "[points]") {
  World world;
  auto& shm = world.dialler(Lane::shm);
  auto& both = world.flow(Role::connector, kBoth, false);
  world.points.open(both.id());
  CHECK(world.dialler(Lane::rdma).points == std::set{both.id()});
  auto& near = world.flow(Role::connector, kNear, false);
  world.points.open(near.id());
  CHECK(shm.points.empty());
  CHECK(world.settled(near) == Reason::lane_unavailable);
}

TEST_CASE("RDMA follows where shared memory was offered and not taken", "[points]") {
  auto settings = small();
  settings.rendezvous = milliseconds(2000);
  Ground ground(settings);
  Points points(ground.engine, ground.fabrics, ground.owners, ground.timers);
  auto& flow = ground.flow(Role::connector, kBoth);
  const auto before = now();
  points.open(flow.id());
  const Timers::Name name{Due::point, flow.id()};
  CHECK(*ground.timers.find(name) >= before + milliseconds(300));
  CHECK(*ground.timers.find(name) < before + milliseconds(2000));
  await(ground.timers, name);
  points.due(flow.id());
  CHECK(ground.diallers.at(Lane::shm)->points == std::set{flow.id()});
  CHECK(ground.diallers.at(Lane::rdma)->points == std::set{flow.id()});
  CHECK(*ground.timers.find(name) >= before + milliseconds(2000));
}

TEST_CASE("A name that is taken is tried again, and given up in the end", "[points]") {
  World world;
  auto& flow = world.flow(Role::connector, kFar);
  auto& rdma = world.dialler(Lane::rdma);
  rdma.no_point = Reason::port_taken;
  world.points.open(flow.id());
  CHECK(rdma.points.empty());
  CHECK_FALSE(world.settled(flow));
  SECTION("it becomes free") {
    rdma.no_point.reset();
    world.run(flow);
    CHECK(rdma.points == std::set{flow.id()});
    world.run(flow);
    CHECK(world.settled(flow) == Reason::not_dialled);
  }
  SECTION("it does not") {
    while (world.due(flow)) world.run(flow);
    CHECK(world.settled(flow) == Reason::port_taken);
  }
}

TEST_CASE("A flow whose point opens nowhere settles", "[points]") {
  World world;
  auto& flow = world.flow(Role::connector, kFar);
  SECTION("without a device") {
    world.lacking[Lane::rdma] = Reason::no_device;
    world.points.open(flow.id());
    CHECK(world.settled(flow) == Reason::no_device);
  }
  SECTION("by what the fabric says") {
    world.dialler(Lane::rdma).no_point = Reason::no_route;
    world.points.open(flow.id());
    CHECK(world.settled(flow) == Reason::no_route);
  }
  CHECK(world.points.size() == 0);
  CHECK_FALSE(world.due(flow));
}

TEST_CASE("A flow that is not to enter a lane has no point", "[points]") {
  World world;
  auto& flow = world.flow(Role::connector, kFar);
  world.locked([&] { flow.settle(Reason::unserved_call); });
  world.points.open(flow.id());
  world.points.open(4711);
  world.points.due(4711);
  world.points.found(4711);
  world.points.close(4711);
  CHECK(world.points.size() == 0);
  CHECK(world.made == 0);
}

TEST_CASE("A flow that was claimed meanwhile opens nothing", "[points]") {
  World world;
  auto& flow = world.flow(Role::connector, kFar);
  auto& rdma = world.dialler(Lane::rdma);
  rdma.no_point = Reason::port_taken;
  world.points.open(flow.id());
  rdma.no_point.reset();
  world.enter_lane(flow);
  world.run(flow);
  CHECK(rdma.points.empty());
  CHECK(world.due(flow));
}

TEST_CASE("A point that was found late stays for what follows", "[points]") {
  World world;
  auto& flow = world.flow(Role::connector, kFar);
  world.points.open(flow.id());
  const auto before = now();
  world.points.found(flow.id());
  CHECK(*world.due(flow) >= before + world.engine.settings.dial);
}

TEST_CASE("A point that nobody needs is closed, and so are all", "[points]") {
  World world;
  auto &one = world.flow(Role::connector, kFar), &other = world.flow(Role::connector, kFar),
       &third = world.flow(Role::connector, kFar);
  for (auto* flow : {&one, &other, &third}) world.points.open(flow->id());
  world.points.open(one.id());  // it has one
  auto& rdma = world.dialler(Lane::rdma);
  CHECK(rdma.points.size() == 3);
  world.points.close(one.id());
  CHECK(rdma.points == std::set{other.id(), third.id()});
  CHECK_FALSE(world.due(one));
  CHECK_FALSE(world.settled(one));
  world.points.lost(other.id(), Reason::no_device);
  CHECK(world.settled(other) == Reason::no_device);
  CHECK_FALSE(world.due(other));
  world.points.close_all();
  CHECK(rdma.points.empty());
  CHECK(world.timers.size() == 0);
  CHECK_FALSE(world.settled(third));
}
