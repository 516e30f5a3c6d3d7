#include "core/sockets/signals.hpp"

#include <pthread.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <climits>
#include <cstdlib>
#include <cstring>

#include "core/base/copy.hpp"
#include "core/base/lock.hpp"
#include "core/engine/engine.hpp"
#include "core/sockets/sockets.hpp"

// Where this library's code begins and ends; from the linker.
extern "C" __attribute__((visibility("hidden"))) const char __ehdr_start, etext;

namespace rsock::sockets {

thread_local constinit Signals signals{};

namespace {

constexpr uint64_t bit(int signal) { return 1ull << (signal - 1); }
// Blocking these would end the process at its next fault, or disturb libc (SIGCANCEL, SIGSETXID).
constexpr uint64_t kNeverBlocked =
    bit(SIGSEGV) | bit(SIGBUS) | bit(SIGFPE) | bit(SIGILL) | bit(SIGTRAP) | bit(SIGSYS) | bit(32) | bit(33);

constinit std::atomic<bool> lacks_epoll_pwait2{false};

// What libc answered, which is -1 and errno.
Result<int> told(int answered) {
  if (answered < 0) return Errno{errno};
  return answered;
}

bool blocked_by_call(int signal) {
  const auto* mask = signals.mask.load(std::memory_order_relaxed);
  return mask && sigismember(mask, signal) == 1;
}

// The kernel's sets have 64 signals, libc's more: beyond the first 64 there is something else in a signal frame.
uint64_t& mask_in(void* context) {
  return *reinterpret_cast<uint64_t*>(&static_cast<ucontext_t*>(context)->uc_sigmask);
}

bool is_ours(uintptr_t code) {
  return code >= reinterpret_cast<uintptr_t>(&__ehdr_start) && code < reinterpret_cast<uintptr_t>(&etext);
}

// Called for each frame before its cleanups run.
_Unwind_Reason_Code stop_at_edge(int, _Unwind_Action actions, _Unwind_Exception_Class, _Unwind_Exception*,
                                 _Unwind_Context* frame, void*) {
  if ((actions & _UA_END_OF_STACK) || !is_ours(_Unwind_GetIP(frame))) signals.jump.make(signals.jump);
  return _URC_NO_REASON;
}

// Whether the frame at `to` called, in the end, what is at `from`. A handler may have a stack of its own, which is the
// newer one.
bool is_older(const void* to, const void* from) {
  stack_t alternative{};
  if (sigaltstack(nullptr, &alternative) == 0 && (alternative.ss_flags & SS_ONSTACK)) {
    const auto on_it = [&](const void* where) {
      const auto offset = reinterpret_cast<uintptr_t>(where) - reinterpret_cast<uintptr_t>(alternative.ss_sp);
      return offset < alternative.ss_size;
    };
    if (on_it(to) != on_it(from)) return on_it(from);
  }
  return reinterpret_cast<uintptr_t>(to) > reinterpret_cast<uintptr_t>(from);
}

void set_mask(uint64_t mask) { kernel.syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, sizeof mask); }

}  // namespace

bool is_fault(int signal, const siginfo_t& siginfo) {
  // Bad memory that the kernel met while nobody used it is no fault of this thread.
  if (signal == SIGBUS && siginfo.si_code == BUS_MCEERR_AO) return false;
  return siginfo.si_code > 0 && (kNeverBlocked & bit(signal));
}

bool put_off(int signal, const siginfo_t& siginfo, void* context) {
  auto& it = signals;
  if (it.held.load(std::memory_order_relaxed) == 0 && !blocked_by_call(signal)) return false;
  // Two cannot wait: a second one can only be a fault's signal that somebody sent, since all others are blocked.
  if (is_fault(signal, siginfo) || it.put_off.load(std::memory_order_relaxed)) return false;
  std::memcpy(&it.siginfo, &siginfo, sizeof siginfo);
  it.mask_before = mask_in(context);
  mask_in(context) |= ~kNeverBlocked;
  it.put_off.store(signal, std::memory_order_relaxed);
  return true;
}

