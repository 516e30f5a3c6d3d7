#include "core/engine/service/deliverance.hpp"

#include <pthread.h>
#include <sys/syscall.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <mutex>

#include "core/base/own.hpp"
#include "core/base/signals_blocked.hpp"

namespace rsock::engine {
namespace {

constexpr auto kLook = milliseconds(50);

// What libc's last thread does. It is a thread of the program's, whose handlers run in it.
void* exit_as_last(void* mask) {
  set_signal_mask(*static_cast<const uint64_t*>(mask));
  std::exit(0);
}

}  // namespace

Time Deliverance::end_of_delivery() const {
  constexpr auto kSlack = milliseconds(200);
  return now() + engine_.settings.drain + kSlack;
}

void Deliverance::deliver_all() {
  const auto deadline = end_of_delivery();
  uint32_t expected = Work::goes_on;
  if (work_.compare_exchange_strong(expected, Work::is_to_deliver)) engine_.orders.call();
  wait_while(Work::is_to_deliver, deadline);
}

// Woken, the service's thread waits for the lock as well, and whoever waits for it looks.
void Deliverance::end_in_time(int signal) {
  doom.set(signal, end_of_delivery());
  engine_.orders.call();
}

// Whoever goes on without may have this thread killed by the filter, and the process with it.
bool Deliverance::retire() {
  constexpr auto kPatience = milliseconds(10000);
  const auto deadline = now() + kPatience;
  uint32_t expected = Work::goes_on;
  if (work_.compare_exchange_strong(expected, Work::is_to_rest)) {
    const std::lock_guard guard(engine_.lock);
    engine_.orders.wake();
  }
  wait_while(Work::is_to_rest, deadline);
  return rests();
}

void Deliverance::wait_while(Work::Kind what, Time deadline) const {
  while (work_ == what && now() < deadline) sys::futex_sleep(work_, what, kLook);
}

void Deliverance::done(Work::Kind what) {
  work_ = what;
  sys::futex_wake(work_, INT_MAX);
}

void Deliverance::deliver(const Turn& turn) {
  constexpr auto kTurn = milliseconds(2);
  const auto deadline = now() + engine_.settings.drain;
  std::vector<std::shared_ptr<Flow>> flows;
  {
    const std::scoped_lock all(at_work_, engine_.lock);
    engine_.ended_by = sys::thread_id();
    for (const auto& [id, flow] : engine_.flows()) flows.push_back(flow);
    for (const auto& flow : flows) flow->close(false);
  }
  const auto all_gone = [&] {
    const std::lock_guard guard(engine_.lock);
    (void)attending_.poll();
    return std::all_of(flows.begin(), flows.end(), [](const auto& flow) { return flow->finished(); });
  };
  while (!all_gone() && now() < deadline && turn(kTurn)) {
  }
  engine_.program.ended();
  done(Work::delivered);
}

void Deliverance::end_as_last(const LastThread& last, uint64_t& programs_mask, const Turn& turn) {
  if (last.ended_in_libc()) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, exit_as_last, &programs_mask) == 0) return;
    deliver(turn);
    own::trusted = false;
    exit_as_last(&programs_mask);
  }
  deliver(turn);
  kernel.syscall(SYS_exit, last.status());
}

}  // namespace rsock::engine
