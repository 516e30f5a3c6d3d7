#include "core/base/kernel.hpp"

#include <sys/eventfd.h>
#include <sys/resource.h>

#include <catch2/catch.hpp>

#include "core/base/unique_fd.hpp"

using namespace rsock;

TEST_CASE("A descriptor that is out of the program's way can be replaced", "[kernel]") {
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlimit few = before;
  few.rlim_cur = 100;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &few) == 0);
  const UniqueFd one(eventfd(0, EFD_NONBLOCK)), other(eventfd(5, EFD_NONBLOCK));
  const auto number = sys::duplicate_high(one.get());
  REQUIRE(number);
  const UniqueFd high(*number);
  if (before.rlim_max > 100) CHECK(high.get() >= 100);
  sys::duplicate_onto(other.get(), high.get());
  uint64_t count = 0;
  CHECK(sys::read(high.get(), &count, sizeof count));
  CHECK(count == 5);
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
}
