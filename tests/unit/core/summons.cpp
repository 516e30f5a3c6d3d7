#include "core/engine/service/summons.hpp"

#include <sys/epoll.h>

#include <catch2/catch.hpp>
#include <thread>

using namespace rsock;
using namespace std::chrono_literals;

TEST_CASE("A call is heard by an epoll set, and by none where there is no descriptor", "[summons]") {
  constexpr uint64_t kTag = 7;
  const UniqueFd set(*sys::epoll_create());
  engine::Summons summons;
  epoll_event event{};
  CHECK_FALSE(summons.doze(1ms));
  summons.call();
  CHECK(summons.doze(10s));
  CHECK_FALSE(summons.doze(1ms));

  REQUIRE(summons.open(set.get(), kTag));
  CHECK(*sys::epoll_poll(set.get(), &event, 1) == 0);
  summons.call();
  REQUIRE(*sys::epoll_poll(set.get(), &event, 1) == 1);
  CHECK(event.data.u64 == kTag);
  summons.answer();
  CHECK(*sys::epoll_poll(set.get(), &event, 1) == 0);

  summons.call();  // not answered yet when it is closed
  REQUIRE(summons.close());
  CHECK(*sys::epoll_poll(set.get(), &event, 1) == 0);
  CHECK(summons.doze(10s));
  std::thread caller([&] { summons.call(); });
  CHECK(summons.doze(10s));
  caller.join();
  CHECK_FALSE(summons.doze(1ms));
}
