// Many channels of one hub: which are looked at, and that nothing is missed.

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "core/fabric/shm/channel.hpp"

namespace rsock::fabric::shm {
namespace {

constexpr size_t kFew = 4, kMany = 24;
const std::array<uint8_t, 1> kByte{7};

struct Taker final : Sink {
  void data_landed(uint32_t, uint32_t) override {}
  void message_landed(std::span<const uint8_t>) override {
    ++messages;
    if (then) then();
  }
  void sends_completed(uint32_t) override {}
  void connection_failed() override { failed = true; }
  int messages = 0;
  bool failed = false;
  std::function<void()> then;
};

UniqueFd bells() { return UniqueFd(epoll_create1(EPOLL_CLOEXEC)); }

// A hub with channels, and a peer at the other end of each.
struct World {
  PinnedBudget budget{1 << 30};
  Hub hub{bells(), kFew}, theirs{bells()};
  std::vector<std::unique_ptr<Channel>> channels, peers;
  std::vector<std::unique_ptr<Taker>> takers;
  std::vector<std::atomic<uint32_t>*> words;  // of the channels, to their peers

  explicit World(size_t count = kMany) {
    while (channels.size() < count) add();
  }
  ~World() { channels.clear(), peers.clear(); }

  void add() {
    UniqueFd one, other;
    auto own = Segment::make(kPage, one), far = Segment::make(kPage, other);
    auto own_there = Segment::open(one.get()), far_here = Segment::open(other.get());
    int ends[2];
    REQUIRE((own && far && own_there && far_here));
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    const auto number = channels.size();
    words.push_back(&own->queue().sleeping);
    channels.push_back(std::make_unique<Channel>(hub, budget, number, std::move(*own), std::move(*far_here),
                                                 ExposedFd(UniqueFd(ends[0])), 1, 0));
    peers.push_back(std::make_unique<Channel>(theirs, budget, number, std::move(*far), std::move(*own_there),
                                              ExposedFd(UniqueFd(ends[1])), 1, 0));
    REQUIRE(hub.enlist(*channels.back()));
    REQUIRE(theirs.enlist(*peers.back()));
    takers.push_back(std::make_unique<Taker>());
    channels.back()->attach(*takers.back());
  }

  void post(size_t at) { REQUIRE(peers[at]->post_message(kByte, false)); }
  // As an engine polls.
  int poll() {
    if (hub.listen()) hub.arm();
    return hub.poll();
  }
  // As a thread that is about to sleep. What it finds is taken.
  void sleep() {
    hub.arm();
    while (poll() > 0) {
    }
    (void)poll();
  }
  size_t quiet() const {
    return static_cast<size_t>(
        std::count_if(channels.begin(), channels.end(), [](const auto& one) { return !one->seat.awake; }));
  }
};

}  // namespace

TEST_CASE("Few channels are looked at all the time", "[shm_hub]") {
  World world(kFew);
  for (int i = 0; i < 3; ++i) {
    world.sleep();
    CHECK(world.quiet() == 0);
    for (size_t at = 0; at < kFew; ++at) world.post(at);
    CHECK(world.hub.glance() == kFew);
  }
}

TEST_CASE("Among many, those that slept are quiet until their bell rings", "[shm_hub]") {
  World world;
  world.sleep();
  world.sleep();
  CHECK(world.quiet() == kMany);
  for (size_t at = 0; at < kMany; ++at) {
    world.post(at);
    CHECK(world.poll() == 1);
    CHECK(world.takers[at]->messages == 1);
    CHECK(world.channels[at]->seat.awake);
    world.post(at);  // it is looked at now
    CHECK(world.hub.glance() == 1);
    world.sleep();
  }
  CHECK(world.poll() == 0);
}

TEST_CASE("All that ring at once are heard at one poll", "[shm_hub]") {
  World world(150);
  world.sleep();
  world.sleep();
  REQUIRE(world.quiet() == 150);
  for (size_t at = 0; at < 150; ++at) world.post(at);
  CHECK(world.poll() == 150);
}

TEST_CASE("A thread that never sleeps finds what quiet peers post, in passing", "[shm_hub]") {
  World world;
  world.sleep();
  world.sleep();
  world.post(3);
  int found = 0, looks = 0;
  for (; found == 0 && looks < 100; ++looks) found = world.hub.glance();
  CHECK(found == 1);
  CHECK(looks <= static_cast<int>(kMany));
}

TEST_CASE("A peer that posted and died before it rang is found by whoever has to know", "[shm_hub]") {
  World world;
  world.sleep();
  world.sleep();
  auto& word = *world.words[5];
  word = 0;  // as if it had not got to the ring
  world.post(5);
  word = 1;
  CHECK(world.hub.look_everywhere() == 1);
}

TEST_CASE("Whoever is spoken to is looked at, since an answer is likely", "[shm_hub]") {
  World world;
  world.sleep();
  world.sleep();
  REQUIRE(world.channels[9]->post_message(kByte, false));
  CHECK(world.channels[9]->seat.awake);
  (void)world.hub.glance();
  CHECK(world.channels[9]->seat.awake);
  world.post(9);
  CHECK(world.hub.glance() == 1);
}

TEST_CASE("One that is silent for long is told to ring, though nobody sleeps", "[shm_hub]") {
  World world;
  int looks = 0;
  for (; world.quiet() < kMany && looks < 10'000; ++looks) (void)world.hub.glance();
  CHECK(looks < 10'000);
  CHECK(looks > 1000);
  world.post(0);
  CHECK(world.poll() == 1);
}

TEST_CASE("A handler that posts to a quiet channel does not make others be missed", "[shm_hub]") {
  World world;
  for (size_t speaker = 0; speaker < kMany; ++speaker) {
    world.sleep();
    world.sleep();
    REQUIRE(world.quiet() == kMany);
    for (auto& taker : world.takers) taker->messages = 0;
    world.takers[speaker]->then = [&] {
      for (size_t at = 0; at < kMany; at += 3) REQUIRE(world.channels[at]->post_message(kByte, false));
    };
    for (size_t at = 0; at < kMany; ++at) world.post(at);
    CHECK(world.hub.look_everywhere() == kMany);
    for (const auto& taker : world.takers) CHECK(taker->messages == 1);
    world.takers[speaker]->then = nullptr;
  }
}

TEST_CASE("Channels come and go while others are quiet", "[shm_hub]") {
  World world;
  world.sleep();
  world.sleep();
  for (size_t left = kMany; left > 1; --left) {
    world.channels.erase(world.channels.begin() + static_cast<long>(left / 2));
    world.peers.erase(world.peers.begin() + static_cast<long>(left / 2));
    world.takers.erase(world.takers.begin() + static_cast<long>(left / 2));
    const auto before = world.takers[0]->messages;
    world.post(0);
    CHECK(world.poll() == 1);
    CHECK(world.takers[0]->messages == before + 1);
    if (left % 2) world.sleep();
  }
}

TEST_CASE("A channel whose messages nobody wanted yet shows them when somebody does", "[shm_hub]") {
  World world;
  world.channels[2]->detach();
  world.post(2);
  world.sleep();
  world.sleep();
  Taker late;
  world.channels[2]->attach(late);
  CHECK(world.poll() == 1);
  CHECK(late.messages == 1);
  world.channels[2]->detach();
}

}  // namespace rsock::fabric::shm
