#include "core/base/reserve.hpp"

#include <catch2/catch.hpp>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

using namespace rsock;

TEST_CASE("The reserve gives what it has, and takes it back", "[reserve]") {
  for (const size_t size : {size_t{1}, size_t{128}, size_t{129}, size_t{5000}, size_t{100'000}, size_t{2} << 20}) {
    std::vector<void*> taken;
    while (void* memory = reserve::take(size)) {
      std::memset(memory, 0x5a, size);
      taken.push_back(memory);
    }
    CHECK(!taken.empty());
    CHECK(std::set(taken.begin(), taken.end()).size() == taken.size());
    CHECK(reserve::short_of_memory());
    const auto most = taken.size();
    for (void* memory : taken) CHECK(reserve::give_back(memory));
    taken.clear();
    while (void* memory = reserve::take(size)) taken.push_back(memory);
    CHECK(taken.size() == most);
    for (void* memory : taken) CHECK(reserve::give_back(memory));
  }
  CHECK(reserve::take(size_t{1} << 30) == nullptr);
}

TEST_CASE("What is not the reserve's is not taken back", "[reserve]") {
  int other = 0;
  CHECK_FALSE(reserve::give_back(&other));
  void* const one = reserve::take(10);
  REQUIRE(one);
  CHECK_FALSE(reserve::give_back(&other));
  CHECK(reserve::give_back(one));
}

TEST_CASE("Threads never get the same cell", "[reserve]") {
  std::vector<std::thread> threads;
  std::atomic<bool> wrong = false;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2000; ++i) {
        auto* const memory = static_cast<unsigned char*>(reserve::take(64));
        if (!memory) continue;
        std::memset(memory, t + 1, 64);
        std::this_thread::yield();
        for (int at = 0; at < 64; ++at) wrong = wrong || memory[at] != t + 1;
        reserve::give_back(memory);
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK_FALSE(wrong);
}
