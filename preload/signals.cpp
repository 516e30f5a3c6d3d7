// The program's handlers of signals are kept here, and the kernel gets a stand-in, which asks core/sockets/signals.hpp
// whether the handler may run now and tells the interrupted call. Where the program wants the default and that is the
// end of the process, another stand-in delivers what flows in lanes hold, and then lets the process end by the same
// signal. The program sees its own actions. Without a rule that selects anything, and for all other signals, everything
// goes to libc as it is; a child of vfork, whose actions are its own but whose memory is not, gets what it asks for.

#include "preload/signals.hpp"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>

#include "core/sockets/signals.hpp"
#include "preload/program_memory.hpp"
#include "preload/shell.hpp"

namespace real = rsock::real;
namespace sockets = rsock::preload::sockets;
using namespace rsock::preload;

namespace {

using Handler = void (*)(int, siginfo_t*, void*);

// What the kernel does not know: the mask and the other flags are its own. A handler stays when its action goes: it may
// be about to run in another thread.
struct Kept {
  std::atomic<Handler> handler{nullptr};
  std::atomic<int> flags{0};
  std::atomic<bool> spent{false};  // SA_RESETHAND
};
constinit Kept kept[NSIG];
// What the kernel would say of an action that is the default.
struct KeptDefault {
  std::atomic<int> flags{0};
  std::atomic<uint64_t> mask{0};
  std::atomic<bool> ignored{false};  // it is SIG_IGN
};
constinit KeptDefault defaults[NSIG];
constinit std::atomic<bool> interrupts[NSIG];  // siginterrupt(3)
constexpr int kOwnFlags = SA_SIGINFO | static_cast<int>(SA_RESETHAND);

// Of those who change actions, one at a time. No handler runs in it, and it is free in a child.
constinit std::atomic_flag changing;
class Changing {
 public:
  Changing() {
    while (changing.test_and_set(std::memory_order_acquire)) sched_yield();
  }
  ~Changing() { changing.clear(std::memory_order_release); }
  Changing(const Changing&) = delete;
  Changing& operator=(const Changing&) = delete;

