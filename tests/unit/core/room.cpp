// Making room for the program's descriptors: what is given back, in which order, and when it comes again.

#include "core/engine/service/room.hpp"

#include <climits>

#include "core/base/limit.hpp"
#include "parts.hpp"

using namespace rsock;
using namespace rsock::engine;

namespace {

struct World final : Ground, Room::Premises {
  Lock at_work;
  Operators operators{engine};
  Room room{engine, at_work, timers, operators, *this};

  // What the room asks of the service, in order.
  std::vector<std::string> asked;
  bool is_absent = false, can_leave = true, can_turn = true, can_settle = true;
  int turns = 0, given_back = 0;

  World() {
    engine.program.make_room = [this] { ++given_back; };
    engine.program.settle_in = [this] { return can_settle; };
  }
  ~World() { sys::crowded_from = INT_MAX; }
  bool turn(Duration wait) override {
    ++turns;
    std::this_thread::sleep_for(wait);
    return can_turn;
  }
  void clear_up() override {
    const std::lock_guard guard(engine.lock);
    (void)engine.take_dead_links();
  }
  bool leave() override { return asked.push_back("leave"), can_leave; }
  bool shut() override { return asked.push_back("shut"), is_absent = true; }
  bool open() override {
    asked.push_back("open");
    is_absent = false;
    return true;
  }
  bool absent() const override { return is_absent; }

  uint32_t ask() {
    return locked([&] { return room.ask(); });
  }
  std::optional<Time> due() const { return timers.find({Due::room}); }
};

using Asked = std::vector<std::string>;

}  // namespace

TEST_CASE("Where nothing is in the way, all is given back at once", "[room]") {
  World world;
  auto& flow = world.flow(Role::acceptor, kFar);
  world.link(flow, Lane::rdma);  // idle
  CHECK_FALSE(world.room.is_asked());
  world.ask();
  CHECK(world.room.is_asked());
  const auto before = now();
  world.room.make();
  CHECK_FALSE(world.room.is_asked());
  CHECK(world.engine.gate.barred());
  CHECK(world.asked == Asked{"leave", "shut"});
  CHECK(world.engine.links().empty());
  CHECK(world.given_back > 0);
  CHECK(*world.due() >= before + milliseconds(1000));
  CHECK(*world.due() <= now() + milliseconds(1000));
}

TEST_CASE("Where a device has to be heard of, it is not absent", "[room]") {
  World world;
  world.can_leave = false;
  world.ask();
  world.room.make();
  CHECK(world.asked == Asked{"leave"});
  CHECK_FALSE(world.is_absent);
}

TEST_CASE("A flow whose peer does not answer is waited for within bounds, the second time not at all", "[room]") {
  World world;
  auto& flow = world.flow(Role::acceptor, kFar);
  auto& link = world.link(flow, Lane::rdma);
  world.locked([&] { flow.claim(link); });
  // Its flow takes the link with it only when the peer has retired it.
  world.can_turn = false;  // something else is to be done
  world.ask();
  world.room.make();
  CHECK(world.turns <= 1);
  CHECK(world.engine.gate.barred());
  CHECK(std::count(world.asked.begin(), world.asked.end(), "leave") == 1);
  const auto due = world.due();
  world.ask();
  world.room.make();
  CHECK(world.due() == due);  // that is said once
}

TEST_CASE("Those who ask meanwhile wait for the same", "[room]") {
  World world;
  const auto one = world.ask();
  CHECK(world.ask() == one);
  std::thread service([&] { world.room.make(); });
  world.room.await(one);
  CHECK_FALSE(world.room.is_asked());
  service.join();
  CHECK(world.ask() == one + 1);
}

TEST_CASE("Nobody waits for ever for room", "[room]") {
  World world;
  const auto begun = now();
  world.room.await(world.ask());
  CHECK(now() - begun >= milliseconds(3000));
  CHECK(now() - begun < kPatience);
}

TEST_CASE("When there is room again flows look for lanes", "[room]") {
  World world;
  auto& flow = world.flow(Role::acceptor, kFar);
  world.locked([&] { flow.candidacy().show_worth(); });
  world.ask();
  world.room.make();
  REQUIRE(world.is_absent);
  (void)world.locked([&] { return world.engine.orders.take(); });
  world.asked.clear();
  REQUIRE(sys::has_spare_numbers());
  SECTION("if the program's side has what it needs") {
    world.timers.cancel({Due::room});
    world.room.look();
    CHECK(world.asked == Asked{"open"});
    CHECK_FALSE(world.engine.gate.barred());
    CHECK_FALSE(world.due());
    CHECK(world.locked([&] { return world.engine.orders.take(); }).seek == std::vector{flow.id()});
  }
  SECTION("else it is absent again, and looks later and later") {
    world.can_settle = false;
    for (const auto pause : {milliseconds(2000), milliseconds(4000)}) {
      world.timers.cancel({Due::room});
      const auto before = now();
      world.room.look();
      CHECK(world.asked == Asked{"open", "shut"});
      CHECK(world.engine.gate.barred());
      CHECK(*world.due() >= before + pause);
      CHECK(*world.due() <= now() + pause);
      world.asked.clear();
    }
  }
}
