#include "core/sockets/wait.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "core/engine/service/service.hpp"

namespace rsock::sockets {
namespace {

// Whether spinning has paid of late. A few spins in vain prove nothing: where both ends spin, a hiccup of one sends the
// other to sleep, and both must try again for either to find the other awake. After more of them in a row, waits sleep
// at once, twice as many after each further spin that was tried in vain. Under the lock.
class Pace {
 public:
  bool worth_spinning() {
    if (to_skip_ == 0) return true;
    --to_skip_;
    return false;
  }
  void found() { in_vain_ = 0; }
  void in_vain() {
    in_vain_ = std::min(in_vain_ + 1, kTrials + kDoublings);
    if (in_vain_ > kTrials) to_skip_ = (1 << (in_vain_ - kTrials)) - 1;
  }

 private:
  static constexpr int kTrials = 4, kDoublings = 5;
  int in_vain_ = 0, to_skip_ = 0;
};

Pace pace;
// Leaked: threads may wait until the very end. Made when it is needed: that may be before any constructor.
std::vector<Bell*>& spare_bells() {
  static auto& bells = *new std::vector<Bell*>;
  return bells;
}
bool spinning = false;

bool one_cpu() {
  static const bool one = sysconf(_SC_NPROCESSORS_ONLN) <= 1;
  return one;
}

}  // namespace

Bell::Loan Bell::borrow() {
  if (state.engine->gate.barred()) return nullptr;
  if (!spare_bells().empty()) {
    Loan loan(spare_bells().back());
    spare_bells().pop_back();
    return loan;
  }
  const auto fd = sys::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (!fd) return nullptr;
  return Loan(new Bell(sys::move_high(*fd)));
}

void Bell::Return::operator()(Bell* bell) const {
  if (!bell->is_ours()) return;  // leaked: its number is closed here, or another's
  if (state.engine->gate.barred()) {
    delete bell;
    return;
  }
  bell->silence();
  spare_bells().push_back(bell);
}

void Bell::give_back_all() {
  for (auto* bell : std::exchange(spare_bells(), {})) delete bell;
}

void Bell::forget_all() { spare_bells().clear(), to_come_back = 0; }

thread_local constinit int Duty::own_ = 0;

// Leaked, as the spare bells.
std::vector<Reserve*>& Reserve::all() {
  static auto& all = *new std::vector<Reserve*>;
  return all;
}

void Bell::ring() {
  if (!rung_) toll();
}

void Bell::toll() {
  if (!is_ours()) return;
  rung_ = true;
  const uint64_t one = 1;
  (void)sys::write(fd_.get(), &one, sizeof one);
}

void Bell::silence() {
  if (!rung_ || !is_ours()) return;
  rung_ = false;
  uint64_t count;
  (void)sys::read(fd_.get(), &count, sizeof count);
}

Attendance::~Attendance() {
  if (&engine_ != state.engine) return;  // in a child that a handler has forked
  if (Duty::is_vacant(engine_)) Reserve::call();
  if (engine_.asleep == 0) return;
  // Others sleep: what completes from now on has to wake them.
  engine_.arm();
  (void)engine_.drain();
}

bool spin(Section& section, std::optional<Time> deadline, const std::function<bool(Time)>& ready) {
  auto& engine = section.engine();
  const auto most = engine.longest_spin();
  if (most.count() == 0 || spinning || one_cpu() || !pace.worth_spinning()) return false;
  constexpr int kPolls =
      8;  // a turn: the clock, and to let go of the lock, cost as much as some looks at the completion queues
  auto time = now();
  const auto until = time + most;
  const auto stop = deadline ? std::min(until, *deadline) : until;
  spinning = true;
  bool found = false;
  for (;;) {
    for (int i = 0; i < kPolls && !found; ++i) found = engine.glance() && ready(time);
    // What another thread polled, or the kernel has.
    if (found || (found = ready(time = now())) || time >= stop) break;
    // A handler that was put off has waited long enough: it runs when the thread sleeps.
    if (signals.put_off.load(std::memory_order_relaxed)) break;
    const Section::Outside outside;
    engine.lock.give_way();
    relax();
  }
  spinning = false;
  if (found)
    pace.found();
  else if (stop == until)
    pace.in_vain();
  return found;
}

std::optional<Result<int>> sleep(Section& section, bool covers, int& sleepers, const std::function<bool()>& ready,
                                 Nap& nap, const Handled& since) {
  auto& engine = section.engine();
  if (covers) {
    engine.arm();
    if (!engine.drain()) return {};  // there is more, and no event would say so
  }
  if (ready()) return {};
  std::optional<Duty> duty;
  if (covers) duty.emplace(engine);
  // It may have been on duty before its flows left their lanes.
  if (Duty::is_vacant(engine)) Reserve::call();
  // Undone on cancellation, too.
  struct Asleep {
    engine::Engine& engine;
    int& sleepers;
    const bool covers;
    Nap& nap;
    Asleep(engine::Engine& with, int& all, bool counts, Nap& its)
        : engine(with), sleepers(all), covers(counts), nap(its) {
      ++sleepers;
      engine.asleep += covers;
      if (covers) nap.covers(engine);
    }
    ~Asleep() {
      --sleepers;
      engine.asleep -= covers && !nap.left();
      if (covers && &engine == state.engine) engine.service().sleeper_woke();
    }
  };
  const Asleep asleep(engine, sleepers, covers, nap);
  const Section::Outside outside;
  const auto woken = nap.sleep(since, section.cancel_state());
  // In a child that a handler has forked nothing is left to wait for, whatever woke it.
  return &engine == state.engine ? woken : Result<int>(Errno{EINTR});
}

timespec* remaining(std::optional<Time> deadline, timespec& storage) {
  if (!deadline) return nullptr;
  const auto left = std::max<int64_t>((*deadline - now()).count(), 0);
  storage = {static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
  return &storage;
}

std::optional<Time> deadline_of(const timespec* timeout) {
  if (!timeout) return {};
  constexpr int64_t kFar = 1'000'000'000;  // seconds: further than any process lives, and no overflow
  const auto seconds = std::min<int64_t>(timeout->tv_sec, kFar);
  return now() + std::chrono::seconds(seconds) + std::chrono::nanoseconds(timeout->tv_nsec);
}

}  // namespace rsock::sockets