 private:
  const sockets::Held held_;
};

bool is_function(const struct sigaction& action) {
  return action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
}

bool ends_process(int signal) {
  switch (signal) {
    case SIGKILL:
    case SIGSTOP:  // nobody asks
    case SIGTSTP:
    case SIGTTIN:
    case SIGTTOU:
    case SIGCONT:
    case SIGCHLD:
    case SIGURG:
    case SIGWINCH:
    case 32:
    case 33:  // libc's own
      return false;
    default: return true;
  }
}

// The first process of a namespace is spared by the kernel where it has the default, and where it has a handler it is
// not.
bool is_spared() { return rsock::sys::process_id() == 1; }

// Their faults may be ours to recover from, whatever the program wants of the signal.
bool is_of_memory(int signal) { return signal == SIGSEGV || signal == SIGBUS; }

// What the kernel calls where the program wants the default. Nothing else runs in this thread any more. A fault comes
// where it came, so that a debugger finds all as it was.
void end_process(int signal, siginfo_t* siginfo, void* context) {
  if (sockets::recovers(signal, *siginfo, context)) return;
  const bool ignored = is_spared() || defaults[signal].ignored.load(std::memory_order_relaxed);
  if (ignored && !sockets::is_fault(signal, *siginfo)) return;
  if (sockets::put_off_end(signal, *siginfo, context)) return;
  sockets::finish_in_handler();
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  real::sigaction(signal, &action, nullptr);
  sockets::raise_on_return(signal, *siginfo, context);
}

uint64_t& first_signals(sigset_t& set) { return *reinterpret_cast<uint64_t*>(&set); }
uint64_t first_signals(const sigset_t& set) { return *reinterpret_cast<const uint64_t*>(&set); }

// From the program's action, a default, to the kernel's.
struct sigaction to_kernel_as_default(int signal, struct sigaction action) {
  defaults[signal].flags.store(action.sa_flags, std::memory_order_relaxed);
  defaults[signal].mask.store(first_signals(action.sa_mask), std::memory_order_relaxed);
  defaults[signal].ignored.store(action.sa_handler == SIG_IGN, std::memory_order_relaxed);
  action.sa_sigaction = end_process;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigfillset(&action.sa_mask);
  return action;
}

bool wants_stand_in(int signal, const struct sigaction& action) {
  if (is_of_memory(signal)) return !is_function(action);
  return action.sa_handler == SIG_DFL && ends_process(signal) && !is_spared();
}

// SA_RESETHAND: this delivery uses the action up. False if another one has.
bool use_up(int signal) {
  const int saved = errno;
  const bool first = !kept[signal].spent.exchange(true, std::memory_order_relaxed);
  struct sigaction action;
  if (first && real::sigaction(signal, nullptr, &action) == 0) {
    action.sa_handler = SIG_DFL;
    const int flags = kept[signal].flags.load(std::memory_order_relaxed);
    action.sa_flags = (action.sa_flags & ~kOwnFlags) | (flags & kOwnFlags);
    if (wants_stand_in(signal, action)) action = to_kernel_as_default(signal, action);
    real::sigaction(signal, &action, nullptr);
  }
  if (!first) rsock::system_call(SYS_tgkill, rsock::sys::process_id(), rsock::sys::thread_id(), signal);
  errno = saved;
  return first;
}

// What the kernel calls. No cleanups: a handler may end the thread, or jump.
void stand_in(int signal, siginfo_t* siginfo, void* context) {
  if (sockets::recovers(signal, *siginfo, context)) return;
  if (sockets::put_off(signal, *siginfo, context)) return;
  const int flags = kept[signal].flags.load(std::memory_order_relaxed);
  if ((flags & static_cast<int>(SA_RESETHAND)) && !use_up(signal)) return;
  const auto ran = sockets::handler_runs(flags & SA_RESTART);
  const auto* mask =
      sockets::signals.mask.exchange(nullptr, std::memory_order_relaxed);  // of the call that is interrupted
  kept[signal].handler.load(std::memory_order_relaxed)(signal, siginfo, context);
  sockets::signals.mask.store(mask, std::memory_order_relaxed);
  sockets::handler_returns(ran, context);
}

// From the program's action to the kernel's.
struct sigaction to_kernel(int signal, const struct sigaction& action) {
  struct sigaction changed = action;
  kept[signal].flags.store(action.sa_flags, std::memory_order_relaxed);
  kept[signal].handler.store(action.sa_sigaction, std::memory_order_relaxed);
  kept[signal].spent.store(false, std::memory_order_relaxed);
  changed.sa_sigaction = stand_in;
  changed.sa_flags = (action.sa_flags & ~static_cast<int>(SA_RESETHAND)) | SA_SIGINFO;
  return changed;
}

// And back. `handler`, `flags`: what was kept.
void to_program(int signal, struct sigaction& action, Handler handler, int flags) {
  if (action.sa_sigaction == end_process) {
    action.sa_handler = defaults[signal].ignored.load(std::memory_order_relaxed) ? SIG_IGN : SIG_DFL;
    action.sa_flags = defaults[signal].flags.load(std::memory_order_relaxed);
    first_signals(action.sa_mask) = defaults[signal].mask.load(std::memory_order_relaxed);
    return;
  }
  if (action.sa_sigaction == stand_in)
    action.sa_sigaction = handler;
  else if (action.sa_handler != SIG_DFL)
    return;  // nor one that was used up
  if (is_function(action) || (flags & static_cast<int>(SA_RESETHAND)))
    action.sa_flags = (action.sa_flags & ~kOwnFlags) | (flags & kOwnFlags);
}

int change(int signal, const struct sigaction* action, struct sigaction* before) {
  if (signal <= 0 || signal >= NSIG || sockets::idle()) return real::sigaction(signal, action, before);
  struct sigaction wanted {
  }, was{};
  if (action) wanted = *action;  // bad pointers fault here as they do in libc
  int result = 0;
  if (sockets::in_borrowed_memory()) {
    result = real::sigaction(signal, action ? &wanted : nullptr, &was);
    to_program(signal, was, kept[signal].handler, kept[signal].flags);
  } else {
    const Changing now;
    const auto handler = kept[signal].handler.load(std::memory_order_relaxed);
    const int flags = kept[signal].flags.load(std::memory_order_relaxed);
    if (action && is_function(wanted)) wanted = to_kernel(signal, wanted);
    result = real::sigaction(signal, action ? &wanted : nullptr, &was);
    to_program(signal, was, handler, flags);
    if (result == 0 && action && wants_stand_in(signal, *action)) {
      real::sigaction(signal, nullptr, &wanted);  // as the kernel tells it
      wanted = to_kernel_as_default(signal, wanted);
      real::sigaction(signal, &wanted, nullptr);
    }
  }
  if (result == 0 && before) *before = was;
  return result;
}

// signal(2) and its kin: the handler that was.
sighandler_t change(int signal, sighandler_t handler, int flags, bool blocks_itself) {
  struct sigaction action {
  }, before{};
  if (handler == SIG_ERR || signal <= 0 || signal >= NSIG) {
    errno = EINVAL;
    return SIG_ERR;
  }
  action.sa_handler = handler;
  action.sa_flags = flags;
  if (blocks_itself) sigaddset(&action.sa_mask, signal);
  return change(signal, &action, &before) == 0 ? before.sa_handler : SIG_ERR;
}

constinit std::atomic<int> starting{0};  // threads that start programs

// What the program ignores is ignored by the kernel, or by the stand-in again.
void ignore_by_kernel(bool by_kernel) {
  for (const int signal : {SIGSEGV, SIGBUS}) {
    struct sigaction action;
    if (!defaults[signal].ignored.load(std::memory_order_relaxed) || real::sigaction(signal, nullptr, &action) != 0)
      continue;
    if (by_kernel ? action.sa_sigaction != end_process : action.sa_handler != SIG_IGN) continue;
    if (by_kernel)
      to_program(signal, action, nullptr, 0);
    else
      action = to_kernel_as_default(signal, action);
    real::sigaction(signal, &action, nullptr);
  }
}

void may_change_mask(int how, const sigset_t* set) {
  if (set) rsock::mask_changes(how == SIG_UNBLOCK ? 0 : first_signals(*set));
}

}  // namespace

