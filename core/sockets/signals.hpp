#pragma once
// Signals, thread by thread: when a handler may run, and what the call that it interrupts learns of it.
//
// The shell stands in for the program's handlers (preload/signals.cpp) and asks here:
//   1. While its thread is within a held stretch (Held; every Section is one), no handler runs: it could want
//   the very lock that it
//      interrupted. The signal is put off, and raised again when the stretch ends. Faults of the thread
//      itself are never put off.
//   2. A call that is about to sleep knows whether a handler ran since it began (Handled), and ends as the
//   kernel's call would.
//   3. A handler that runs after that look and before the kernel has put the thread to sleep makes the
//   kernel's wait end at once
//      (Nap::cut): it spoils an argument that the kernel has yet to read. So no interrupt is missed, and no
//      descriptor is needed.
//   4. Memory of the program that cannot be touched makes its call end with EFAULT, as the kernel's
//   (core/base/copy.hpp):
//      the program's handlers, if any, hear nothing of it.
//
// All of it is for the thread itself and its handlers alone, and safe in them: no lock, no allocation. In a
// child of fork: forget_put_off().

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unwind.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/base/copy.hpp"
#include "core/base/result.hpp"
#include "core/base/selection.hpp"

namespace rsock::engine {
class Engine;
}

namespace rsock::sockets {

class Nap;

// A jump out of a handler (siglongjmp).
struct Jump {
  void (*make)(const Jump& jump);  // does not return
  void* buffer;                    // jmp_buf or sigjmp_buf
  int value;
};

// One thread's. Relaxed atomics: only the thread and its own handlers look.
struct Signals {
  std::atomic<int> held{0};                // stretches that are held, within one another
  std::atomic<int> put_off{0};             // the signal that waits, or 0; all others wait in the kernel meanwhile
  std::atomic<unsigned> ran{0}, broke{0};  // handlers so far, and those of them that ask for no restart (SA_RESTART)
  std::atomic<Nap*> nap{nullptr};          // the innermost one
  std::atomic<const sigset_t*> mask{nullptr};  // of the p-call that is under way
  uint64_t mask_before = 0;                    // the thread's mask, to be put back with the signal put off
  siginfo_t siginfo{};
  Jump jump{};  // the one that is under way
  _Unwind_Exception unwinding{};
};
extern thread_local constinit Signals signals __attribute__((tls_model("initial-exec")));

// ---- for the shell's stand-in

// A fault of the thread itself, which comes again and again until its cause is gone.
bool is_fault(int signal, const siginfo_t& siginfo);
// True if the signal may not be handled now: it will be raised again. `context`: the third argument of its handler.
bool put_off(int signal, const siginfo_t& siginfo, void* context);
// The same for one that ends the process: a thread that waits for a lock ends here and now.
bool put_off_end(int signal, const siginfo_t& siginfo, void* context);
// The signal comes again, with all that is known of it, as soon as its handler returns and before anything else happens
// there.
void raise_on_return(int signal, const siginfo_t& siginfo, void* context);
// True if it is a fault of memory that was to be copied (core/base/copy.hpp): the copy ends when the handler
// returns. Or one that was sent and is open for a copy only: it is pending again.
bool recovers(int signal, const siginfo_t& siginfo, void* context);
// A handler begins, and returns: those that interrupted it count for its own calls, not for the one that it
// interrupted.
struct Ran {
  unsigned all, breaking;
  Faults faults;
};
Ran handler_runs(bool restarts);
void handler_returns(Ran ran, void* context);
// A handler is about to jump to a frame whose stack pointer is `to`. If a call of ours sleeps between that frame and
// the handler, the buffer to which it has to jump instead, with 1: the call is then unwound as by a cancellation, up to
// the frame of the program that made it, and there goes on with `jump`. nullptr if there is no such call.
jmp_buf* detour(const Jump& jump, const void* to);

// ---- held stretches

void raise_put_off();
// In a child of fork: a signal that its parent put off is its parent's.
void forget_put_off();

inline void hold() {
  signals.held.store(signals.held.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
}
// What was put off is raised, and handled before this returns.
inline void let_go() {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  const int left = signals.held.load(std::memory_order_relaxed) - 1;
  signals.held.store(left, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (left == 0 && signals.put_off.load(std::memory_order_relaxed)) raise_put_off();
}
class Held {
 public:
  Held() { hold(); }
  ~Held() noexcept(false) { let_go(); }  // a handler may end the thread
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
};

// Memory that is taken where handlers run: none of them interrupts the allocator, which it may need itself.
template <class T>
struct HeldAllocator {
  using value_type = T;
  HeldAllocator() = default;
  template <class Other>
  HeldAllocator(const HeldAllocator<Other>&) {}
  T* allocate(size_t count) {
    const Held held;
    return std::allocator<T>().allocate(count);
  }
  void deallocate(T* memory, size_t count) {
    const Held held;
    std::allocator<T>().deallocate(memory, count);
  }
  bool operator==(const HeldAllocator&) const = default;
};
template <class T>
using HeldVector = std::vector<T, HeldAllocator<T>>;

// While a p-call is under way its mask is in force, also where it does not sleep: what it blocks is put off.
class Masked {
 public:
  explicit Masked(const sigset_t* mask) : before_(signals.mask.exchange(mask, std::memory_order_relaxed)) {}
  ~Masked() noexcept(false) {
    signals.mask.store(before_, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (signals.put_off.load(std::memory_order_relaxed) && signals.held.load(std::memory_order_relaxed) == 0)
      raise_put_off();
  }
  Masked(const Masked&) = delete;
  Masked& operator=(const Masked&) = delete;

 private:
  const sigset_t* before_;
};

// ---- interrupted calls

// The handlers that ran in this thread since this was made.
class Handled {
 public:
  bool any() const { return signals.ran.load(std::memory_order_relaxed) != ran_; }
  // Some did, and all of them ask for interrupted calls to go on.
  bool all_restart() const { return any() && signals.broke.load(std::memory_order_relaxed) == broke_; }

 private:
  unsigned ran_ = signals.ran.load(std::memory_order_relaxed), broke_ = signals.broke.load(std::memory_order_relaxed);
};

// The kernel's wait in which a thread sleeps, in a held stretch, which it interrupts: in sleep() handlers run, and the
// thread may be cancelled, of either type.
class Nap {
 public:
  // ppoll(2). The last of the list is the library's own.
  Nap(std::span<pollfd> list, const timespec* timeout, const sigset_t* mask);
  // epoll_pwait2(2).
  Nap(int set, epoll_event* events, int capacity, const timespec* timeout, const sigset_t* mask);
  Nap(const Nap&) = delete;
  Nap& operator=(const Nap&) = delete;

  // EINTR also if a handler ran after `since` began. `cancel_state`: as of pthread_setcancelstate, in force during the
  // wait.
  Result<int> sleep(const Handled& since, int cancel_state);
  // The list was longer than the process may have descriptors: the kernel's ppoll refused it. Then select takes its
  // place, for a turn at most, after which the caller looks for itself; what it cannot express is not waited for.
  bool cramped() const { return cramped_; }
  // The thread sleeps at the sources of `engine`. While a handler runs instead it is not there: the service thread is.
  void covers(engine::Engine& engine) { covered_ = &engine; }
  bool left() const { return left_; }
  // From a handler: the wait, if it is yet to begin, ends at once.
  void cut();
  // For a handler: to jump there ends the wait in the unwinding for signals.jump.
  jmp_buf* way_out() { return &way_out_; }

 private:
  Result<int> in_kernel(const Handled& since, int cancel_state);
  Result<int> select_instead(const Handled& since, int cancel_state);
  Result<int> wait_in_kernel();
  Result<int> wait_for_set();

  std::span<pollfd> list_;
  int set_ = -1;
  epoll_event* events_ = nullptr;
  int capacity_ = 0;
  pollfd set_and_own_[2];  // for a kernel without epoll_pwait2
  const sigset_t* mask_;
  const bool limited_;
  timespec limit_{};
  bool cramped_ = false;
  engine::Engine* covered_ = nullptr;
  bool left_ = false;
  Selection* selection_ = nullptr;
  jmp_buf way_out_;
};

}  // namespace rsock::sockets
