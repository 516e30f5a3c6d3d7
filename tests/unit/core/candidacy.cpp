#include "core/engine/flow/candidacy.hpp"

#include <catch2/catch.hpp>

#include "core/engine/flow/departure.hpp"

using namespace rsock;
using namespace rsock::engine;
using Next = Candidacy::Next;

namespace {

const Time kStart = Time{} + milliseconds(1'000'000);

}  // namespace

TEST_CASE("a flow settles once, for the first reason", "[candidacy]") {
  Candidacy it;
  CHECK_FALSE(it.selected());
  CHECK_FALSE(it.wanted().any());
  it.select({.rdma = true, .shm = false});
  CHECK(it.selected());
  CHECK(it.wanted().has(Lane::rdma));
  it.want({.rdma = false, .shm = true});
  CHECK(it.wanted().has(Lane::shm));
  CHECK_FALSE(it.settled());
  CHECK(it.settle(Reason::plain_peer));
  CHECK_FALSE(it.settle(Reason::link_failed));
  CHECK(it.settled_for() == Reason::plain_peer);
}

TEST_CASE("a search has an end, which its first step sets, and begins afresh", "[candidacy]") {
  Candidacy it;
  CHECK(it.sought() == Lane::tcp);
  it.seek_in(Lane::shm);
  it.seek_until(kStart);
  it.seek_until(kStart + milliseconds(1));
  CHECK(it.sought_until() == kStart);
  it.found();
  it.found();
  CHECK(it.times_found() == 2);
  it.try_link(7);
  it.try_link(7);
  it.try_link(9);
  CHECK(it.links_tried() == 2);
  CHECK(it.has_tried(9));
  SECTION("elsewhere: the links that were asked were asked") {
    it.seek_in(Lane::rdma);
    CHECK(it.sought() == Lane::rdma);
    CHECK(it.sought_until() == Time{});
    CHECK(it.times_found() == 0);
    CHECK(it.has_tried(7));
  }
  SECTION("again") {
    it.seek_again();
    CHECK(it.sought() == Lane::tcp);
    CHECK(it.links_tried() == 0);
  }
}

TEST_CASE("entries into a lane are told apart", "[candidacy]") {
  Candidacy it;
  CHECK_FALSE(it.leave(kStart));
  auto entry = it.enter(Lane::shm, kStart);
  CHECK(entry.first);
  CHECK_FALSE(entry.again);
  CHECK(it.furthest() == Lane::shm);
  CHECK(it.leave(kStart));
  CHECK_FALSE(it.leave(kStart));
  entry = it.enter(Lane::rdma, kStart);
  CHECK_FALSE(entry.first);
  CHECK(entry.again);
  CHECK(it.furthest() == Lane::shm);
}

TEST_CASE("a flow that never had a lane settles, unless what is lacking may come back", "[candidacy]") {
  Candidacy it;
  CHECK(it.not_served(Reason::no_device, false) == Next::settle);
  CHECK(it.not_served(Reason::no_device, true) == Next::again);
}

TEST_CASE("a flow that lost its lane tries a few times, or as long as the device is away", "[candidacy]") {
  const bool away = GENERATE(false, true);
  Candidacy it;
  it.lose_lane();
  int tries = 0;
  while (tries < 100 && it.not_served(away ? Reason::no_device : Reason::link_failed, false) == Next::again) ++tries;
  CHECK(tries == (away ? 100 : 8));
}

TEST_CASE("pauses double, have an end, and are forgotten after a lane that lasted", "[candidacy]") {
  Candidacy it;
  CHECK(it.pause() == milliseconds(100));
  CHECK_FALSE(it.tried_before());
  auto last = Duration::zero();
  for (const int wanted : {100, 200, 400, 800, 1600, 3200, 5000, 5000}) {
    it.not_now();
    CHECK(it.pause() == milliseconds(wanted));
    last = it.pause();
  }
  CHECK(last == Candidacy::kLongestPause);
  CHECK(it.tried_before());
  it.enter(Lane::shm, kStart);
  it.leave(kStart + milliseconds(3000));
  CHECK(it.pause() == Candidacy::kLongestPause);
  it.enter(Lane::shm, kStart);
  it.leave(kStart + milliseconds(3001));
  CHECK_FALSE(it.tried_before());
  it.not_now();
  it.not_now();
  it.forget_pauses();
  CHECK(it.pause() == milliseconds(100));
}

TEST_CASE("why a flow leaves: its own word before the peer's, for good before for a while", "[candidacy]") {
  using wire::FrameKind;
  Departure it;
  CHECK(it.frame() == FrameKind::resume);
  CHECK(it.reason() == Reason::link_failed);
  CHECK_FALSE(it.wanted());
  it.fault(Reason::protocol);
  CHECK(it.wanted());
  CHECK(it.reason() == Reason::protocol);
  CHECK_FALSE(it.aside());
  it.peer_says(FrameKind::aside);
  CHECK(it.aside());
  CHECK_FALSE(it.for_good());
  CHECK(it.reason() == Reason::by_operator);
  CHECK(it.frame() == FrameKind::resume);
  it.step_aside(Reason::descriptors);
  CHECK(it.frame() == FrameKind::aside);
  CHECK(it.reason() == Reason::descriptors);
  it.peer_says(FrameKind::leave);
  CHECK(it.for_good());
  CHECK(it.reason() == Reason::peer_left);
  it.leave(Reason::shared);
  CHECK(it.leaving());
  CHECK(it.frame() == FrameKind::leave);
  CHECK(it.reason() == Reason::shared);
  CHECK_FALSE(it.take_begin());
  it.begin(kStart);
  CHECK(it.take_begin() == kStart);
  CHECK_FALSE(it.take_begin());
}
