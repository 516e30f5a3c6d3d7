// Actions of signals: a program gets back what it installed, and its handlers run as it asked for.

#include <sys/syscall.h>
#include <ucontext.h>

#include <algorithm>

#include "../signals.hpp"

using namespace conformance;

namespace {

siginfo_t last_siginfo;
sigset_t mask_within;
int depth = 0, deepest = 0;

void keep_siginfo(int, siginfo_t* siginfo, void* context) {
  last_siginfo = *siginfo;
  if (context) ++handled;
}
void keep_mask(int) { pthread_sigmask(SIG_SETMASK, nullptr, &mask_within); }
void raise_within(int signal) {
  deepest = std::max(deepest, ++depth);
  if (depth < 3) raise(signal);
  --depth;
}

// Installed before main, and before the library's own constructor may have run.
[[gnu::constructor(101)]] void install_early() {
  struct sigaction action {};
  action.sa_handler = count_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGURG, &action, nullptr);
}

// A flow is there, in its lane where there is one.
struct InLane {
  Pair pair = connected();
};

}  // namespace

TEST_CASE("sigaction: gives back the handler, the flags and the mask", "[sigaction]") {
  const InLane here;
  struct sigaction action {
  }, before{};
  action.sa_sigaction = keep_siginfo;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaddset(&action.sa_mask, SIGUSR2);
  REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
  CHECK(before.sa_handler == SIG_DFL);
  REQUIRE(sigaction(SIGUSR1, nullptr, &before) == 0);
  CHECK(before.sa_sigaction == keep_siginfo);
  CHECK((before.sa_flags & 0xfbffffff) == (SA_SIGINFO | SA_NODEFER));  // but for SA_RESTORER
  CHECK(sigismember(&before.sa_mask, SIGUSR2) == 1);
  CHECK(sigismember(&before.sa_mask, SIGUSR1) == 0);

  action = {};
  action.sa_handler = count_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
  CHECK(before.sa_sigaction == keep_siginfo);
  REQUIRE(sigaction(SIGUSR1, nullptr, &before) == 0);
  CHECK(before.sa_handler == count_signal);
  CHECK((before.sa_flags & 0xfbffffff) == SA_RESETHAND);

  action.sa_handler = SIG_IGN;
  action.sa_flags = 0;
  REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
  CHECK(before.sa_handler == count_signal);
  action.sa_handler = SIG_DFL;
  REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
  CHECK(before.sa_handler == SIG_IGN);
}

TEST_CASE("sigaction: errors", "[sigaction]") {
  const InLane here;
  struct sigaction action {};
  action.sa_handler = count_signal;
  CHECK_FAILS(sigaction(SIGKILL, &action, nullptr), EINVAL);
  CHECK_FAILS(sigaction(SIGSTOP, &action, nullptr), EINVAL);
  CHECK_FAILS(sigaction(0, &action, nullptr), EINVAL);
  CHECK_FAILS(sigaction(NSIG, &action, nullptr), EINVAL);
  CHECK_FAILS(sigaction(32, &action, nullptr), EINVAL);  // libc's own
  CHECK(signal(SIGKILL, count_signal) == SIG_ERR);
  CHECK(signal(0, count_signal) == SIG_ERR);
}

TEST_CASE("sigaction: a handler from before main", "[sigaction]") {
  const InLane here;
  struct sigaction now {};
  REQUIRE(sigaction(SIGURG, nullptr, &now) == 0);
  CHECK(now.sa_handler == count_signal);
  handled = 0;
  raise(SIGURG);
  CHECK(handled == 1);
}

