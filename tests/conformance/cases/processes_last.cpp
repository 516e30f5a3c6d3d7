// The last thread ends, and with it the process: main by pthread_exit or by the bare system call, others later. What
// was written arrives, then the end of the stream; libc's own last end is an exit(0), and the bare one gives its status
// and runs no handlers.

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <vector>

#include "../child.hpp"

using namespace conformance;

namespace {

constexpr auto kWhile = 50ms;  // main has ended by then, as a rule: it must not matter

// pthread_exit unwinds the stack of its thread, and the testing framework's frames would take that for an exception.
template <class Work>
[[noreturn]] void on_another_stack(Work work) {
  static ucontext_t here, there;
  static Work* what;
  static std::vector<char> stack(256 << 10);
  what = &work;
  getcontext(&there);
  there.uc_stack.ss_sp = stack.data();
  there.uc_stack.ss_size = stack.size();
  makecontext(
      &there, [] { (*what)(); }, 0);
  swapcontext(&here, &there);
  abort();
}

// Ends this thread alone, unseen by libc.
[[noreturn]] void bare_exit(int status) {
#if defined(__x86_64__)
  asm volatile("syscall" ::"a"(SYS_exit), "D"(status) : "rcx", "r11", "memory");
#else
  syscall(SYS_exit, status);
#endif
  __builtin_unreachable();
}
[[noreturn]] void exit_by_number(int status) {
  syscall(SYS_exit, status);
  __builtin_unreachable();
}

void main_ends() {
  on_another_stack([] { pthread_exit(nullptr); });
}

int shared_fd = -1;
void (*shared_end)() = nullptr;

// Another thread, which says something more when main has ended, and then ends itself.
void another(int fd, void (*end)()) {
  shared_fd = fd, shared_end = end;
  pthread_t thread;
  const auto body = [](void*) -> void* {
    std::this_thread::sleep_for(kWhile);
    put(shared_fd, "more");
    shared_end();
    return nullptr;
  };
  pthread_create(&thread, nullptr, body, nullptr);
}
void by_return() {}
void by_pthread_exit() { pthread_exit(nullptr); }

// A process that does `end` after 20000 bytes; `more` is what comes then, and `status` how it ends.
template <class End>
void ends(End end, std::string_view more, int status) {
  const auto bytes = pattern(20000);
  auto peer = peer_that([&](int fd) {
    if (!put(fd, bytes)) return 101;
    end(fd);
    return 102;
  });
  CHECK(receive(peer.fd, bytes.size()) == bytes);
  CHECK(receive(peer.fd, more.size()) == more);
  CHECK(receive(peer.fd, 1).empty());
  CHECK(status_of(peer.child) == status);
}

}  // namespace

TEST_CASE("the last thread ends: main by pthread_exit", "[exit]") {
  ends([](int) { main_ends(); }, "", 0);
}
TEST_CASE("the last thread ends: one that outlived main, by return", "[exit]") {
  ends([](int fd) { another(fd, by_return), main_ends(); }, "more", 0);
}
TEST_CASE("the last thread ends: one that outlived main, by pthread_exit", "[exit]") {
  ends([](int fd) { another(fd, by_pthread_exit), main_ends(); }, "more", 0);
}
TEST_CASE("the last thread ends: main by syscall(SYS_exit)", "[exit][syscall]") {
  ends([](int) { exit_by_number(3); }, "", 3);
}
TEST_CASE("the last thread ends: one that outlived main, by syscall(SYS_exit)", "[exit][syscall]") {
  ends([](int fd) { another(fd, [] { exit_by_number(5); }), main_ends(); }, "more", 5);
}
TEST_CASE("the last thread ends: after a main that ended by syscall(SYS_exit)", "[exit][syscall]") {
  ends([](int fd) { another(fd, by_return), exit_by_number(3); }, "more", 0);
}
TEST_CASE("the last thread ends: main by a system call of its own", "[exit]") {
  ends([](int) { bare_exit(3); }, "", 3);
}
TEST_CASE("the last thread ends: one that outlived main, by a system call of its own", "[exit]") {
  ends([](int fd) { another(fd, [] { bare_exit(0); }), main_ends(); }, "more", 0);
}
TEST_CASE("the last thread ends: it was cancelled", "[exit]") {
  ends(
      [](int fd) {
        another(fd, [] {
          pthread_cancel(pthread_self());
          pthread_testcancel();
        });
        main_ends();
      },
      "more", 0);
}
TEST_CASE("the last thread ends: many did before, in no order", "[exit]") {
  ends(
      [](int fd) {
        for (int i = 0; i < 20; ++i) std::thread([i] { std::this_thread::sleep_for(i * 7 % 20 * 1ms); }).detach();
        another(fd, by_return);
        main_ends();
      },
      "more", 0);
}

TEST_CASE("the last thread ends: handlers of exit run, and may use the connection", "[exit]") {
  ends(
      [](int fd) {
        shared_fd = fd;
        atexit([] { put(shared_fd, "the last words"); });
        another(fd, by_return);
        main_ends();
      },
      "morethe last words", 0);
}
TEST_CASE("the last thread ends: by the bare system call no handler of exit runs", "[exit][syscall]") {
  ends(
      [](int fd) {
        shared_fd = fd;
        atexit([] { put(shared_fd, "never said"); });
        exit_by_number(4);
      },
      "", 4);
}

TEST_CASE("the last thread ends: more than the peer takes now arrives when it does", "[exit]") {
  const Signal stuffed_it;
  auto peer = peer_that([&](int fd) {
    if (stuffed(fd) == 0) return 1;
    stuffed_it.give();
    main_ends();
    return 2;
  });
  REQUIRE(stuffed_it.wait());
  char part[10000];
  size_t got = 0;
  ssize_t n;
  while ((n = read(peer.fd, part, sizeof part)) > 0) got += static_cast<size_t>(n);
  CHECK(n == 0);
  CHECK(got > 0);
  CHECK(status_of(peer.child) == 0);
}

TEST_CASE("the last thread ends: until it does, a signal ends the process", "[exit][signal]") {
  const auto bytes = pattern(20000);
  auto peer = peer_that([&](int fd) {
    if (!put(fd, bytes)) return 1;
    another(fd, [] { pause(); });
    main_ends();
    return 2;
  });
  CHECK(receive(peer.fd, bytes.size()) == bytes);
  CHECK(receive(peer.fd, 4) == "more");
  kill(peer.child, SIGTERM);
  CHECK(receive(peer.fd, 1).empty());
  CHECK(status_of(peer.child) == kLost + SIGTERM);
}

TEST_CASE("the last thread ends: a thread forked, and its child's main is that thread", "[exit][fork]") {
  pid_t child = -1;
  std::thread([&] {
    child = fork();
    if (child != 0) return;
    const auto pair = connected();
    exchange(pair.client, pair.server);
    pthread_exit(nullptr);
  }).join();
  CHECK(status_of(child) == 0);
  const auto pair = connected();
  exchange(pair.client, pair.server);
}

TEST_CASE("the last thread ends: a server that had no connection", "[exit][no-lane]") {
  const pid_t child = child_that([] {
    { const auto listener = listening(); }
    main_ends();
    return 1;
  });
  CHECK(status_of(child) == 0);
}

TEST_CASE("the last thread ends: behind a filter of system calls", "[exit][prctl][tcp]") {
  ends(
      [](int) {
        sock_filter all = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        const sock_fprog program{1, &all};
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
          _exit(1);
        main_ends();
      },
      "", 0);
}
