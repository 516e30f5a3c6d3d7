#pragma once
// A mutex that knows whether somebody waits for it. A thread that takes it again and again in a loop (one that spins) would
// otherwise keep a sleeping waiter out: the waiter needs longer to wake than the loop leaves the mutex free.

#include <sched.h>

#include <atomic>
#include <mutex>

namespace rsock {

class Lock {
 public:
  void lock() {
    if (mutex_.try_lock()) return;
    waiting_.fetch_add(1, std::memory_order_relaxed);
    mutex_.lock();
    waiting_.fetch_sub(1, std::memory_order_relaxed);
    served_.fetch_add(1, std::memory_order_relaxed);
  }
  bool try_lock() { return mutex_.try_lock(); }
  void unlock() { mutex_.unlock(); }
  // Without the lock: lets one who waits have it first, within a bound.
  void give_way() const {
    constexpr int kYields = 100;
    const auto before = served_.load(std::memory_order_relaxed);
    for (int i = 0; i < kYields && waiting_.load(std::memory_order_relaxed) > 0; ++i) {
      sched_yield();
      if (served_.load(std::memory_order_relaxed) != before) return;
    }
  }

 private:
  std::mutex mutex_;
  std::atomic<int> waiting_{0};
  std::atomic<unsigned> served_{0};
};

}  // namespace rsock