TEST_CASE("sigaction: SA_SIGINFO tells who sent it, and with what value", "[sigaction]") {
  const InLane here;
  struct sigaction action {};
  action.sa_sigaction = keep_siginfo;
  action.sa_flags = SA_SIGINFO;
  REQUIRE(sigaction(SIGRTMIN, &action, nullptr) == 0);
  handled = 0;
  sigval value{};
  value.sival_int = 4711;
  REQUIRE(sigqueue(getpid(), SIGRTMIN, value) == 0);
  CHECK(eventually([] { return handled == 1; }));
  CHECK(last_siginfo.si_signo == SIGRTMIN);
  CHECK(last_siginfo.si_code == SI_QUEUE);
  CHECK(last_siginfo.si_value.sival_int == 4711);
  CHECK(last_siginfo.si_pid == getpid());
}

TEST_CASE("sigaction: the handler's mask blocks, and goes with it", "[sigaction]") {
  const InLane here;
  struct sigaction action {};
  action.sa_handler = keep_mask;
  sigaddset(&action.sa_mask, SIGUSR2);
  REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
  raise(SIGUSR1);
  CHECK(sigismember(&mask_within, SIGUSR1) == 1);
  CHECK(sigismember(&mask_within, SIGUSR2) == 1);
  CHECK(sigismember(&mask_within, SIGALRM) == 0);
  CHECK(!is_blocked(SIGUSR1));
  CHECK(!is_blocked(SIGUSR2));
}

TEST_CASE("sigaction: SA_NODEFER lets a handler interrupt itself", "[sigaction]") {
  const InLane here;
  const Action action(SIGUSR1, raise_within, SA_NODEFER);
  raise(SIGUSR1);
  CHECK(deepest == 3);
}

TEST_CASE("sigaction: SA_RESETHAND runs the handler once", "[sigaction][sysv_signal]") {
  const InLane here;
  for (const bool by_sysv : {false, true}) {
    if (by_sysv)
      REQUIRE(sysv_signal(SIGCHLD, count_signal) != SIG_ERR);
    else
      new Action(SIGCHLD, count_signal, static_cast<int>(SA_RESETHAND));  // stays: the process ends with the case
    struct sigaction now {};
    REQUIRE(sigaction(SIGCHLD, nullptr, &now) == 0);
    CHECK((now.sa_flags & static_cast<int>(SA_RESETHAND)) != 0);
    handled = 0;
    raise(SIGCHLD);
    raise(SIGCHLD);
    CHECK(handled == 1);
    REQUIRE(sigaction(SIGCHLD, nullptr, &now) == 0);
    CHECK(now.sa_handler == SIG_DFL);
  }
}

