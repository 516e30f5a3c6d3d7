#pragma once
// A mutex that knows whose it is and whether somebody waits for it. A thread that takes it again and again in
// a loop (one that spins) would otherwise keep a sleeping waiter out: the waiter needs longer to wake than
// the loop leaves the mutex free. The holder hands it over to one who has waited in vain for some time.
//
// Nobody waits for it beyond the end of the process. A signal that ends the process finds a thread that
// waits, and holds nothing, by waits_here(). One that finds the holder is put off until that lets go, and
// sets the Doom: if the time is over first, whoever waits ends the process by that signal.
//
//   word: 0 free; kHandedOver, for one who has slept; else the holder's thread id; and kAwaited if others sleep

#include <sched.h>

#include <atomic>
#include <cstdint>

#include "core/base/clock.hpp"
#include "core/base/kernel.hpp"

namespace rsock {

// In a loop that looks at memory until another thread has written it.
inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

class Lock {
 public:
  void lock() {
    if (!try_lock()) wait();
  }
  bool try_lock() {
    uint32_t free = 0;
    return word_.compare_exchange_strong(free, this_thread(), std::memory_order_acquire, std::memory_order_relaxed);
  }
  void unlock() {
    if (starving_.load(std::memory_order_relaxed) > 0 && hand_over()) return;
    if (word_.exchange(0, std::memory_order_release) & kAwaited) sys::futex_wake(word_);
  }
  // Without the lock: lets one who waits have it first, within a bound.
  void give_way() const {
    constexpr int kYields = 100;
    const auto before = served_.load(std::memory_order_relaxed);
    for (int i = 0; i < kYields && waiting_.load(std::memory_order_relaxed) > 0; ++i) {
      sched_yield();
      if (served_.load(std::memory_order_relaxed) != before) return;
    }
  }

  // For a handler of a signal: its thread waits for a lock, which it has not got.
  static bool waits_here();
  // In a child of fork, whose only thread has another number.
  static void forked() { thread_ = 0; }

 private:
  static constexpr uint32_t kAwaited = 1u << 31, kHandedOver = 1u << 30;
  static uint32_t this_thread() { return thread_ ? thread_ : learn_thread(); }
  static uint32_t learn_thread();
  void wait();
  bool hand_over();

  static thread_local constinit uint32_t thread_ __attribute__((tls_model("initial-exec")));
  static thread_local constinit std::atomic<const Lock*> awaited_ __attribute__((tls_model("initial-exec")));
  std::atomic<uint32_t> word_{0};
  std::atomic<int> waiting_{0}, starving_{0};
  std::atomic<unsigned> served_{0};
  Time handed_over_{};  // last; the holder's
};

// The process is to end by a signal that was put off, at the latest at a time. Set and lifted in handlers of
// signals, too.
class Doom {
 public:
  void set(int signal, Time deadline) {
    deadline_.store(deadline.time_since_epoch().count(), std::memory_order_relaxed);
    signal_.store(signal, std::memory_order_release);
  }
  void lift() { signal_.store(0, std::memory_order_relaxed); }
  // Does not return once the time is over.
  void look() const;

 private:
  std::atomic<int> signal_{0};
  std::atomic<int64_t> deadline_{0};
};
extern constinit Doom doom;

}  // namespace rsock
