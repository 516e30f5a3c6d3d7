// Children that call for flows of their parent's, and fabrics that are tried before they are needed.

#include "core/engine/service/children.hpp"

#include "core/base/numbers.hpp"
#include "core/engine/service/preparation.hpp"
#include "parts.hpp"

using namespace rsock;
using namespace rsock::engine;

namespace {

struct World : Ground {
  Children children{engine, events, timers};

  // The child's end of a line.
  UniqueFd line() {
    int ends[2];
    REQUIRE(sys::socket_pair(SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, ends));
    children.listen(ExposedFd(UniqueFd(ends[0])));
    return UniqueFd(ends[1]);
  }
  std::optional<Time> due() const { return timers.find({Due::children}); }
  void run() {
    await(timers, {Due::children});
    timers.cancel({Due::children});
    children.answer();
  }
  static void call(const UniqueFd& line) { REQUIRE(::send(line.get(), "c", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1); }
};

const auto kFirst = Events::tag(Events::Kind::child, 0), kSecond = Events::tag(Events::Kind::child, 1);

}  // namespace

TEST_CASE("A call is answered, and the line not listened to until then", "[children]") {
  World world;
  const auto line = world.line(), other = world.line();
  world.children.look();
  CHECK_FALSE(world.due());
  World::call(other);
  REQUIRE(told(world.events) == std::vector{kSecond});
  world.children.called(1);
  World::call(other);
  CHECK(told(world.events).empty());
  world.children.look();
  REQUIRE(world.due());
  world.run();
  CHECK(told(world.events) == std::vector{kSecond});
  CHECK_FALSE(world.due());
}

TEST_CASE("Answers get a tenth of the time", "[children]") {
  World world;
  const auto line = world.line();
  for (int i = 0; i < 3; ++i) {
    World::call(line);
    REQUIRE(told(world.events) == std::vector{kFirst});
    world.children.called(0);
    world.children.look();
    const auto earliest = now();
    world.run();
    const auto took = now() - earliest;
    World::call(line);
    REQUIRE(told(world.events) == std::vector{kFirst});
    world.children.called(0);
    world.children.look();
    CHECK(*world.due() <= now() + 10 * took);
    world.run();
  }
}

TEST_CASE("A child that has ended, or says what is no call, is not listened to", "[children]") {
  World world;
  auto line = world.line();
  SECTION("ended") { line.reset(); }
  SECTION("said nothing in a packet") { REQUIRE(::send(line.get(), "", 0, MSG_NOSIGNAL) == 0); }
  REQUIRE(told(world.events) == std::vector{kFirst});
  world.children.called(0);
  world.children.called(0);
  world.children.look();
  CHECK_FALSE(world.due());
  CHECK(told(world.events).empty());
}

TEST_CASE("What a child without a line asks is looked for again and again", "[children]") {
  World world;
  world.children.listen({});
  CHECK(told(world.events) == std::vector{Events::tag(Events::Kind::bell)});
  world.children.look();
  for (int i = 0; i < 3; ++i) {
    const auto before = now();
    world.run();
    REQUIRE(world.due());
    CHECK(*world.due() >= before + milliseconds(20));
  }
  world.children.dismiss();
  CHECK_FALSE(world.due());
  world.children.look();
  CHECK_FALSE(world.due());
}

TEST_CASE("Lines of children that are dismissed are closed", "[children]") {
  World world;
  const auto line = world.line();
  world.children.dismiss();
  CHECK(told(world.events).empty());
  CHECK(::send(line.get(), "c", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == -1);
}

TEST_CASE("Each fabric is tried once, and until then the program gets no number", "[preparation]") {
  Ground ground;
  ground.lacking[Lane::rdma] = Reason::no_device;
  Preparation preparation(ground.engine, ground.events, ground.fabrics);
  preparation.answer();  // nobody has asked
  CHECK(ground.made == 0);
  CHECK_FALSE(numbers::are_taken());
  preparation.ask(kBoth);
  preparation.ask(kFar);
  preparation.ask({});
  CHECK(numbers::are_taken());
  std::array<epoll_event, 1> found{};
  REQUIRE(*ground.events.sleep(found, kPatience, ground.engine.orders.summons()) == 1);
  CHECK(Events::kind_of(found[0].data.u64) == Events::Kind::bell);
  std::thread program([] { numbers::await(); });
  preparation.answer();
  program.join();
  CHECK_FALSE(numbers::are_taken());
  CHECK(ground.made == 2);
  CHECK(ground.fabrics.find(Lane::shm));
  preparation.ask(kBoth);
  CHECK_FALSE(numbers::are_taken());
}

TEST_CASE("Nobody waits for ever for a number", "[preparation]") {
  Ground ground;
  Preparation preparation(ground.engine, ground.events, ground.fabrics);
  const auto begun = now();
  preparation.ask(kFar);  // nobody answers
  numbers::await();
  CHECK(now() - begun >= milliseconds(1000));
  CHECK(now() - begun < kPatience);
  CHECK_FALSE(numbers::are_taken());
}

TEST_CASE("Without descriptors no fabric is tried", "[preparation]") {
  Ground ground;
  Preparation preparation(ground.engine, ground.events, ground.fabrics);
  REQUIRE(ground.engine.orders.summons().close());
  ground.events.close();
  preparation.prepare(kBoth);
  CHECK(ground.made == 0);
}