namespace rsock::preload {

void stand_in_for_handlers() {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action;
    const Changing now;
    if (real::sigaction(signal, nullptr, &action) != 0) continue;
    if (is_function(action))
      action = to_kernel(signal, action);
    else if (wants_stand_in(signal, action))
      action = to_kernel_as_default(signal, action);
    else
      continue;
    real::sigaction(signal, &action, nullptr);
  }
}

// A child of vfork has actions of its own, and leaves the lock and the count alone.
Starting::Starting() {
  if (sockets::idle()) return;
  rsock::mask_changes(rsock::kFaults);  // what a child of vfork knows of its mask is not so for its parent
  if (sockets::in_borrowed_memory()) {
    ignore_by_kernel(true);
  } else {
    const Changing now;
    if (starting.fetch_add(1, std::memory_order_relaxed) == 0) ignore_by_kernel(true);
  }
}

Starting::~Starting() {
  if (sockets::idle()) return;
  const int saved = errno;
  if (sockets::in_borrowed_memory()) {
    ignore_by_kernel(false);
  } else {
    const Changing now;
    if (starting.fetch_sub(1, std::memory_order_relaxed) == 1) ignore_by_kernel(false);
  }
  errno = saved;
}

void forget_other_threads_handlers() {
  changing.clear(std::memory_order_relaxed);
  if (starting.exchange(0, std::memory_order_relaxed) > 0) ignore_by_kernel(false);
}

}  // namespace rsock::preload

