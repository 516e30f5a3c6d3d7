// Who drives the engine: an application thread, or the service's in its place.

#include "core/engine/service/attending.hpp"

#include "parts.hpp"

using namespace rsock;
using namespace rsock::engine;

namespace {

struct World {
  Engine& engine = *new Engine(small());  // as a process has one
  Events events;
  Timers timers;
  Attending attending{engine, events, timers};
  Source source;

  World() {
    REQUIRE(events.open(engine.orders.summons()));
    const std::lock_guard guard(engine.lock);
    attending.add(source);
    engine.any_links = true;
  }
  void application_polls() {
    const std::lock_guard guard(engine.lock);
    engine.poll();
  }
  bool relaxed() {
    const std::lock_guard guard(engine.lock);
    return attending.relaxed();
  }
  std::optional<Time> tick() const { return timers.find({Due::tick}); }
  const uint64_t source_tag = Events::tag(Events::Kind::source, 0);
};

}  // namespace

TEST_CASE("Without a link nobody need attend", "[attending]") {
  World world;
  world.engine.any_links = false;
  world.attending.look();
  CHECK_FALSE(world.tick());
  CHECK(world.source.armed == 0);
}

TEST_CASE("A thread that polls is left alone, without a look at the lock", "[attending]") {
  World world;
  for (int turn = 0; turn < 3; ++turn) {
    world.application_polls();
    const std::lock_guard guard(world.engine.lock);  // look() would wait for it, for ever
    const auto before = now();
    world.attending.look();
    REQUIRE(world.tick());
    CHECK(*world.tick() >= before + milliseconds(10));
    CHECK(world.source.armed == 0);
    CHECK_FALSE(world.attending.relaxed());
  }
}

TEST_CASE("Where nobody has polled between two looks, the service sleeps on the sources itself", "[attending]") {
  World world;
  world.application_polls();
  world.attending.look();
  CHECK(told(world.events).empty());
  world.attending.look();
  CHECK(world.source.armed == 1);
  CHECK(world.engine.guarded);
  CHECK(world.relaxed());
  CHECK_FALSE(world.tick());

  world.source.ring();
  CHECK(told(world.events) == std::vector{world.source_tag});
  {
    const std::lock_guard guard(world.engine.lock);
    world.attending.source_ready();
  }
  CHECK_FALSE(world.engine.guarded);
  // Its own polls are no thread's: it takes over again.
  world.attending.look();
  CHECK(world.engine.guarded);
  CHECK(world.relaxed());
  world.source.ring();
  CHECK(told(world.events) == std::vector{world.source_tag});
}

TEST_CASE("It goes back to ticks when it finds a thread that polls", "[attending]") {
  World world;
  world.attending.look();
  REQUIRE(world.relaxed());
  world.application_polls();
  world.attending.look();
  CHECK(world.tick());
  CHECK_FALSE(world.relaxed());
}

TEST_CASE("A thread that sleeps armed is relied on", "[attending]") {
  World world;
  world.application_polls();
  world.engine.asleep = 1;
  world.attending.look();  // it polled a moment ago
  CHECK(world.tick());
  CHECK(world.source.armed == 1);
  CHECK_FALSE(world.relaxed());
  world.attending.look();
  CHECK_FALSE(world.tick());
  CHECK(world.relaxed());
  CHECK_FALSE(world.engine.guarded);
  world.source.ring();
  CHECK(told(world.events).empty());  // that thread's
  world.engine.asleep = 0;
}

TEST_CASE("What has no end is polled again at once", "[attending]") {
  World world;
  world.source.to_come = 1'000'000;
  world.attending.look();
  REQUIRE(world.tick());
  CHECK(*world.tick() <= now());
}

TEST_CASE("A new source is slept on, too", "[attending]") {
  World world;
  world.attending.look();
  REQUIRE(world.engine.guarded);
  Source other;
  {
    const std::lock_guard guard(world.engine.lock);
    world.attending.add(other);
  }
  world.attending.look();
  CHECK(other.armed == 1);
  other.ring();
  CHECK(told(world.events) == std::vector{Events::tag(Events::Kind::source, 1)});
}

TEST_CASE("Once it is stopped it guards nothing", "[attending]") {
  World world;
  world.attending.look();
  const std::lock_guard guard(world.engine.lock);
  world.attending.stop();
  CHECK_FALSE(world.engine.guarded);
  CHECK_FALSE(world.attending.relaxed());
}
