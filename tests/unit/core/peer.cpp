// One peer's address: who is dialled next, and when.

#include "core/engine/service/peer.hpp"

#include <catch2/catch.hpp>

using namespace rsock;
using namespace rsock::engine;

namespace {

Time at(int64_t ms) { return Time(milliseconds(ms)); }
constexpr int64_t kStart = 1'000'000;

Peer peer(Lane lane) { return Peer({lane, {}}, 1); }

auto all(Peer::Fate fate) {
  return [fate](uint64_t, Reason) { return fate; };
}

}  // namespace

TEST_CASE("A flow is dialled at once, one at a time and the oldest first", "[peer]") {
  auto one = peer(Lane::rdma);
  CHECK(one.idle());
  CHECK_FALSE(one.next_dial());
  REQUIRE(one.add(5, at(kStart)));
  REQUIRE(one.add(4, at(kStart)));
  CHECK(one.next_dial() == at(kStart));
  const auto first = one.take();
  CHECK(first.flow == 5);
  one.begin(first, at(kStart + 100));
  CHECK_FALSE(one.next_dial());
  CHECK(one.dialling()->flow == 5);
  CHECK(one.dial_ends() == at(kStart + 100));
  CHECK(one.end().flow == 5);
  CHECK(one.take().flow == 4);
  CHECK(one.idle());
}

TEST_CASE("A refused flow waits twice as long each time, up to half a second", "[peer]") {
  auto one = peer(Lane::shm);
  REQUIRE(one.add(1, at(kStart)));
  std::vector<int64_t> pauses;
  for (int refusal = 0; refusal < 10; ++refusal) {
    one.wait_again(one.take(), at(kStart));
    pauses.push_back((*one.next_dial() - at(kStart)) / milliseconds(1));
  }
  CHECK(pauses == std::vector<int64_t>{2, 4, 8, 16, 32, 64, 128, 256, 500, 500});
}

TEST_CASE("Refused dials over RDMA are spaced, over shared memory not", "[peer]") {
  for (const auto lane : {Lane::rdma, Lane::shm}) {
    auto one = peer(lane);
    REQUIRE(one.add(1, at(kStart)));
    REQUIRE(one.add(2, at(kStart)));
    one.wait_again(one.take(), at(kStart + 10));
    CHECK(one.next_dial() == (lane == Lane::rdma ? at(kStart + 12) : at(kStart)));
  }
}

TEST_CASE("An address where nobody was found in time is tried once a second, for its newest flow", "[peer]") {
  auto one = peer(Lane::rdma);
  REQUIRE(one.add(1, at(kStart)));
  one.sweep(at(kStart), all(Peer::Fate::in_vain));
  CHECK(one.idle());
  for (uint64_t flow : {2, 3, 4}) REQUIRE(one.add(flow, at(kStart)));
  const auto newest = one.take();
  CHECK(newest.flow == 4);
  one.wait_again(newest, at(kStart));
  CHECK(one.next_dial() == at(kStart + 1000));

  SECTION("until there is a link") {
    std::vector<uint64_t> asked;
    one.linked([&](uint64_t flow) { return asked.push_back(flow), flow != 3; });
    CHECK(asked == std::vector<uint64_t>{2, 3, 4});
    CHECK(one.next_dial() == at(kStart));
    CHECK(one.take().flow == 3);
    CHECK(one.idle());
  }
}

TEST_CASE("Shared memory takes nobody for a plain peer", "[peer]") {
  auto one = peer(Lane::shm);
  REQUIRE(one.add(1, at(kStart)));
  one.sweep(at(kStart), all(Peer::Fate::in_vain));
  REQUIRE(one.add(2, at(kStart)));
  REQUIRE(one.add(3, at(kStart)));
  CHECK(one.take().flow == 2);
}

TEST_CASE("Those who wait are looked at five times a second", "[peer]") {
  auto one = peer(Lane::rdma);
  CHECK_FALSE(one.next_sweep());
  REQUIRE(one.add(1, at(kStart)));
  REQUIRE(one.add(2, at(kStart)));
  CHECK(*one.next_sweep() <= at(kStart));
  one.sweep(at(kStart), [](uint64_t flow, Reason failure) {
    CHECK(failure == Reason::plain_peer);
    return flow == 1 ? Peer::Fate::gone : Peer::Fate::waits;
  });
  CHECK(one.next_sweep() == at(kStart + 200));
  CHECK(one.take().flow == 2);
  CHECK_FALSE(one.next_sweep());
}

TEST_CASE("No more than a thousand wait for one address", "[peer]") {
  auto one = peer(Lane::rdma);
  for (uint64_t flow = 0; flow < Peer::kMostWaiting; ++flow) REQUIRE(one.add(flow, at(kStart)));
  CHECK_FALSE(one.add(Peer::kMostWaiting, at(kStart)));
  (void)one.take();
  CHECK(one.add(Peer::kMostWaiting, at(kStart)));
}

TEST_CASE("A pause grows up to its bound", "[peer]") {
  Pause pause(milliseconds(1000), milliseconds(3000));
  CHECK(pause.take() == milliseconds(1000));
  CHECK(pause.take() == milliseconds(2000));
  CHECK(pause.take() == milliseconds(3000));
  CHECK(pause.take() == milliseconds(3000));
}