TEST_CASE("signal: the handler that was; it stays installed, and restarts", "[signal]") {
  const InLane here;
  CHECK(signal(SIGUSR1, count_signal) == SIG_DFL);
  CHECK(signal(SIGUSR1, count_signal) == count_signal);
  struct sigaction now {};
  REQUIRE(sigaction(SIGUSR1, nullptr, &now) == 0);
  CHECK((now.sa_flags & SA_RESTART) != 0);
  CHECK(sigismember(&now.sa_mask, SIGUSR1) == 1);
  handled = 0;
  raise(SIGUSR1);
  raise(SIGUSR1);
  CHECK(handled == 2);
  CHECK(signal(SIGUSR1, SIG_IGN) == count_signal);
  raise(SIGUSR1);
  CHECK(handled == 2);
  CHECK(signal(SIGUSR1, SIG_DFL) == SIG_IGN);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
TEST_CASE("sigset: installs, lets in, holds", "[sigset]") {
  const InLane here;
  CHECK(sigset(SIGUSR1, count_signal) == SIG_DFL);
  handled = 0;
  raise(SIGUSR1);
  CHECK(handled == 1);
  CHECK(sigset(SIGUSR1, SIG_HOLD) == count_signal);
  CHECK(is_blocked(SIGUSR1));
  raise(SIGUSR1);
  CHECK(handled == 1);
  CHECK(sigset(SIGUSR1, count_signal) == SIG_HOLD);
  CHECK(handled == 2);
  CHECK(!is_blocked(SIGUSR1));
  CHECK(sigignore(SIGUSR1) == 0);
  CHECK(sigset(SIGUSR1, count_signal) == SIG_IGN);
}
#pragma GCC diagnostic pop

TEST_CASE("sigaction: a handler may change its own action, and others'", "[sigaction]") {
  const InLane here;
  const Action action(SIGUSR1, [](int) {
    signal(SIGUSR1, count_signal);
    signal(SIGUSR2, count_signal);
  });
  handled = 0;
  raise(SIGUSR1);
  CHECK(handled == 0);
  raise(SIGUSR1);
  raise(SIGUSR2);
  CHECK(handled == 2);
}

TEST_CASE("sigaction: real-time signals all come, each with its value, into a thread that streams",
          "[sigaction][send][recv]") {
  static std::vector<int> values;
  values.clear();
  values.reserve(1000);
  struct sigaction action {};
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  action.sa_sigaction = [](int, siginfo_t* siginfo, void*) { values.push_back(siginfo->si_value.sival_int); };
  REQUIRE(sigaction(SIGRTMIN, &action, nullptr) == 0);
  const auto pair = connected();
  std::atomic<bool> stop{false};
  std::atomic<long> rounds{0};
  Caller caller([&] {
    char byte = 'x';
    for (; !stop; ++rounds)
      if (send(pair.client, &byte, 1, 0) != 1 || recv(pair.server, &byte, 1, 0) != 1) return -1;
    return 0;
  });
  CHECK(eventually([&] { return rounds > 0; }));
  for (int i = 0; i < 500; ++i) {
    sigval value{};
    value.sival_int = i;
    while (pthread_sigqueue(caller.thread(), SIGRTMIN, value) == EAGAIN) std::this_thread::yield();
    if (i % 50 == 0) std::this_thread::sleep_for(1ms);
  }
  const auto* all = &values;
  CHECK(eventually([&] { return all->size() == 500; }));
  const long seen = rounds;
  CHECK(eventually([&] { return rounds > seen; }));  // it streams on
  stop = true;
  CHECK(caller.join().value == 0);
  REQUIRE(values.size() == 500);
  // In order on the kernel. In a call on a flow, one that was put off may come after its successors: a difference that
  // stays.
  if (anything_selected()) std::sort(values.begin(), values.end());
  for (int i = 0; i < 500; ++i) REQUIRE(values[static_cast<size_t>(i)] == i);
}

TEST_CASE("sigaction: by number, and the handler interrupts recv", "[sigaction][syscall][recv]") {
  struct KernelAction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)();
    uint64_t mask;
  };
  const auto pair = connected();
  handled = 0;
  const Action another(SIGUSR2, count_signal);  // the return from its handler serves here, too
  KernelAction action{}, before{};
  REQUIRE(syscall(SYS_rt_sigaction, SIGUSR2, nullptr, &action, sizeof action.mask) == 0);
  CHECK(action.handler == count_signal);
  action.flags |= SA_NODEFER, action.mask = 1 << (SIGHUP - 1);
  REQUIRE(syscall(SYS_rt_sigaction, SIGUSR1, &action, &before, sizeof action.mask) == 0);
  CHECK(before.handler == SIG_DFL);
  struct sigaction by_name {};
  REQUIRE(sigaction(SIGUSR1, nullptr, &by_name) == 0);
  CHECK(by_name.sa_handler == count_signal);
  CHECK((by_name.sa_flags & SA_NODEFER) != 0);
  CHECK(sigismember(&by_name.sa_mask, SIGHUP) == 1);
  Caller caller([&] {
    char byte;
    return recv(pair.client, &byte, 1, 0);
  });
  caller.signal_until(SIGUSR1);
  const auto outcome = caller.join();
  CHECK(outcome.value == -1);
  CHECK(outcome.error == EINTR);
  CHECK(handled > 0);
  CHECK_FAILS(syscall(SYS_rt_sigaction, SIGUSR1, &action, nullptr, 4), EINVAL);
  CHECK_FAILS(syscall(SYS_rt_sigaction, SIGUSR1, bad_pointer(), nullptr, 8), EFAULT);
}
