// The queue of deadlines: order, replacement, and that none is looked at before it is due.

#include "core/engine/service/timers.hpp"

#include <catch2/catch.hpp>
#include <chrono>
#include <new>
#include <vector>

using namespace rsock;
using namespace rsock::engine;
using Name = Timers::Name;

namespace {

Time at(int64_t ms) { return Time(milliseconds(ms)); }

std::vector<Name> due(Timers& timers, int64_t ms) {
  std::vector<Name> names;
  timers.expire(at(ms), [&](Name name) { names.push_back(name); });
  return names;
}

}  // namespace

TEST_CASE("Timers come when they are due, the earliest first", "[timers]") {
  Timers timers;
  CHECK_FALSE(timers.first());
  timers.set({Due::cork, 7}, at(30));
  timers.set({Due::probe}, at(10));
  timers.set({Due::cork, 8}, at(20));
  CHECK(timers.first() == at(10));
  CHECK(due(timers, 9).empty());
  CHECK(due(timers, 20) == std::vector<Name>{{Due::probe}, {Due::cork, 8}});
  CHECK(timers.first() == at(30));
  CHECK(due(timers, 1000) == std::vector<Name>{{Due::cork, 7}});
  CHECK(due(timers, 1000).empty());
  CHECK_FALSE(timers.first());
}

TEST_CASE("A timer that is set again is one, sooner or later than before", "[timers]") {
  Timers timers;
  timers.set({Due::retry, 1}, at(10));
  timers.set({Due::retry, 1}, at(30));
  timers.set({Due::retry, 2}, at(40));
  timers.set({Due::retry, 2}, at(20));
  CHECK(timers.size() == 2);
  CHECK(timers.first() == at(20));
  CHECK(due(timers, 15).empty());
  CHECK(due(timers, 40) == std::vector<Name>{{Due::retry, 2}, {Due::retry, 1}});
}

TEST_CASE("What is of the same flow and another kind is another timer", "[timers]") {
  Timers timers;
  timers.set({Due::cork, 5}, at(1));
  timers.set({Due::cutover, 5}, at(2));
  timers.cancel({Due::cork, 5});
  CHECK_FALSE(timers.find({Due::cork, 5}));
  CHECK(timers.find({Due::cutover, 5}) == at(2));
  CHECK(due(timers, 5) == std::vector<Name>{{Due::cutover, 5}});
}

TEST_CASE("A timer that was cancelled, or never set, does not come", "[timers]") {
  Timers timers;
  timers.cancel({Due::point, 1});
  timers.set({Due::point, 1}, at(10));
  timers.put({Due::point, 2}, at(10));
  timers.put({Due::point, 1}, std::nullopt);
  CHECK(due(timers, 10) == std::vector<Name>{{Due::point, 2}});
}

TEST_CASE("All timers of a kind are cancelled together", "[timers]") {
  Timers timers;
  for (uint64_t id : {uint64_t{0}, uint64_t{3}, ~uint64_t{0}}) timers.set({Due::retry, id}, at(10));
  timers.set({Due::sweep, 0}, at(10));
  timers.set({Due::cutover, 0}, at(10));
  timers.cancel_all(Due::retry);
  CHECK(due(timers, 10) == std::vector<Name>{{Due::sweep, 0}, {Due::cutover, 0}});
}

TEST_CASE("Ties come in the order in which they were set", "[timers]") {
  Timers timers;
  timers.set({Due::sweep, 2}, at(10));
  timers.set({Due::cork, 1}, at(10));
  timers.set({Due::sweep, 1}, at(10));
  timers.set({Due::sweep, 2}, at(10));  // nothing new
  timers.set({Due::cork, 1}, at(11));
  timers.set({Due::cork, 1}, at(10));
  CHECK(due(timers, 10) == std::vector<Name>{{Due::sweep, 2}, {Due::sweep, 1}, {Due::cork, 1}});
}

TEST_CASE("What is due may set and cancel timers, its own too", "[timers]") {
  Timers timers;
  timers.set({Due::tick}, at(10));
  timers.set({Due::dial, 1}, at(10));
  timers.set({Due::dial, 2}, at(10));
  std::vector<Name> seen;
  timers.expire(at(10), [&](Name name) {
    seen.push_back(name);
    if (name.what == Due::tick) timers.set({Due::tick}, at(20)), timers.cancel({Due::dial, 1});
    if (name == Name{Due::dial, 2}) timers.cancel(name), timers.set({Due::dial, 3}, at(30));
  });
  CHECK(seen == std::vector<Name>{{Due::tick}, {Due::dial, 2}});
  CHECK(timers.size() == 2);
  CHECK(timers.find({Due::tick}) == at(20));
  CHECK(timers.find({Due::dial, 3}) == at(30));
}

TEST_CASE("A timer whose handling found no memory stays due", "[timers]") {
  Timers timers;
  timers.set({Due::point, 1}, at(10));
  timers.set({Due::point, 2}, at(10));
  CHECK_THROWS_AS(timers.expire(at(10), [](Name) { throw std::bad_alloc(); }), std::bad_alloc);
  CHECK(due(timers, 10) == std::vector<Name>{{Due::point, 1}, {Due::point, 2}});
}

// Whatever looked at all of them each time would be at it for minutes.
TEST_CASE("A hundred thousand timers cost no more than the few that are due", "[timers]") {
  constexpr uint64_t kMany = 100'000;
  constexpr auto kBound = std::chrono::seconds(20);
  const auto begun = std::chrono::steady_clock::now();
  Timers timers;
  for (uint64_t id = 0; id < kMany; ++id)
    timers.set({Due::retry, id}, at(1'000'000 + static_cast<int64_t>(id * 7919 % kMany)));
  size_t came = 0, late = 0;
  for (uint64_t turn = 0; turn < kMany; ++turn) {
    timers.set({Due::cork, turn}, at(static_cast<int64_t>(turn)));
    timers.set({Due::retry, turn}, at(2'000'000));
    came += due(timers, static_cast<int64_t>(turn)).size();
    late += timers.first() < at(1'000'000);
  }
  CHECK(came == kMany);
  CHECK(late == 0);
  for (uint64_t id = 0; id < kMany; id += 2) timers.cancel({Due::retry, id});
  CHECK(due(timers, 2'000'000).size() == kMany / 2);
  CHECK(std::chrono::steady_clock::now() - begun < kBound);
}