RSOCK_EXPORT int sigaction(int signal, const struct sigaction* action, struct sigaction* before) noexcept {
  return change(signal, action, before);
}
RSOCK_EXPORT_ALIAS(__sigaction, sigaction);

RSOCK_EXPORT sighandler_t signal(int signal, sighandler_t handler) noexcept {
  if (sockets::idle()) return real::signal(signal, handler);
  const bool interrupting = signal > 0 && signal < NSIG && interrupts[signal].load(std::memory_order_relaxed);
  return change(signal, handler, interrupting ? 0 : SA_RESTART, true);
}
RSOCK_EXPORT_ALIAS(bsd_signal, signal);
RSOCK_EXPORT_ALIAS(ssignal, signal);

RSOCK_EXPORT sighandler_t sysv_signal(int signal, sighandler_t handler) noexcept {
  if (sockets::idle()) return real::sysv_signal(signal, handler);
  return change(signal, handler, static_cast<int>(SA_RESETHAND) | SA_NODEFER | SA_INTERRUPT, false);
}
RSOCK_EXPORT_ALIAS(__sysv_signal, sysv_signal);

RSOCK_EXPORT sighandler_t sigset(int signal, sighandler_t handler) noexcept {
  // SIG_HOLD only blocks.
  if (handler == SIG_HOLD) rsock::mask_changes(rsock::kFaults);
  if (sockets::idle() || handler == SIG_HOLD) {
    const auto was = real::sigset(signal, handler);
    struct sigaction now {};
    if (handler != SIG_HOLD || was == SIG_HOLD || was == SIG_ERR || change(signal, nullptr, &now) != 0) return was;
    return now.sa_handler;
  }
  sigset_t one, before;
  sigemptyset(&one);
  if (sigaddset(&one, signal) < 0) return SIG_ERR;
  const auto was = change(signal, handler, 0, false);
  if (was == SIG_ERR || pthread_sigmask(SIG_UNBLOCK, &one, &before) != 0) return SIG_ERR;
  return sigismember(&before, signal) == 1 ? SIG_HOLD : was;
}

// libc changes the flag of the action that is there, and keeps what it is told for signal(2).
RSOCK_EXPORT int siginterrupt(int signal, int on) noexcept {
  const int result = real::siginterrupt(signal, on);
  if (result == 0 && !sockets::idle() && !sockets::in_borrowed_memory()) {
    interrupts[signal].store(on != 0, std::memory_order_relaxed);
    for (auto* flags : {&kept[signal].flags, &defaults[signal].flags})
      on ? flags->fetch_and(~SA_RESTART) : flags->fetch_or(SA_RESTART);
  }
  return result;
}

// ---- A thread's mask is its own business. Only that it may block faults now is noted: see
// core/base/copy.hpp.

RSOCK_EXPORT int sigprocmask(int how, const sigset_t* set, sigset_t* before) noexcept {
  may_change_mask(how, set);
  return real::sigprocmask(how, set, before);
}

RSOCK_EXPORT int pthread_sigmask(int how, const sigset_t* set, sigset_t* before) noexcept {
  may_change_mask(how, set);
  return real::pthread_sigmask(how, set, before);
}

RSOCK_EXPORT int sigblock(int mask) noexcept {
  rsock::mask_changes(static_cast<unsigned>(mask));
  return real::sigblock(mask);
}

RSOCK_EXPORT int sigsetmask(int mask) noexcept {
  rsock::mask_changes(static_cast<unsigned>(mask));
  return real::sigsetmask(mask);
}

RSOCK_EXPORT int sighold(int signal) noexcept {
  rsock::mask_changes(rsock::kFaults);
  return real::sighold(signal);
}

// It returns when another context comes back to this one, with this one's mask.
RSOCK_EXPORT int swapcontext(ucontext_t* here, const ucontext_t* there) noexcept {
  rsock::mask_changes(rsock::kFaults);
  const int result = real::swapcontext(here, there);
  rsock::mask_changes(rsock::kFaults);
  return result;
}