bool put_off_end(int signal, const siginfo_t& siginfo, void* context) {
  if (blocked_by_call(signal)) return put_off(signal, siginfo, context);
  if (Lock::waits_here() || !put_off(signal, siginfo, context)) return false;
  end_in_time(signal);
  return true;
}

Ran handler_runs(bool restarts) {
  auto& it = signals;
  it.ran.store(it.ran.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (!restarts) it.broke.store(it.broke.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (auto* nap = it.nap.load(std::memory_order_relaxed)) nap->cut();
  return {it.ran.load(std::memory_order_relaxed), it.broke.load(std::memory_order_relaxed),
          faults.exchange(Faults::unknown, std::memory_order_relaxed)};
}

void handler_returns(Ran ran, void* context) {
  signals.ran.store(ran.all, std::memory_order_relaxed);
  signals.broke.store(ran.breaking, std::memory_order_relaxed);
  faults.store(ran.faults, std::memory_order_relaxed);
  mask_changes(mask_in(context));  // a handler may change what it goes back to
}

void raise_again(int signal, siginfo_t& siginfo) {
  const auto process = sys::process_id(), thread = sys::thread_id();
  if (kernel.syscall(SYS_rt_tgsigqueueinfo, process, thread, signal, &siginfo) < 0)
    kernel.syscall(SYS_tgkill, process, thread, signal);
}

void raise_on_return(int signal, const siginfo_t& siginfo, void* context) {
  siginfo_t copy = siginfo;
  raise_again(signal, copy);
  mask_in(context) = ~bit(signal);
}

// Queued again with all that was known of it; it comes as soon as the mask is what it was.
void raise_put_off() {
  auto& it = signals;
  const int signal = it.put_off.load(std::memory_order_relaxed);
  if (signal == 0 || blocked_by_call(signal)) return;
  doom.lift();
  const int saved = errno;
  raise_again(signal, it.siginfo);
  it.put_off.store(0, std::memory_order_relaxed);
  errno = saved;
  set_mask(it.mask_before);
}

bool recovers(int signal, const siginfo_t& siginfo, void* context) {
  if (is_fault(signal, siginfo)) return recover(context);
  if (!(opened.load(std::memory_order_relaxed) & bit(signal))) return false;
  // As it was sent: to this thread, or for any that takes it.
  siginfo_t copy = siginfo;
  const int saved = errno;
  if (siginfo.si_code == SI_TKILL || kernel.syscall(SYS_rt_sigqueueinfo, sys::process_id(), signal, &copy) < 0)
    raise_again(signal, copy);
  errno = saved;
  mask_in(context) |= bit(signal);
  return true;
}

jmp_buf* detour(const Jump& jump, const void* to) {
  auto* nap = signals.nap.load(std::memory_order_relaxed);
  if (!nap || !is_older(to, nap)) return nullptr;
  signals.jump = jump;
  return nap->way_out();
}

void forget_put_off() {
  doom.lift();
  if (signals.put_off.exchange(0, std::memory_order_relaxed)) set_mask(signals.mask_before);
}

Nap::Nap(std::span<pollfd> list, const timespec* timeout, const sigset_t* mask)
    : list_(list), mask_(mask), limited_(timeout) {
  if (timeout) limit_ = *timeout;
}

Nap::Nap(int set, epoll_event* events, int capacity, const timespec* timeout, const sigset_t* mask)
    : Nap({}, timeout, mask) {
  set_ = set, events_ = events, capacity_ = capacity;
  set_and_own_[0] = {set, POLLIN, 0}, set_and_own_[1] = {-1, 0, 0};
  constexpr time_t kEver = 1'000'000'000;
  if (!timeout) limit_ = {kEver, 0};
}

Result<int> Nap::sleep(const Handled& since, int cancel_state) {
  // Undone on cancellation, too.
  struct Interrupted {
    Nap* const outer = signals.nap.load(std::memory_order_relaxed);
    const int held = signals.held.load(std::memory_order_relaxed);
    ~Interrupted() {
      signals.held.store(held, std::memory_order_relaxed);
      std::atomic_signal_fence(std::memory_order_seq_cst);
      signals.nap.store(outer, std::memory_order_relaxed);
    }
  } const interrupted;
  const auto answer = in_kernel(since, cancel_state);
  return set_ < 0 && answer.is(EINVAL) ? select_instead(since, cancel_state) : answer;
}

// A handler that runs before the kernel has read the arguments does not end this wait: that is why it lasts for a turn.
Result<int> Nap::select_instead(const Handled& since, int cancel_state) {
  constexpr timespec kTurn{0, 10'000'000};
  cramped_ = true;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (since.any()) return Errno{EINTR};  // and cut() may have spoiled the list
  Selection selection(list_);
  selection_ = &selection;
  if (!limited_ || limit_.tv_sec > 0 || limit_.tv_nsec > kTurn.tv_nsec) limit_ = kTurn;
  const auto answer = in_kernel(since, cancel_state);
  selection_ = nullptr;
  if (answer.is(EBADF)) return 0;  // which one the caller finds
  if (answer)
    for (auto& one : list_)
      if (one.fd >= 0) one.revents = static_cast<short>(*answer > 0 ? selection.revents(one.fd) : 0);
  return answer;
}

Result<int> Nap::wait_in_kernel() {
  if (selection_) {
    pthread_testcancel();
    return selection_->select(limit_, mask_);
  }
  return set_ < 0 ? told(kernel.ppoll(list_.data(), list_.size(), limited_ ? &limit_ : nullptr, mask_))
                  : wait_for_set();
}

// Without epoll_pwait2 (glibc before 2.35, Linux before 5.11, a sandbox that does not know it) poll waits until the set
// has something: epoll_pwait's time is no memory that a handler could change.
Result<int> Nap::wait_for_set() {
  if (kernel.epoll_pwait2 && !lacks_epoll_pwait2.load(std::memory_order_relaxed)) {
    const auto answer = told(kernel.epoll_pwait2(set_, events_, capacity_, &limit_, mask_));
    if (!answer.is(ENOSYS) && !answer.is(EPERM)) return answer;
    lacks_epoll_pwait2.store(true, std::memory_order_relaxed);
  }
  // Where there is no time, poll lets signals in, and epoll does not.
  if (limit_.tv_sec == 0 && limit_.tv_nsec == 0) return sys::epoll_poll(set_, events_, capacity_);
  const auto some = told(kernel.ppoll(set_and_own_, std::size(set_and_own_), &limit_, mask_));
  return some && *some > 0 ? sys::epoll_poll(set_, events_, capacity_) : some;
}

void Nap::cut() {
  if (covered_ && !std::exchange(left_, true)) {
    --covered_->asleep;
    covered_->orders.call();
  }
  if (cramped_) return;
  // A descriptor that is none makes poll return; epoll has no time at all.
  if (set_ < 0)
    list_.back().fd = INT_MAX;
  else
    limit_ = {}, set_and_own_[1].fd = INT_MAX;
}

// Without anything to clean up, so that an asynchronous cancellation may unwind it from any instruction.
[[gnu::noinline]] Result<int> Nap::in_kernel(const Handled& since, int cancel_state) {
  if (_setjmp(way_out_)) {
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
    _Unwind_ForcedUnwind(&signals.unwinding, stop_at_edge, nullptr);
    std::abort();
  }
  signals.nap.store(this, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  signals.held.store(0, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  raise_put_off();
  // From here on a handler finds this nap, and cuts it.
  if (since.any()) return Errno{EINTR};
  pthread_setcancelstate(cancel_state, nullptr);
  const auto answered = wait_in_kernel();
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
  if (!answered) return answered;
  const bool cut = selection_ ? false : set_ < 0 ? (list_.back().revents & POLLNVAL) != 0 : *answered == 0;
  if (cut && since.any()) return Errno{EINTR};
  return answered;
}

}  // namespace rsock::sockets
