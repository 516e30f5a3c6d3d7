// How the work of the service's thread ends, with a thread of the test's in its place.

#include "core/engine/service/deliverance.hpp"

#include <csignal>

#include "parts.hpp"

using namespace rsock;
using namespace rsock::engine;

namespace {

Settings patient() {
  auto settings = small();
  settings.drain = milliseconds(50);
  return settings;
}

struct World : Ground {
  Lock at_work;
  Attending attending{engine, events, timers};
  Deliverance deliverance{engine, at_work, attending};
  int ended = 0, turns = 0;

  World() : Ground(patient()) {
    engine.program.ended = [this] { ++ended; };
  }
  Deliverance::Turn turn() {
    return [this](Duration wait) {
      ++turns;
      std::this_thread::sleep_for(wait);
      return true;
    };
  }
  // What the service's thread does, until it is asked for something.
  void serve() {
    std::array<epoll_event, 1> found{};
    REQUIRE(*events.sleep(found, kPatience, engine.orders.summons()) == 1);
    if (deliverance.is_to_rest()) return deliverance.rest();
    REQUIRE(deliverance.is_to_deliver());
    deliverance.deliver(turn());
  }
};

}  // namespace

TEST_CASE("All flows are closed, and whoever asked hears when they are gone", "[deliverance]") {
  World world;
  auto& flow = world.flow(Role::connector, kFar);
  const auto kept = world.engine.find_flow(flow.id());
  CHECK(world.deliverance.goes_on());
  std::thread service([&] { world.serve(); });
  world.deliverance.deliver_all();
  CHECK_FALSE(world.deliverance.is_to_deliver());
  service.join();
  CHECK(world.locked([&] { return kept->finished(); }));
  CHECK(world.ended == 1);
  CHECK_FALSE(world.deliverance.goes_on());
  CHECK_FALSE(world.deliverance.rests());
  // A second handler waits for nothing.
  const auto begun = now();
  world.deliverance.deliver_all();
  CHECK(now() - begun < milliseconds(100));
}

TEST_CASE("What cannot be delivered is not waited for beyond drain_ms", "[deliverance]") {
  World world;
  auto& flow = world.flow(Role::acceptor, kFar);
  auto& link = world.link(flow, Lane::rdma);
  world.locked([&] { flow.claim(link); });  // its peer has to let go of it first, and does not
  const auto begun = now();
  world.deliverance.deliver(world.turn());
  CHECK(now() - begun >= milliseconds(50));
  CHECK(now() - begun < kPatience);
  CHECK(world.turns > 0);
  CHECK(world.ended == 1);
  CHECK_FALSE(world.deliverance.goes_on());
}

TEST_CASE("It does not go on where there can be no more turns", "[deliverance]") {
  World world;
  auto& flow = world.flow(Role::acceptor, kFar);
  auto& link = world.link(flow, Lane::rdma);
  world.locked([&] { flow.claim(link); });
  int turns = 0;
  world.deliverance.deliver([&](Duration) { return ++turns, false; });
  CHECK(turns == 1);
  CHECK(world.ended == 1);
}

TEST_CASE("A handler does not wait for ever for a thread that does not answer", "[deliverance]") {
  World world;
  const auto begun = now();
  world.deliverance.deliver_all();
  CHECK(now() - begun >= milliseconds(250));
  CHECK(now() - begun < kPatience);
  CHECK(world.deliverance.is_to_deliver());
}

TEST_CASE("Asking takes no lock", "[deliverance]") {
  World world;
  const std::scoped_lock all(world.at_work, world.engine.lock);  // as interrupted code may have them
  world.deliverance.deliver_all();
  CHECK(told(world.events) == std::vector{Events::tag(Events::Kind::bell)});
  CHECK(world.deliverance.is_to_deliver());
}

TEST_CASE("It comes to rest, for good", "[deliverance]") {
  World world;
  std::thread service([&] { world.serve(); });
  CHECK(world.deliverance.retire());
  service.join();
  CHECK(world.deliverance.rests());
  const auto begun = now();
  world.deliverance.deliver_all();
  CHECK(now() - begun < milliseconds(100));
  CHECK(world.deliverance.rests());
}

TEST_CASE("Nobody waits for ever until it rests", "[deliverance]") {
  World world;
  const auto begun = now();
  CHECK_FALSE(world.deliverance.retire());
  CHECK(now() - begun >= milliseconds(10'000));
  CHECK(now() - begun < milliseconds(10'000) + kPatience);
}

TEST_CASE("A signal that was put off is in time", "[deliverance]") {
  World world;
  world.deliverance.end_in_time(SIGTERM);
  doom.lift();
  CHECK(told(world.events) == std::vector{Events::tag(Events::Kind::bell)});
  CHECK(world.deliverance.goes_on());
}
