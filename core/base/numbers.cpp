#include "core/base/numbers.hpp"

#include <climits>

#include "core/base/clock.hpp"
#include "core/base/kernel.hpp"
#include "core/base/own.hpp"

namespace rsock::numbers {
namespace {

constinit std::atomic<uint32_t> waiting{0};

}  // namespace

void take() { taken.fetch_add(1); }

void give_back() {
  auto by = taken.load(std::memory_order_relaxed);
  while (!taken.compare_exchange_weak(by, by == kForsaken + 1 ? 0 : by - 1)) {
  }
  if (waiting.load() != 0) sys::futex_wake(taken, INT_MAX);
}

void forked() {
  taken.store(0);
  waiting.store(0);
}

void await() {
  constexpr auto kPatience = milliseconds(1000);
  const auto deadline = now() + kPatience;
  waiting.fetch_add(1);
  for (auto by = taken.load(); by != 0 && by < kForsaken; by = taken.load()) {
    const auto left = deadline - now();
    if (left > Duration::zero())
      sys::futex_sleep(taken, by, left);
    else
      (void)taken.compare_exchange_strong(by, by | kForsaken);
  }
  waiting.fetch_sub(1);
}

Taken::Taken() : takes_(own::trusted) {
  if (takes_) take();
}
Taken::~Taken() {
  if (takes_) give_back();
}

}  // namespace rsock::numbers
