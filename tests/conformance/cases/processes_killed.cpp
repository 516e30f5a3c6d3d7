// A process that a signal ends: what it wrote arrives, and then the end of the stream, as if it had called exit; and
// who asks sees that it was the signal.

#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>

#include <exception>

#include "../child.hpp"

using namespace conformance;

extern "C" [[noreturn]] void __assert_fail(const char* what, const char* file, unsigned line,
                                           const char* function) noexcept;

namespace {

void no_core() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
}

// What a process writes before `end`, which ends it by `signal`.
template <class End>
void arrives_before(int signal, End end) {
  const auto bytes = pattern(20000);
  auto peer = peer_that([&](int fd) {
    no_core();
    if (!put(fd, bytes)) return 1;
    end(fd);
    return 2;
  });
  CHECK(receive(peer.fd, bytes.size()) == bytes);
  CHECK(receive(peer.fd, 1).empty());
  CHECK(status_of(peer.child) == kLost + signal);
}

// The same of one that waits, in `wait`, when somebody else sends the signal.
template <class Wait>
void arrives_when_killed(int signal, Wait wait) {
  const auto bytes = pattern(20000);
  const Signal waits;
  auto peer = peer_that([&](int fd) {
    if (!put(fd, bytes)) return 1;
    waits.give();
    wait(fd);
    return 2;
  });
  REQUIRE(waits.wait());
  std::this_thread::sleep_for(20ms);  // most likely it waits by then; it must not matter
  kill(peer.child, signal);
  CHECK(receive(peer.fd, bytes.size()) == bytes);
  CHECK(receive(peer.fd, 1).empty());
  CHECK(status_of(peer.child) == kLost + signal);
}

}  // namespace

TEST_CASE("abort: what was written arrives, then the end", "[signal]") {
  arrives_before(SIGABRT, [](int) { abort(); });
}
TEST_CASE("abort: by a failed assertion, after what was written", "[signal]") {
  arrives_before(SIGABRT, [](int) {
    close(2);
    __assert_fail("a case", "", 1, "");
  });
}
TEST_CASE("abort: by std::terminate, after what was written", "[signal]") {
  arrives_before(SIGABRT, [](int) {
    close(2);
    std::terminate();
  });
}

TEST_CASE("raise: a signal whose default is the end, after what was written", "[signal]") {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM, SIGRTMIN + 1})
    arrives_before(signal, [=](int) { raise(signal); });
}
TEST_CASE("raise: by a thread other than main", "[signal]") {
  arrives_before(SIGTERM, [](int) { std::thread([] { raise(SIGTERM); }).join(); });
}
TEST_CASE("raise: after a handler that gave the default back", "[signal][sigaction]") {
  arrives_before(SIGTERM, [](int) {
    signal(SIGTERM, [](int number) {
      signal(number, SIG_DFL);
      raise(number);
    });
    raise(SIGTERM);
    pause();
  });
}
TEST_CASE("raise: after a handler that was used up", "[signal][sigaction]") {
  arrives_before(SIGTERM, [](int) {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    sigaction(SIGTERM, &action, nullptr);
    raise(SIGTERM);
    raise(SIGTERM);
  });
}

TEST_CASE("a fault ends the process, after what was written", "[signal]") {
  SECTION("SIGSEGV") {
    arrives_before(SIGSEGV, [](int) { *static_cast<volatile char*>(bad_pointer()) = 'x'; });
  }
  SECTION("SIGBUS") {
    arrives_before(SIGBUS, [](int) {
      const int file = memfd_create("case", MFD_CLOEXEC);
      *static_cast<volatile char*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)) = 'x';
    });
  }
  SECTION("SIGILL") {
    arrives_before(SIGILL, [](int) { __builtin_trap(); });
  }
#if defined(__x86_64__)
  SECTION("SIGFPE") {
    arrives_before(SIGFPE, [](int) { asm volatile("xorl %%ecx, %%ecx\n\tidivl %%ecx" ::: "eax", "ecx", "edx", "cc"); });
  }
  SECTION("SIGTRAP") {
    arrives_before(SIGTRAP, [](int) { asm volatile("int3"); });
  }
#endif
}

