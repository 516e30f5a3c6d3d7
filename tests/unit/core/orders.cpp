// What other threads ask of the service's, how they wake it, and what it sleeps on.

#include "core/engine/service/orders.hpp"

#include <thread>

#include "parts.hpp"

using namespace rsock;
using namespace rsock::engine;

TEST_CASE("Orders are taken once, each list in its order", "[orders]") {
  Orders orders;
  orders.seek(2), orders.seek(1), orders.expect(3), orders.again(4), orders.not_wanted(5), orders.in_cutover(6),
      orders.corked(7), orders.unsent(8);
  const auto taken = orders.take();
  CHECK(taken.seek == std::vector<uint64_t>{2, 1});
  CHECK(taken.expect == std::vector<uint64_t>{3});
  CHECK(taken.again == std::vector<uint64_t>{4});
  CHECK(taken.not_wanted == std::vector<uint64_t>{5});
  CHECK(taken.in_cutover == std::vector<uint64_t>{6});
  CHECK(taken.corked == std::vector<uint64_t>{7});
  CHECK(taken.unsent == std::vector<uint64_t>{8});
  CHECK(orders.take().seek.empty());
}

TEST_CASE("However often a peer claims a flow, its owner is asked for once", "[orders]") {
  Orders orders;
  for (int i = 0; i < 1000; ++i) orders.ask_owner(7), orders.ask_owner(8);
  CHECK(orders.take().ask_owner == std::set<uint64_t>{7, 8});
}

TEST_CASE("An order wakes the thread, once until it has heard", "[orders]") {
  Orders orders;
  Events events;
  REQUIRE(events.open(orders.summons()));
  const auto bell = Events::tag(Events::Kind::bell);
  CHECK(told(events).empty());
  orders.seek(1);
  CHECK(told(events) == std::vector{bell});
  orders.seek(2), orders.wake();
  orders.heard();
  CHECK(told(events).empty());
  orders.corked(3);
  CHECK(told(events) == std::vector{bell});
  orders.heard();
  orders.call();  // from a handler: it does not ask whether somebody has called
  CHECK(told(events) == std::vector{bell});
}

TEST_CASE("Without descriptors the thread hears of calls alone", "[orders]") {
  Orders orders;
  Events events;
  std::array<epoll_event, 4> found{};
  CHECK_FALSE(events.is_open());
  CHECK(*events.sleep(found, milliseconds(1), orders.summons()) == 0);
  std::thread other([&] { orders.wake(); });
  CHECK(*events.sleep(found, std::chrono::seconds(30), orders.summons()) == 1);
  CHECK(Events::kind_of(found[0].data.u64) == Events::Kind::bell);
  other.join();

  REQUIRE(events.open(orders.summons()));
  CHECK(events.is_open());
  orders.call();
  CHECK(*events.sleep(found, Duration::max(), orders.summons()) == 1);
  orders.heard();
  CHECK(*events.sleep(found, Duration::zero(), orders.summons()) == 0);
  REQUIRE(orders.summons().close());
  events.close();
  CHECK_FALSE(events.is_open());
}

TEST_CASE("A member of the set says what it is, as long as it is one", "[orders]") {
  Orders orders;
  Events events;
  REQUIRE(events.open(orders.summons()));
  Source source;
  const auto tag = Events::tag(Events::Kind::shadow, 0x00ffffffffffffff);
  CHECK(Events::number_of(tag) == 0x00ffffffffffffff);
  CHECK(Events::kind_of(tag) == Events::Kind::shadow);
  REQUIRE(events.add(source.fd(), EPOLLONESHOT, tag));
  source.ring();
  CHECK(told(events).empty());
  REQUIRE(events.change(source.fd(), EPOLLIN, tag));
  CHECK(told(events) == std::vector{tag});
  events.remove(source.fd());
  CHECK(told(events).empty());
  CHECK(events.change(source.fd(), EPOLLIN, tag).is(ENOENT));
}
