// close_range, closefrom and loops of close(): programs that close everything they do not know, with flows in their
// lanes.

#include <dirent.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <climits>
#include <cstddef>

#include "../pair.hpp"

using namespace conformance;

namespace {

constexpr int kFirst = 3;

bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

// Descriptors far above all others that the program has.
Pair moved_up(Pair pair, int client, int server) {
  Pair moved{Fd(dup2(pair.client, client)), Fd(dup2(pair.server, server))};
  REQUIRE(moved.client == client);
  REQUIRE(moved.server == server);
  return moved;
}

// The ways to close all from `first` on.
void with_close_range(int first) { CHECK(close_range(static_cast<unsigned>(first), ~0U, 0) == 0); }
void with_closefrom(int first) { closefrom(first); }
void with_close_range_by_number(int first) { CHECK(syscall(SYS_close_range, first, ~0U, 0) == 0); }
void in_a_loop(int first) {
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const int end = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1 << 16));
  for (int fd = first; fd < end; ++fd) close(fd);
}
void in_a_loop_by_number(int first) {
  for (int fd = first; fd < 4096; ++fd) syscall(SYS_close, fd);
}
// As daemons do where there is /proc; the limit does not matter there.
void by_proc(int first) {
  auto* folder = opendir("/proc/self/fd");
  REQUIRE(folder != nullptr);
  std::vector<int> all;
  while (const auto* entry = readdir(folder))
    if (const int fd = atoi(entry->d_name); fd >= first && fd != dirfd(folder)) all.push_back(fd);
  closedir(folder);
  for (const int fd : all) close(fd);
}

using CloseAll = void (*)(int first);
const CloseAll kWays[] = {with_close_range, with_closefrom,      with_close_range_by_number,
                          in_a_loop,        in_a_loop_by_number, by_proc};

void talk(const Pair& pair) {
  for (const auto& [from, to] : {std::pair(+pair.client, +pair.server), std::pair(+pair.server, +pair.client)}) {
    send_all(from, "words");
    CHECK(receive(to, 5) == "words");
  }
}

void abandon(Pair& pair) { pair.client.release(), pair.server.release(); }

}  // namespace

TEST_CASE("close_range, closefrom, close: everything, then new flows", "[close_range][closefrom][close][syscall]") {
  for (const auto close_all : kWays) {
    {
      auto pair = connected();
      talk(pair);
      close_all(kFirst);
      CHECK_FALSE(is_open(pair.client));
      CHECK_FALSE(is_open(pair.server));
      abandon(pair);
    }
    talk(connected());
  }
}

TEST_CASE("close_range, closefrom, close: flows below the range go on", "[close_range][closefrom][close][syscall]") {
  for (const auto close_all : kWays) {
    const auto pair = connected();
    auto gone = moved_up(connected(), 60, 61);
    talk(gone);
    close_all(60);
    CHECK_FALSE(is_open(60));
    abandon(gone);
    talk(pair);
    set_nonblocking(pair.client);
    char byte;
    CHECK_FAILS(recv(pair.client, &byte, 1, 0), EAGAIN);
    send_all(pair.server, "x");
    CHECK(awaited(pair.client, POLLIN) == POLLIN);
    talk(connected());
  }
}

TEST_CASE("close_range, closefrom, close: the flow's other end sees the end",
          "[close_range][closefrom][close][syscall]") {
  for (const auto close_all : kWays) {
    auto pair = connected();
    const Fd moved(dup2(pair.client, 60));
    pair.client.close();
    send_all(60, "last words");
    close_all(60);
    CHECK(receive(pair.server, 100) == "last words");
    char byte;
    CHECK(recv(pair.server, &byte, 1, 0) == 0);
  }
}

TEST_CASE("close: again and again over all numbers, with flows going on", "[close]") {
  const auto pair = connected();
  const int used = std::max(+pair.client, +pair.server) + 1;
  for (int i = 0; i < 20; ++i) {
    in_a_loop(used);
    talk(pair);
  }
}

TEST_CASE("close_range: a stretch between flows", "[close_range]") {
  const auto pair = moved_up(connected(), 50, 70);
  const Fd file(dup2(0, 60));
  CHECK(close_range(51, 69, 0) == 0);
  CHECK_FALSE(is_open(60));
  talk(pair);
  CHECK(close_range(70, 70, 0) == 0);
  CHECK_FALSE(is_open(70));
  char byte;
  CHECK(recv(pair.client, &byte, 1, 0) == 0);
  CHECK(is_open(50));
}

TEST_CASE("close_range: CLOSE_RANGE_CLOEXEC marks, and closes nothing", "[close_range]") {
  const auto pair = connected();
  for (const int fd : {+pair.client, +pair.server}) REQUIRE(fcntl(fd, F_SETFD, 0) == 0);
  CHECK(close_range(kFirst, ~0U, CLOSE_RANGE_CLOEXEC) == 0);
  for (const int fd : {+pair.client, +pair.server}) CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
  talk(pair);
}

TEST_CASE("close_range: CLOSE_RANGE_UNSHARE in a program of one thread", "[close_range]") {
  const auto pair = connected();
  auto gone = moved_up(connected(), 60, 61);
  CHECK(close_range(60, ~0U, CLOSE_RANGE_UNSHARE) == 0);
  CHECK_FALSE(is_open(60));
  abandon(gone);
  talk(pair);
  CHECK(close_range(60, ~0U, CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) == 0);
  talk(pair);
  talk(connected());
}

