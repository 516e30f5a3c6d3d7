#pragma once
// How the work of the service's thread ends. Either the process is about to end, and it delivers what flows
// hold; or the library has to have no thread (before a filter of system calls), and it comes to rest.
//
//   goes on ─▶ is to deliver ─▶ delivered
//        └───▶ is to rest ────▶ rests       for good: no flow is in a lane, and none will be
//
// Whoever asks for that waits, for a bounded time: drain_ms and a little more, or ten seconds. In a handler of a
// signal neither locks nor memory are taken, which the interrupted code may have. A child of fork has a
// service of its own, whose work goes on.

#include <atomic>
#include <functional>

#include "core/base/lock.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/service/attending.hpp"
#include "core/engine/service/last_thread.hpp"

namespace rsock::engine {

class Deliverance {
 public:
  // A turn of the thread, after so long at most; false if there can be no more.
  using Turn = std::function<bool(Duration wait)>;
  // `at_work`: the service's.
  Deliverance(Engine& engine, Lock& at_work, Attending& attending)
      : engine_(engine), at_work_(at_work), attending_(attending) {}

  // ---- any thread, also in a handler of a signal
  // Before a signal ends the process: all flows are closed, and what they hold is delivered. Returns when
  // that is done, or cannot be.
  void deliver_all();
  // This thread waits for a lock, or is waited for, and the signal is put off: whoever waits for the lock
  // ends the process in time.
  void end_in_time(int signal);

  // ---- any thread, without the lock
  // False if the thread did not come to rest in time.
  bool retire();
  bool rests() const { return work_ == Work::rests; }

  // ---- the service's thread, without a lock
  bool goes_on() const { return work_ == Work::goes_on; }
  bool is_to_deliver() const { return work_ == Work::is_to_deliver; }
  bool is_to_rest() const { return work_ == Work::is_to_rest; }
  // All flows are closed, and what they hold goes out, in drain_ms at most.
  void deliver(const Turn& turn);
  // It has nothing any more.
  void rest() { done(Work::rests); }
  // No other thread is left: the process ends as it would have, had this thread not been there. If that is by
  // exit(), whose handlers run in a thread with this signal mask, it returns: this one goes on to look after
  // the flows meanwhile.
  void end_as_last(const LastThread& last, uint64_t& programs_mask, const Turn& turn);

 private:
  struct Work {
    enum Kind : uint32_t { goes_on, is_to_rest, rests, is_to_deliver, delivered };
  };
  void done(Work::Kind what);
  void wait_while(Work::Kind what, Time deadline) const;
  Time end_of_delivery() const;

  Engine& engine_;
  Lock& at_work_;
  Attending& attending_;
  std::atomic<uint32_t> work_{Work::goes_on};
};

}  // namespace rsock::engine
