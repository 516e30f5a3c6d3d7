// The diallers of the lanes, and whose the sockets are that they lead to.

#include "core/engine/service/fabrics.hpp"

#include "parts.hpp"

using namespace rsock;
using namespace rsock::engine;

TEST_CASE("A dialler is made when it is first needed, and its sources are announced", "[fabrics]") {
  Ground ground;
  CHECK_FALSE(ground.fabrics.find(Lane::rdma));
  CHECK(ground.made == 0);
  Reason why;
  auto* rdma = ground.fabrics.get(Lane::rdma, why);
  REQUIRE(rdma);
  CHECK(ground.fabrics.get(Lane::rdma, why) == rdma);
  CHECK(ground.fabrics.find(Lane::rdma) == rdma);
  CHECK_FALSE(ground.fabrics.find(Lane::shm));
  CHECK(ground.made == 1);
  CHECK(ground.announced == std::vector<fabric::Completions*>{&ground.diallers.at(Lane::rdma)->source});
}

TEST_CASE("What tells of a dialler is a member of the set", "[fabrics]") {
  Ground ground;
  auto& shm = ground.dialler(Lane::shm);
  shm.source.ring();
  const auto tags = told(ground.events);
  REQUIRE(tags == std::vector{Events::tag(Events::Kind::dialler, static_cast<uint64_t>(Lane::shm))});
  struct Nobody final : fabric::Meeting {
    wire::Greeting asked(Lane, uint64_t, const Address&, const wire::Hello&) override { return {}; }
    void linked(uint64_t, bool, const Address&, const wire::Greeting&, std::unique_ptr<fabric::Connection>,
                fabric::Completions&) override {}
    void established(fabric::Connection&) override {}
    void dial_failed(uint64_t, Reason, std::optional<wire::Greeting>) override {}
    void disconnected(fabric::Connection&) override {}
    void point_lost(uint64_t, Reason) override {}
  } meeting;
  ground.fabrics.dispatch(static_cast<Lane>(Events::number_of(tags[0])), meeting);
  CHECK(shm.dispatched == 1);
}

TEST_CASE("A device that is not there is looked for again by a flow that comes later", "[fabrics]") {
  Ground ground;
  ground.lacking[Lane::rdma] = Reason::no_device;
  Reason why{};
  CHECK_FALSE(ground.fabrics.get(Lane::rdma, why));
  CHECK(why == Reason::no_device);
  why = {};
  ground.lacking.clear();
  CHECK_FALSE(ground.fabrics.get(Lane::rdma, why));
  CHECK(why == Reason::no_device);
  CHECK(ground.made == 1);
  std::this_thread::sleep_for(milliseconds(110));  // as long as that is remembered
  CHECK(ground.fabrics.get(Lane::rdma, why));
}

TEST_CASE("A point is closed wherever it is, a connection buried where it was made", "[fabrics]") {
  Ground ground;
  auto &shm = ground.dialler(Lane::shm), &rdma = ground.dialler(Lane::rdma);
  shm.points = rdma.points = {1, 2};
  ground.fabrics.close_point(1);
  CHECK(shm.points == std::set<uint64_t>{2});
  CHECK(rdma.points == std::set<uint64_t>{2});
  auto& flow = ground.flow(Role::acceptor, kBoth);
  for (const auto lane : {Lane::shm, Lane::rdma}) {
    auto& link = ground.link(flow, lane);
    ground.fabrics.bury(ground.locked([&] { return link.fail(Reason::link_failed), ground.engine.take_dead_links(); }));
  }
  CHECK(shm.buried.size() == 1);
  CHECK(rdma.buried.size() == 1);
}

TEST_CASE("Shared memory is left when no link uses it", "[fabrics]") {
  Ground ground;
  auto& shm = ground.dialler(Lane::shm);
  auto& flow = ground.flow(Role::acceptor, kBoth);
  auto& link = ground.link(flow, Lane::shm);
  CHECK(ground.engine.sources() == std::vector{shm.source.fd()});
  CHECK_FALSE(ground.fabrics.leave_near());
  ground.fabrics.bury(ground.locked([&] { return link.fail(Reason::link_failed), ground.engine.take_dead_links(); }));
  shm.buried.clear();
  CHECK(ground.fabrics.leave_near());
  CHECK_FALSE(ground.fabrics.find(Lane::shm));
  CHECK(ground.engine.sources() == std::vector{-1});
  ground.locked([&] { return ground.engine.drain(); });
  // The next takes its place.
  auto& next = ground.dialler(Lane::shm);
  CHECK(ground.engine.sources() == std::vector{next.source.fd()});
}

TEST_CASE("The owner of the socket at the other end is found out, and stays with the flow", "[fabrics]") {
  Ground ground;
  REQUIRE_FALSE(ground.owners.silence());
  auto& flow = ground.flow(Role::acceptor, kNear);
  CHECK_FALSE(ground.locked([&] { return flow.peer_user(); }));
  const auto owner = ground.owners.of(flow.id());
  REQUIRE(owner);
  CHECK(*owner == geteuid());
  CHECK(ground.locked([&] { return flow.peer_user(); }) == geteuid());
  CHECK_FALSE(ground.owners.doubt(flow.id(), geteuid()));
  CHECK(ground.owners.doubt(flow.id(), geteuid() + 1) == Reason::no_permission);
  CHECK(ground.owners.of(4711).is(EAGAIN));
  CHECK(ground.owners.doubt(4711, geteuid()) == Reason::plain_peer);
  // Nobody here has the other end.
  auto& far = ground.flow(Role::acceptor, kNear, false);
  CHECK(ground.owners.doubt(far.id(), geteuid()) == Reason::owner_unknown);
}