TEST_CASE("close_range: CLOSE_RANGE_UNSHARE leaves the flows of other threads", "[close_range][tcp]") {
  const auto pair = connected();
  auto other = moved_up(connected(), 60, 61);
  bool closed = false;
  std::thread([&] { closed = close_range(60, ~0U, CLOSE_RANGE_UNSHARE) == 0 && !is_open(60); }).join();
  CHECK(closed);
  CHECK(is_open(60));
  talk(other);
  talk(pair);
}

TEST_CASE("close_range: what cannot be", "[close_range]") {
  const auto pair = connected();
  CHECK_FAILS(close_range(5, 4, 0), EINVAL);
  CHECK_FAILS(close_range(kFirst, ~0U, 0x100), EINVAL);
  talk(pair);
}

TEST_CASE("closefrom: a negative number closes from 0 on", "[closefrom][no-statistics]") {
  const auto pair = connected();
  const Fd kept(dup(2));
  const auto child = fork();
  if (child == 0) {
    closefrom(-5);
    _exit(fcntl(0, F_GETFD) < 0 && fcntl(2, F_GETFD) < 0 ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  talk(pair);
}

TEST_CASE("close: numbers that are not open, whatever they were", "[close][dup]") {
  const auto pair = connected();
  // Everything that is open is the program's: closed once, it is closed.
  std::vector<int> own;
  for (int i = 0; i < 10; ++i) own.push_back(dup(pair.client));
  for (const int fd : own) CHECK(close(fd) == 0);
  for (const int fd : own) CHECK_FAILS(close(fd), EBADF);
  CHECK_FAILS(close(-1), EBADF);
  CHECK_FAILS(close(1 << 29), EBADF);
  CHECK_FAILS(close(INT32_MAX), EBADF);
  talk(pair);
}

TEST_CASE("close: all numbers up to the hard limit, which the program takes for its own", "[close][dup2]") {
  rlimit limit{}, raised{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  auto pair = connected();
  raised = limit;
  raised.rlim_cur = limit.rlim_max;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &raised) == 0);
  const int used = std::max(+pair.client, +pair.server) + 1;
  const auto end = static_cast<int>(std::min<rlim_t>(limit.rlim_max, limit.rlim_cur + 5000));
  for (int fd = used; fd < end; ++fd) close(fd);
  talk(pair);
  talk(connected());
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  talk(connected());
}

TEST_CASE("close: all numbers where the limits leave no room above", "[close][close_range]") {
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  limit.rlim_cur = limit.rlim_max = std::min<rlim_t>(limit.rlim_cur, 300);
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  const auto pair = connected();
  const int used = std::max(+pair.client, +pair.server) + 1;
  CHECK(used < 20);
  for (const auto close_all : {in_a_loop, with_close_range, by_proc}) {
    close_all(used);
    talk(pair);
    talk(connected());
  }
}

TEST_CASE("fork: a child that closes everything does not disturb its parent",
          "[fork][close_range][closefrom][no-statistics]") {
  const auto pair = connected();
  for (const auto close_all : {with_close_range, with_closefrom, in_a_loop}) {
    const auto child = fork();
    if (child == 0) {
      close_all(kFirst);
      _exit(0);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    talk(pair);
  }
  talk(connected());
}

TEST_CASE("vfork: a child that closes everything does not disturb its parent", "[close_range][close]") {
  const auto pair = connected();
  const auto child = vfork();
  if (child == 0) {
    syscall(SYS_close_range, kFirst, ~0U, 0);
    for (int fd = kFirst; fd < 3000; ++fd) close(fd);
    _exit(0);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  talk(pair);
  talk(connected());
}

TEST_CASE("close_range, closefrom: up to any number, with no socket ever: at once",
          "[close_range][closefrom][syscall][no-lane]") {
  const auto begun = std::chrono::steady_clock::now();
  const unsigned first = 1000, numbers[] = {first, INT_MAX - 1, INT_MAX, INT_MAX + 1U, UINT_MAX - 1, UINT_MAX};
  const int open = fcntl(0, F_DUPFD_CLOEXEC, 3);
  for (const auto from : numbers)
    for (const auto to : numbers)
      for (const int flags : {0, static_cast<int>(CLOSE_RANGE_CLOEXEC)}) {
        CAPTURE(from, to, flags);
        const int expected = from <= to ? 0 : -1;
        CHECK(close_range(from, to, flags) == expected);
        CHECK(syscall(SYS_close_range, from, to, flags) == expected);
      }
  for (const int from : {1000, INT_MAX - 1, INT_MAX}) closefrom(from);
  CHECK(is_open(open));
  CHECK(std::chrono::steady_clock::now() - begun < 2s);
}

TEST_CASE("close_range: up to the highest number, with flows", "[close_range][syscall]") {
  const auto kept = connected();
  auto closed = moved_up(connected(), 1000, 1001);
  const auto begun = std::chrono::steady_clock::now();
  CHECK(close_range(1000, INT_MAX, 0) == 0);
  CHECK(syscall(SYS_close_range, 1000, UINT_MAX, 0) == 0);
  CHECK(std::chrono::steady_clock::now() - begun < 2s);
  CHECK(!is_open(1000));
  abandon(closed);
  talk(kept);
}

TEST_CASE("closefrom: where close_range is not to be had", "[closefrom][tcp]") {
  // As under an old kernel, or a container's filter that is as old.
  const auto kept = connected();
  auto closed = moved_up(connected(), 1000, 1001);
  const sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{4, const_cast<sock_filter*>(filter)};
  const pid_t child = fork();
  if (child == 0) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 500;  // what is above it is open still
    setrlimit(RLIMIT_NOFILE, &limit);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
      _exit(1);
    closefrom(900);
    _exit(!is_open(1000) && !is_open(1001) && is_open(0) ? 7 : 2);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 7));
  talk(kept);
  talk(closed);
}