TEST_CASE("kill: of a process that waits for a byte", "[signal][read]") {
  arrives_when_killed(SIGTERM, [](int fd) { (void)!read(fd, &fd, 1); });
}
TEST_CASE("kill: of a process that waits in epoll_wait", "[signal][epoll_wait]") {
  arrives_when_killed(SIGINT, [](int fd) {
    const int set = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{EPOLLIN, {}};
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    epoll_wait(set, &event, 1, 10000);
  });
}
TEST_CASE("kill: of a process that waits for something else", "[signal]") {
  arrives_when_killed(SIGHUP, [](int) { sleep(10); });
}
TEST_CASE("kill: by a signal that only the wait lets in", "[signal][ppoll]") {
  arrives_when_killed(SIGTERM, [](int fd) {
    sigset_t one, before;
    sigemptyset(&one);
    sigaddset(&one, SIGTERM);
    sigprocmask(SIG_BLOCK, &one, &before);
    pollfd item{fd, POLLIN, 0};
    const timespec long_time{10, 0};
    ppoll(&item, 1, &long_time, &before);
  });
}
TEST_CASE("kill: by a timer", "[signal]") {
  arrives_before(SIGALRM, [](int) {
    const itimerval soon{{}, {0, 1000}};
    setitimer(ITIMER_REAL, &soon, nullptr);
    for (;;) pause();
  });
}

TEST_CASE("kill: more than the peer takes now arrives when it does", "[signal]") {
  const Signal stuffed_it;
  size_t got = 0;
  auto peer = peer_that([&](int fd) {
    if (stuffed(fd) == 0) return 1;
    stuffed_it.give();
    pause();
    return 2;
  });
  REQUIRE(stuffed_it.wait());
  kill(peer.child, SIGTERM);
  char part[10000];
  ssize_t n;
  while ((n = read(peer.fd, part, sizeof part)) > 0) got += static_cast<size_t>(n);
  CHECK(n == 0);
  CHECK(got > 0);
  CHECK(status_of(peer.child) == kLost + SIGTERM);
}
TEST_CASE("kill: a peer that never reads does not hold the process up", "[signal]") {
  auto peer = peer_that([](int fd) {
    if (stuffed(fd) > 0) raise(SIGTERM);
    return 1;
  });
  CHECK(status_of(peer.child) == kLost + SIGTERM);
}

TEST_CASE("sigaction: the default is told as it is", "[sigaction]") {
  const auto pair = connected();
  struct sigaction was {
  }, wanted{};
  REQUIRE(sigaction(SIGUSR1, nullptr, &was) == 0);
  CHECK(was.sa_handler == SIG_DFL);
  CHECK((was.sa_flags & (SA_SIGINFO | SA_RESTART | SA_ONSTACK)) == 0);
  CHECK(sigismember(&was.sa_mask, SIGUSR2) == 0);
  wanted.sa_flags = SA_RESTART;
  sigaddset(&wanted.sa_mask, SIGUSR2);
  REQUIRE(sigaction(SIGUSR1, &wanted, &was) == 0);
  CHECK(was.sa_handler == SIG_DFL);
  REQUIRE(sigaction(SIGUSR1, nullptr, &was) == 0);
  CHECK(was.sa_handler == SIG_DFL);
  CHECK((was.sa_flags & (SA_SIGINFO | SA_RESTART | SA_ONSTACK)) == SA_RESTART);
  CHECK(sigismember(&was.sa_mask, SIGUSR2) == 1);
  CHECK(sigismember(&was.sa_mask, SIGHUP) == 0);
  CHECK(signal(SIGUSR1, SIG_IGN) == SIG_DFL);
  CHECK(signal(SIGUSR1, SIG_DFL) == SIG_IGN);
  CHECK(signal(SIGUSR1, SIG_DFL) == SIG_DFL);
}

TEST_CASE("vfork: a child that a signal ends leaves the parent's connection alone", "[vfork]") {
  const auto pair = connected();
  exchange(pair.client, pair.server);
  const pid_t child = vfork();
  if (child == 0) {
    kill(getpid(), SIGTERM);
    _exit(1);
  }
  REQUIRE(child > 0);
  CHECK(status_of(child) == kLost + SIGTERM);
  exchange(pair.client, pair.server);
}

TEST_CASE("kill: the first process of a namespace is spared", "[signal]") {
  const auto pair = connected();
  const pid_t child = child_that([&] {
    if (unshare(CLONE_NEWPID) != 0) return 77;
    const pid_t first = fork();
    if (first == 0) {
      if (getpid() != 1) _exit(1);
      raise(SIGTERM);
      _exit(7);
    }
    int status = 0;
    waitpid(first, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
  });
  const int status = status_of(child);
  if (status == 77) WARN("SKIP: no namespaces here");
  CHECK((status == 7 || status == 77));
  exchange(pair.client, pair.server);
}
