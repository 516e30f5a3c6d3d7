// What an operator's order does to flows, and what the answer says of them.

#include "core/engine/service/operators.hpp"

#include "parts.hpp"

using namespace rsock;
using namespace rsock::engine;
using wire::Order;

namespace {

struct World : Ground {
  Operators operators{engine};

  World() {
    engine.program.name = "a-program";
    engine.program.reload = [] { return Program::Reloaded{.leave = 2, .complaint = "line 1"}; };
  }
  wire::ControlAnswer obey(Order order, uint16_t port = 0, uint64_t socket = 0) {
    return operators.obey({order, port, socket});
  }
  // On its way into a lane.
  Flow& entering() {
    auto& one = flow(Role::acceptor, kFar);
    auto& to = link(one, Lane::rdma);
    locked([&] { one.candidacy().note_used(), one.candidacy().show_worth(), one.claim(to); });
    REQUIRE(locked([&] { return one.stage() == Stage::entering; }));
    return one;
  }
  Orders::Lists orders() {
    return locked([&] { return engine.orders.take(); });
  }
};

}  // namespace

TEST_CASE("An answer says who it is, where the flows are, and why some stay", "[operators]") {
  World world;
  world.entering();
  auto& settled = world.flow(Role::connector, kFar);
  world.flow(Role::connector, kFar);
  world.locked([&] { settled.settle(Reason::plain_peer); });
  const auto answer = world.obey(Order::tell);
  CHECK(answer.process == static_cast<uint32_t>(getpid()));
  CHECK(answer.program == "a-program");
  CHECK(answer.moved == 0);
  CHECK_FALSE(answer.refused);
  CHECK(answer.flows.tcp == 2);
  CHECK(answer.flows.entering == 1);
  CHECK(answer.flows.off_tcp() == 1);
  REQUIRE(answer.stay.size() == 1);
  CHECK(answer.stay[0].reason == key(Reason::plain_peer));
  CHECK(answer.stay[0].flows == 1);
}

TEST_CASE("A port is that of either end", "[operators]") {
  World world;
  auto& flow = world.flow(Role::connector, kFar);
  world.flow(Role::connector, kFar);
  CHECK(world.obey(Order::tell, flow.local().port).flows.tcp == 1);
  CHECK(world.obey(Order::tell, flow.remote().port).flows.tcp == 1);
  CHECK(world.obey(Order::tell, 1).flows.tcp == 0);
}

TEST_CASE("Flows leave, stay away, and may enter again", "[operators]") {
  World world;
  auto& flow = world.entering();
  auto& awaited = world.flow(Role::connector, kFar);
  auto& unused = world.flow(Role::acceptor, kFar);
  world.locked([&] { awaited.candidacy().expect(), awaited.candidacy().show_worth(); });
  (void)world.orders();
  CHECK(world.obey(Order::leave).moved == 1);
  CHECK(world.locked([&] { return flow.stage() != Stage::entering; }));
  CHECK_FALSE(world.locked([&] { return awaited.admitted(); }));
  CHECK(world.obey(Order::leave).moved == 0);
  CHECK(world.locked([&] { return world.operators.look_again(0); }) == 0);

  (void)world.orders();
  const auto back = world.obey(Order::enter);
  const auto orders = world.orders();
  CHECK(world.locked([&] { return awaited.admitted(); }));
  CHECK(orders.expect == std::vector{awaited.id()});
  CHECK(std::count(orders.seek.begin(), orders.seek.end(), unused.id()) == 0);
  CHECK(back.moved == orders.expect.size() + orders.seek.size() + orders.again.size());
}

TEST_CASE("A socket that another process has is handed over for good", "[operators]") {
  World world;
  auto& flow = world.flow(Role::connector, kFar);
  auto& other = world.flow(Role::connector, kFar);
  const auto answer = world.obey(Order::hand_over, 0, sys::cookie(flow.shadow()));
  CHECK(answer.moved == 1);
  CHECK(answer.flows.tcp == 1);
  CHECK(world.settled(flow) == Reason::shared);
  CHECK_FALSE(world.settled(other));
}

TEST_CASE("The rules are read anew, and what is wrong with them is told", "[operators]") {
  World world;
  const auto answer = world.obey(Order::reload);
  CHECK(answer.moved == 2);
  CHECK(answer.refused);
  CHECK(answer.complaint == "line 1");
}
