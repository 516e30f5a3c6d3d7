#pragma once
// The one place where application threads wait: first on the completion queues, for a bounded time that adapts, then in
// the kernel.
//
// Spinning. One thread at a time spins, for spin_us at most. While that was in vain of late, most waits sleep at once
// and few try. It never spins on a machine with one CPU.
//
// Sleeping. arm, poll again, sleep: what completed before the arming gives no event, so it has to be looked for once
// more. One sleeper is on duty: its descriptors include the engine's sources, and what comes for a flow that another
// thread waits for rings that thread's bell. With all of them at the sources each message would wake them all. A thread
// on duty that leaves calls the next; one that leaves while others are on duty arms again, since it may have taken the
// event that was theirs.

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/clock.hpp"
#include "core/sockets/entry.hpp"

namespace rsock::sockets {

// Kernel descriptors do not starve behind a wait that spins for flows in lanes: the kernel is looked at this often;
// less often, up to the second figure, while it has nothing.
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
  // Not so in a child that a handler has forked, in what it interrupted.
  bool is_ours() const { return maker_ == state.engine; }
  void ring();
  // The same, and an edge for who watches it, however often.
  void toll();
  void silence();

 private:
  explicit Bell(int fd) : fd_(fd) {}
  UniqueFd fd_;
  const engine::Engine* const maker_ = state.engine;
  bool rung_ = false;
};

// Whether a thread that sleeps now has to be on duty: nobody is, or only at sources that are not all that there are by
// now.
class Duty {
 public:
  // Whoever asks is not asleep, but may be the handler of a thread that was: that one is at nothing.
  static bool is_vacant(const engine::Engine& engine) { return count_ <= own_ || sources_ != engine.source_changes(); }
  // While the thread sleeps.
  explicit Duty(const engine::Engine& engine) : since_(engine.source_changes()) {
    if (std::exchange(sources_, since_) != since_) count_ = 0;
    ++count_, ++own_;
  }
  ~Duty() { count_ -= since_ == sources_, --own_; }
  Duty(const Duty&) = delete;
  Duty& operator=(const Duty&) = delete;
  // In a child of fork, which a handler of a thread on duty may have made.
  static void forget_all() { count_ = 0, sources_ = ~0u; }

 private:
  // Those who sleep at the sources of now, and when these had come.
  static inline constinit int count_ = 0;
  static inline constinit unsigned sources_ = 0;
  static thread_local constinit int own_ __attribute__((tls_model("initial-exec")));
  const unsigned since_;
};

// A thread that sleeps while another one is on duty: it may be called to take that over.
class Reserve {
 public:
  explicit Reserve(Bell& bell) : bell_(bell), at_(all().size()) { all().push_back(this); }
  ~Reserve() {
    if (at_ >= all().size() || all()[at_] != this) return;  // of the parent that a handler has forked
    all().back()->at_ = at_;
    all()[at_] = all().back();
    all().pop_back();
  }
  Reserve(const Reserve&) = delete;
  Reserve& operator=(const Reserve&) = delete;
  // Somebody, if there is anybody. Nobody is on duty.
  static void call() {
    if (!all().empty()) all().back()->bell_.ring();
  }
  // In a child of fork: its parent's threads are not here.
  static void forget_all() { all().clear(); }

 private:
  static std::vector<Reserve*>& all();
  Bell& bell_;
  size_t at_;
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

// Spins until `ready` (called under the lock after each poll, with the time as of late) says so; false if it did not
// come true in time.
bool spin(Section& section, std::optional<Time> deadline, const std::function<bool(Time)>& ready);

// Sleeps in the kernel (without the lock, cancellable), unless `ready` turns true once the engine is armed. What the
// wait answered, or nothing if it was not needed; EINTR as Nap::sleep says. `covers`: the wait includes the engine's
// sources. `sleepers` counts those who are asleep: only they need a bell, while whoever is awake under the lock looks
// for itself.
std::optional<Result<int>> sleep(Section& section, bool covers, int& sleepers, const std::function<bool()>& ready,
                                 Nap& nap, const Handled& since);

// Waits for `flow` to show any of `wanted`, an error or an end, or to enter or leave its lane. ETIMEDOUT; EINTR: a
// handler ran after `since` began.
Status wait_for(Section& section, const std::shared_ptr<engine::Flow>& flow, uint32_t wanted,
                std::optional<Time> deadline, const Handled& since = {});

// Waits until `done`, which is asked under the lock whenever the flow has changed. Signals do not end it. ETIMEDOUT.
Status wait_until(Section& section, const std::shared_ptr<engine::Flow>& flow, Time deadline,
                  const std::function<bool()>& done);

// The time until `deadline` as poll takes it, never negative; nullptr if there is none.
timespec* remaining(std::optional<Time> deadline, timespec& storage);
std::optional<Time> deadline_of(const timespec* timeout);

}  // namespace rsock::sockets
