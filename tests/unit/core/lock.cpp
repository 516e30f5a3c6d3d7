#include "core/base/lock.hpp"

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <mutex>
#include <thread>

using namespace rsock;

namespace {

std::atomic<bool> waited{false}, waited_when_held{false};

}  // namespace

TEST_CASE("A lock is held by one thread at a time", "[lock]") {
  Lock lock;
  int count = 0;
  const auto work = [&] {
    for (int i = 0; i < 20000; ++i) {
      const std::lock_guard guard(lock);
      ++count;
    }
  };
  std::thread others[3];
  for (auto& other : others) other = std::thread(work);
  work();
  for (auto& other : others) other.join();
  CHECK(count == 80000);
  REQUIRE(lock.try_lock());
  std::thread([&] { CHECK_FALSE(lock.try_lock()); }).join();
  lock.unlock();
}

// Woken, the waiter does not get the processor before the lock is taken again.
TEST_CASE("Whoever waits gets the lock from a thread that takes it again at once", "[lock]") {
  constexpr int kTurns = 50;
  cpu_set_t before, one;
  REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  Lock lock;
  std::atomic<int> turns{0};
  std::thread waiter([&] {
    const sched_param none{};
    (void)sched_setscheduler(0, SCHED_BATCH, &none);
    (void)setpriority(PRIO_PROCESS, 0, 19);  // of this thread
    for (; turns < kTurns; ++turns) {
      const std::lock_guard guard(lock);
    }
  });
  const auto begun = now();
  while (turns < kTurns && now() - begun < milliseconds(20000)) {
    const std::lock_guard guard(lock);
    for (const auto end = now() + microseconds(300); now() < end;) {
    }
  }
  CHECK(now() - begun < milliseconds(5000));
  CHECK(sched_setaffinity(0, sizeof before, &before) == 0);
  turns = kTurns;
  waiter.join();
}

TEST_CASE("A handler knows whether its thread waits for a lock", "[lock]") {
  Lock lock;
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) { (Lock::waits_here() ? waited : waited_when_held) = true; };
  REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
  lock.lock();
  std::thread waiter([&] {
    lock.lock();
    pthread_kill(pthread_self(), SIGUSR1);  // it has it
    lock.unlock();
  });
  // It may not wait yet when the signal comes.
  while (!waited) pthread_kill(waiter.native_handle(), SIGUSR1), usleep(1000);
  waited_when_held = false;
  CHECK_FALSE(Lock::waits_here());
  lock.unlock();
  waiter.join();
  CHECK(waited_when_held);
  sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("Whoever waits for a lock that is not let go of ends a process that is to end", "[lock]") {
  const auto child = fork();
  if (child == 0) {
    Lock::forked();
    alarm(20);
    signal(SIGTERM, SIG_IGN);
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    static Lock lock;
    lock.lock();
    std::thread waiter([] { lock.lock(); });
    usleep(100000);
    doom.set(SIGTERM, now() + milliseconds(100));
    waiter.join();
    _exit(0);
  }
  const auto begun = now();
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM));
  CHECK(now() - begun < milliseconds(10000));
}

TEST_CASE("A process that is not to end any more does not", "[lock]") {
  doom.set(SIGTERM, now() - milliseconds(1));
  doom.lift();
  doom.look();
}
