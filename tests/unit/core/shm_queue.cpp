// The queue of a link over shared memory, with peers that keep to it and peers that do not.

#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <random>
#include <thread>

#include "core/fabric/shm/queue.hpp"

namespace rsock::fabric::shm {
namespace {

struct World {
  // As the kernel gives it: zeros.
  std::unique_ptr<QueueMemory> memory{new (std::nothrow) QueueMemory{}};
  QueueWriter writer{*memory};
  QueueReader reader{*memory};
  std::array<uint8_t, wire::kMessageMax> message{};

  QueueReader::Item take() { return reader.take(message); }
  Entry& entry(uint32_t number) { return memory->entries[number % kDepth]; }
};

std::vector<uint8_t> bytes(size_t size, uint32_t seed) {
  std::vector<uint8_t> made(size);
  for (auto& byte : made) byte = static_cast<uint8_t>(seed = seed * 1664525 + 1013904223);
  return made;
}

}  // namespace

TEST_CASE("what is posted is taken once, in order", "[shm_queue]") {
  World world;
  CHECK(world.take().kind == Posted::nothing);
  world.writer.post_data(7, 100);
  const auto text = bytes(30, 1);
  world.writer.post_message(text);
  const auto data = world.take();
  CHECK(data.kind == Posted::data);
  CHECK(data.immediate == 7);
  CHECK(data.length == 100);
  const auto message = world.take();
  REQUIRE(message.kind == Posted::message);
  CHECK(std::vector(world.message.begin(), world.message.begin() + message.length) == text);
  CHECK(world.take().kind == Posted::nothing);
  CHECK(world.take().kind == Posted::nothing);
}

TEST_CASE("messages of every size come as they went, around the end of the queue many times", "[shm_queue]") {
  World world;
  std::minstd_rand random(3);
  uint32_t sent = 0, taken = 0;
  for (int round = 0; round < 4000; ++round) {
    const auto room = kDepth - (sent - taken);
    for (auto count = random() % (room + 1); count > 0; --count, ++sent)
      world.writer.post_message(bytes(sent % (wire::kMessageMax + 1), sent));
    for (auto count = random() % (sent - taken + 1); count > 0; --count, ++taken) {
      const auto item = world.take();
      REQUIRE(item.kind == Posted::message);
      const auto expected = bytes(taken % (wire::kMessageMax + 1), taken);
      REQUIRE(item.length == expected.size());
      REQUIRE(std::equal(expected.begin(), expected.end(), world.message.begin()));
    }
    if (sent == taken) REQUIRE(world.take().kind == Posted::nothing);
  }
  CHECK(sent > 10 * kDepth);
}

TEST_CASE("a full queue is full of what was posted", "[shm_queue]") {
  World world;
  for (uint32_t lap = 0; lap < 3; ++lap) {
    for (uint32_t i = 0; i < kDepth; ++i) world.writer.post_data(i, lap);
    for (uint32_t i = 0; i < kDepth; ++i) {
      const auto item = world.take();
      REQUIRE(item.kind == Posted::data);
      REQUIRE(item.immediate == i);
      REQUIRE(item.length == lap);
    }
    REQUIRE(world.take().kind == Posted::nothing);
  }
}

TEST_CASE("a peer that writes what cannot be is found out", "[shm_queue]") {
  World world;
  for (uint32_t i = 0; i < 5; ++i) {
    world.writer.post_data(i, 1);
    REQUIRE(world.take().kind == Posted::data);
  }
  SECTION("a stamp from nowhere") {
    const uint32_t stamp = GENERATE(5u, 7u, 6u + kDepth, 0x80000000u, UINT32_MAX, 1u);
    world.entry(6).stamp = stamp;
    CHECK(world.take().kind == Posted::fault);
  }
  SECTION("a stamp of the lap before, once there was one, is none") {
    for (uint32_t i = 5; i < kDepth + 5; ++i) {
      world.writer.post_data(i, 1);
      REQUIRE(world.take().kind == Posted::data);
    }
    CHECK(world.take().kind == Posted::nothing);
    world.entry(kDepth + 6).stamp = 0;
    CHECK(world.take().kind == Posted::fault);
  }
  SECTION("a kind that is none") {
    world.writer.post_data(1, 1);
    world.entry(6).kind = GENERATE(0u, 3u, 4u, UINT32_MAX);
    CHECK(world.take().kind == Posted::fault);
  }
  SECTION("a message too long to be one") {
    world.writer.post_message(bytes(10, 1));
    world.entry(6).length = GENERATE(static_cast<uint32_t>(wire::kMessageMax) + 1, 0x7fffffffu, UINT32_MAX);
    CHECK(world.take().kind == Posted::fault);
  }
  SECTION("a message that is lengthened stays within the queue") {
    world.writer.post_message(bytes(10, 1));
    world.entry(6).length = static_cast<uint32_t>(wire::kMessageMax);
    CHECK(world.take().kind == Posted::message);
  }
}

TEST_CASE("whatever a peer scribbles, the reader stays within its memory", "[shm_queue]") {
  World world;
  std::minstd_rand random(5);
  auto* raw = reinterpret_cast<uint8_t*>(world.memory.get());
  for (int round = 0; round < 20000; ++round) {
    // Mostly near the next entry, and often its right stamp, so that much of it is believed.
    for (int i = 0; i < 8; ++i) raw[random() % sizeof(QueueMemory)] = static_cast<uint8_t>(random());
    world.writer.post_data(random(), random());
    if (random() % 2) {
      auto& entry = world.memory->entries[random() % kDepth];
      entry.kind = random() % 4;
      entry.length = random() % 2000;
    }
    const auto item = world.take();
    if (item.kind == Posted::message) REQUIRE(item.length <= wire::kMessageMax);
  }
}

TEST_CASE("a writer wakes a reader that sleeps, once", "[shm_queue]") {
  World world;
  CHECK_FALSE(world.writer.must_wake());
  world.reader.sleep();
  world.writer.post_data(1, 1);
  CHECK(world.writer.must_wake());
  world.writer.post_data(1, 1);
  CHECK_FALSE(world.writer.must_wake());
}

// Each side waits for the other: a lost wake-up hangs, a torn or early entry shows.
TEST_CASE("two threads", "[shm_queue]") {
  QueueMemory there{}, back{};
  constexpr uint32_t kRounds = 30000;
  std::thread echo([&] {
    QueueReader reader(there);
    QueueWriter writer(back);
    std::array<uint8_t, wire::kMessageMax> message;
    for (uint32_t done = 0; done < kRounds;) {
      const auto item = reader.take(message);
      if (item.kind == Posted::nothing) {
        std::this_thread::yield();
        continue;
      }
      writer.post_message({message.data(), item.length});
      ++done;
    }
  });
  QueueReader reader(back);
  QueueWriter writer(there);
  std::array<uint8_t, wire::kMessageMax> message;
  uint32_t sent = 0, taken = 0;
  while (taken < kRounds) {
    if (sent < kRounds && sent - taken < kDepth) writer.post_message(bytes(sent % 200, sent)), ++sent;
    const auto item = reader.take(message);
    if (item.kind == Posted::nothing) {
      std::this_thread::yield();
      continue;
    }
    const auto expected = bytes(taken % 200, taken);
    const bool right = item.kind == Posted::message && item.length == expected.size() &&
                       std::equal(expected.begin(), expected.end(), message.begin());
    if (!right) FAIL("message " << taken);
    ++taken;
  }
  echo.join();
}

}  // namespace rsock::fabric::shm
