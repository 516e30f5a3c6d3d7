#include "core/base/lock.hpp"

namespace rsock {
namespace {

constexpr auto kLook = milliseconds(50);     // of a waiter, whether the process is to end
constexpr int kSpins = 60;                   // before a waiter sleeps: about as long as most hold it
constexpr auto kPatience = milliseconds(2);  // of one who finds it taken again each time that it wakes

}  // namespace

constinit Doom doom;
thread_local constinit uint32_t Lock::thread_ = 0;
thread_local constinit std::atomic<const Lock*> Lock::awaited_{nullptr};

uint32_t Lock::learn_thread() { return thread_ = static_cast<uint32_t>(sys::thread_id()); }

bool Lock::waits_here() {
  const auto* lock = awaited_.load(std::memory_order_relaxed);
  return lock && (lock->word_.load(std::memory_order_relaxed) & ~kAwaited) != this_thread();
}

// Whoever has slept takes it with the mark of a waiter: it cannot know that it was the only one. On one CPU, or where
// the holder takes it again at once and holds it most of the time, a waiter could be woken for ever and find it taken:
// that one starves.
void Lock::wait() {
  const auto* outer = awaited_.exchange(this, std::memory_order_relaxed);  // of the code that a handler interrupted
  std::atomic_signal_fence(std::memory_order_seq_cst);
  waiting_.fetch_add(1, std::memory_order_relaxed);
  const auto begun = now();
  bool slept = false, starving = false;
  int spins = kSpins;
  for (auto seen = word_.load(std::memory_order_relaxed);; seen = word_.load(std::memory_order_relaxed)) {
    if (seen == 0 || (slept && (seen & ~kAwaited) == kHandedOver)) {
      if (word_.compare_exchange_strong(seen, this_thread() | (slept ? kAwaited : 0), std::memory_order_acquire,
                                        std::memory_order_relaxed))
        break;
      continue;
    }
    // Whoever rang for this thread holds it still, for a moment.
    if (spins-- > 0) {
      relax();
      continue;
    }
    if (!(seen & kAwaited) && !word_.compare_exchange_strong(seen, seen | kAwaited, std::memory_order_relaxed))
      continue;
    sys::futex_sleep(word_, seen | kAwaited, kLook);
    slept = true;
    if (!starving && now() - begun > kPatience) starving = true, starving_.fetch_add(1, std::memory_order_relaxed);
    doom.look();
  }
  if (starving) starving_.fetch_sub(1, std::memory_order_relaxed);
  waiting_.fetch_sub(1, std::memory_order_relaxed);
  served_.fetch_add(1, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  awaited_.store(outer, std::memory_order_relaxed);
}

// Some waiter starves, and can have it from nobody but the holder: so there is one who has slept and will take it. Once
// in a while only: where many wait for long, a change of threads at each turn would cost more than it is worth.
bool Lock::hand_over() {
  const auto time = now();
  if (time - handed_over_ < kPatience) return false;
  handed_over_ = time;
  word_.store(kHandedOver | kAwaited, std::memory_order_release);
  sys::futex_wake(word_);
  return true;
}

void Doom::look() const {
  const int signal = signal_.load(std::memory_order_acquire);
  if (signal != 0 && now().time_since_epoch().count() >= deadline_.load(std::memory_order_relaxed)) sys::die_by(signal);
}

}  // namespace rsock
