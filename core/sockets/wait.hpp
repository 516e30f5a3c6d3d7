#pragma once
// The one place where application threads wait: first on the completion queues, for a bounded time that adapts, then in the
// kernel.
//
// Spinning. One thread at a time spins, for spin_us at most. While that was in vain of late, most waits sleep at once and few try.
// It never spins on a machine with one CPU.
//
// Sleeping. arm, poll again, sleep: what completed before the arming gives no event, so it has to be looked for once more. Every
// sleeper's descriptors include the engine's sources. A thread that leaves while others sleep arms again, since it may
// have taken the event that was theirs; a change of a flow that another thread waits for rings that thread's bell.

#include <functional>
#include <optional>

#include "core/base/clock.hpp"
#include "core/sockets/entry.hpp"

namespace rsock::sockets {

// Kernel descriptors do not starve behind a wait that spins for flows in lanes: the kernel is looked at this often; less often, up to
// the second figure, while it has nothing.
inline constexpr auto kKernelLook = microseconds(100), kKernelLookMost = microseconds(1000);

// When the kernel is to be looked at next.
class Looks {
 public:
  bool due(Time time = now()) const { return time - last_ >= gap_; }
  void looked(bool found) {
    last_ = now();
    gap_ = found ? kKernelLook : std::min<Duration>(2 * gap_, kKernelLookMost);
  }

 private:
  Time last_{};
  Duration gap_ = kKernelLook;
};

// A bell wakes one sleeping thread: an eventfd of the library's own.
class Bell {
 public:
  // nullptr if there is no descriptor to be had, or none for us. Bells that are not in use wait in a pool.
  struct Return {
    void operator()(Bell* bell) const;
  };
  using Loan = std::unique_ptr<Bell, Return>;
  static Loan borrow();
  // In a child of fork: those of the parent are not ours.
  static void forget_all();
  // The pool is emptied, and stays empty while the program lacks descriptors.
  static void give_back_all();
  // Those that go when the thread that sleeps with one has woken.
  static inline constinit std::atomic<int> to_come_back{0};
  int fd() const { return fd_.get(); }
  void ring();
  // The same, and an edge for who watches it, however often.
  void toll();
  void silence();

 private:
  explicit Bell(int fd) : fd_(fd) {}
  UniqueFd fd_;
  bool rung_ = false;
};

// A thread that polls the engine in its wait leaves it fit for those who sleep.
class Attendance {
 public:
  explicit Attendance(engine::Engine& engine) : engine_(engine) {}
  ~Attendance();
  Attendance(const Attendance&) = delete;
  Attendance& operator=(const Attendance&) = delete;

 private:
  engine::Engine& engine_;
};

// Spins until `ready` (called under the lock after each poll, with the time as of late) says so; false if it did not come true in
// time.
bool spin(Section& section, std::optional<Time> deadline, const std::function<bool(Time)>& ready);

// Sleeps in the kernel (without the lock, cancellable), unless `ready` turns true once the engine is armed. What the wait answered, or
// nothing if it was not needed; EINTR as Nap::sleep says. `covers`: the wait includes the engine's sources. `sleepers` counts those
// who are asleep: only they need a bell, while whoever is awake under the lock looks for itself.
std::optional<Result<int>> sleep(Section& section, bool covers, int& sleepers, const std::function<bool()>& ready, Nap& nap,
                                 const Handled& since);

// Waits for `flow` to show any of `wanted`, an error or an end, or to enter or leave its lane. ETIMEDOUT; EINTR: a handler ran after
// `since` began.
Status wait_for(Section& section, const std::shared_ptr<engine::Flow>& flow, uint32_t wanted,
                std::optional<Time> deadline, const Handled& since = {});

// Waits until `done`, which is asked under the lock whenever the flow has changed. Signals do not end it. ETIMEDOUT.
Status wait_until(Section& section, const std::shared_ptr<engine::Flow>& flow, Time deadline, const std::function<bool()>& done);

// The time until `deadline` as poll takes it, never negative; nullptr if there is none.
timespec* remaining(std::optional<Time> deadline, timespec& storage);
std::optional<Time> deadline_of(const timespec* timeout);

}  // namespace rsock::sockets
