// RLIMIT_NOFILE: the connections of a program that comes to it go on, and so does all else.

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include "../at_limit.hpp"

using namespace conformance;

TEST_CASE("descriptor limit: nothing is lost of what is under way", "[open][send][recv][tcp]") {
  Program program;
  auto& [client, server] = program.pairs()[0];
  const auto much = pattern(3 << 20);
  std::string got;
  std::thread writer([&] { send_all(client, much); });
  arrived(server, 1000);
  program.fill_up(8);
  got = receive(server, much.size());
  writer.join();
  CHECK(got == much);
  program.talk();
}

TEST_CASE("descriptor limit: who waits in recv, poll or epoll_wait hears of what comes then",
          "[recv][poll][epoll_wait][tcp]") {
  Program program;
  auto& pairs = program.pairs();
  const Fd set(epoll_create1(0));
  program.has(1);
  epoll_event event{EPOLLIN, {.u64 = 42}};
  REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, pairs[2].server, &event) == 0);
  std::atomic<int> heard{0}, asleep{0};
  std::thread reader([&] { ++asleep, heard += receive(pairs[0].server, 5) == "hello"; });
  std::thread poller([&] { ++asleep, heard += awaited(pairs[1].server, POLLIN) == POLLIN; });
  std::thread waiter([&] {
    epoll_event got{};
    ++asleep;
    heard += epoll_wait(set, &got, 1, 10000) == 1 && got.data.u64 == 42;
  });
  REQUIRE(eventually([&] { return asleep == 3; }));
  std::this_thread::sleep_for(20ms);
  program.fill_up();
  for (int i = 0; i < 3; ++i) send_all(pairs[static_cast<size_t>(i)].client, "hello");
  reader.join();
  poller.join();
  waiter.join();
  CHECK(heard == 3);
  CHECK(receive(pairs[1].server, 5) == "hello");
  CHECK(receive(pairs[2].server, 5) == "hello");
  epoll_event got{};
  CHECK(epoll_wait(set, &got, 1, 0) == 0);
  program.talk();
}

TEST_CASE("descriptor limit: an epoll set is what it was, and is again when there is room",
          "[epoll_ctl][epoll_wait][tcp]") {
  Program program;
  auto& pairs = program.pairs();
  const Fd set(epoll_create1(0));
  program.has(1);
  const auto ready = [&](int timeout) {
    epoll_event got[8]{};
    const int count = epoll_wait(set, got, 8, timeout);
    std::vector<uint64_t> who;
    for (int i = 0; i < count; ++i) who.push_back(got[i].data.u64);
    std::sort(who.begin(), who.end());
    return who;
  };
  for (size_t i = 0; i < pairs.size(); ++i) {
    epoll_event event{EPOLLIN | (i % 2 ? EPOLLET : 0u), {.u64 = i}};
    REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, pairs[i].server, &event) == 0);
  }
  CHECK(ready(0).empty());
  const auto round = [&](size_t from, size_t to) {
    for (size_t i = from; i < to; ++i) {
      send_all(pairs[i].client, "x");
      CHECK(ready(10000) == std::vector<uint64_t>{i});
      CHECK(receive(pairs[i].server, 1) == "x");
      CHECK(ready(0).empty());
    }
  };
  round(0, 4);
  program.fill_up();
  round(0, 4);
  epoll_event other{EPOLLIN, {.u64 = 77}};
  CHECK(epoll_ctl(set, EPOLL_CTL_MOD, pairs[0].server, &other) == 0);
  CHECK(epoll_ctl(set, EPOLL_CTL_DEL, pairs[3].server, nullptr) == 0);
  CHECK_FAILS(epoll_ctl(set, EPOLL_CTL_DEL, pairs[3].server, nullptr), ENOENT);
  CHECK_FAILS(epoll_ctl(set, EPOLL_CTL_ADD, pairs[0].server, &other), EEXIST);
  send_all(pairs[0].client, "x");
  CHECK(ready(10000) == std::vector<uint64_t>{77});
  CHECK(receive(pairs[0].server, 1) == "x");
  program.empty();
  std::this_thread::sleep_for(1500ms);  // long enough for lanes to be entered again
  round(1, 3);
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, pairs[3].server, &other) == 0);
  send_all(pairs[3].client, "x");
  CHECK(ready(10000) == std::vector<uint64_t>{77});
  CHECK(receive(pairs[3].server, 1) == "x");
  program.talk();
}

TEST_CASE("descriptor limit: connections enter their lanes again when there is room", "[open][tcp]") {
  Program program;
  program.fill_up();
  program.talk();
  program.empty();
  for (auto& pair : program.pairs()) enter_lane(pair.client, pair.server);
  program.fill_up();
  program.talk();
}

namespace {

struct Passed {
  std::vector<int> fds;  // as received
  bool cut;
};

// From one end to the other, as SCM_RIGHTS.
template <size_t kCount>
Passed passed(const int (&ends)[2], const std::array<int, kCount>& sent) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof sent)]{};
  char byte = '!';
  iovec piece{&byte, 1};
  msghdr message{};
  message.msg_iov = &piece, message.msg_iovlen = 1;
  message.msg_control = control, message.msg_controllen = sizeof control;
  auto* part = CMSG_FIRSTHDR(&message);
  part->cmsg_level = SOL_SOCKET, part->cmsg_type = SCM_RIGHTS, part->cmsg_len = CMSG_LEN(sizeof sent);
  std::memcpy(CMSG_DATA(part), sent.data(), sizeof sent);
  REQUIRE(sendmsg(ends[0], &message, 0) == 1);
  REQUIRE(recvmsg(ends[1], &message, MSG_CMSG_CLOEXEC) == 1);
  Passed got{{}, (message.msg_flags & MSG_CTRUNC) != 0};
  if ((part = CMSG_FIRSTHDR(&message))) {
    got.fds.resize((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    std::memcpy(got.fds.data(), CMSG_DATA(part), got.fds.size() * sizeof(int));
  }
  return got;
}

}  // namespace

// No call that fails could be made again: the kernel has dropped what it could not deliver.
TEST_CASE("descriptor limit: near it, received descriptors and what libc opens itself", "[open][recvmsg][tcp]") {
  Program program;
  constexpr int kLeft = 6, kSent = 4;
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  program.has(2);
  while (program.free() > kLeft) program.add(open("/dev/null", O_RDWR | O_CLOEXEC));
  REQUIRE(eventually([] { return count_open(kLimit) == kLimit - kLeft; }));
  for (int round = 0; round < 3; ++round) {
    dirent** names = nullptr;
    const int count = scandir("/", &names, nullptr, nullptr);
    CHECK(count > 0);
    for (int i = 0; i < count; ++i) free(names[i]);
    free(names);
  }
  const auto got = passed(ends, std::array<int, kSent>{ends[0], ends[0], ends[1], ends[1]});
  CHECK_FALSE(got.cut);
  CHECK(got.fds.size() == kSent);
  program.talk();
}

TEST_CASE("descriptor limit: a program that receives descriptors gets one for each number", "[recvmsg][tcp]") {
  Program program;
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  program.has(2);
  for (;;) {
    const auto got = passed(ends, std::array<int, 1>{ends[0]});
    if (got.cut || got.fds.empty()) break;
    program.add(got.fds[0]);
  }
  CHECK(program.free() == 0);
  program.talk();
}

TEST_CASE("descriptor limit: popen and posix_spawn with files of their own", "[popen][posix_spawn][tcp]") {
  Program program;
  program.fill(2);
  FILE* const said = popen("echo here", "r");
  REQUIRE(said);
  char line[8];
  CHECK(fgets(line, sizeof line, said));
  CHECK(pclose(said) == 0);
  program.talk();
  program.empty();
  for (auto& pair : program.pairs()) enter_lane(pair.client, pair.server);
  program.fill(1);
  posix_spawn_file_actions_t actions;
  REQUIRE(posix_spawn_file_actions_init(&actions) == 0);
  REQUIRE(posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0) == 0);
  char name[] = "true";
  char* const arguments[] = {name, nullptr};
  pid_t child = 0;
  REQUIRE(posix_spawnp(&child, name, &actions, nullptr, arguments, environ) == 0);
  CHECK(posix_spawn_file_actions_destroy(&actions) == 0);
  CHECK(status_of(child) == 0);
  program.talk();
}

// The kernel runs it in the middle of a call that waits.
TEST_CASE("descriptor limit: a handler comes to it while its thread waits for bytes", "[recv][open][tcp]") {
  Program program;
  auto& pair = program.pairs()[0];
  program.fill(1);
  static std::atomic<int> opened;
  opened = -1;
  struct sigaction action {};
  action.sa_handler = [](int) { opened = open("/dev/null", O_RDONLY | O_CLOEXEC); };
  action.sa_flags = SA_RESTART;
  REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
  std::atomic<bool> waits{false};
  std::string got;
  std::thread reader([&] { waits = true, got = receive(pair.client, 5); });
  REQUIRE(eventually([&] { return waits.load(); }));
  std::this_thread::sleep_for(20ms);
  REQUIRE(pthread_kill(reader.native_handle(), SIGUSR1) == 0);
  CHECK(eventually([&] { return opened >= 0; }));
  send_all(pair.server, "hello");
  reader.join();
  CHECK(got == "hello");
  program.has(1);
  program.fill_up();
  program.talk();
}

TEST_CASE("descriptor limit: the main thread ends there, and then another", "[open][pthread_exit][tcp]") {
  const pid_t child = child_that([] {
    const rlimit both{kLimit, kLimit};
    if (setrlimit(RLIMIT_NOFILE, &both) != 0) return 1;
    const auto listener = listening();
    const int client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client, listener.name(), listener.size) != 0) return 2;
    const int server = accept(listener.fd, nullptr, nullptr);
    if (!put(client, "hello") || take(server, 5) != "hello" || !entered(client, server)) return 3;
    while (open("/dev/null", O_RDONLY) >= 0) {
    }
    if (errno != EMFILE) return 4;
    std::thread([=] {
      std::this_thread::sleep_for(50ms);
      if (!put(server, "you") || take(client, 3) != "you") _exit(5);
      for (int fd = kLimit - 4; fd < kLimit; ++fd) close(fd);  // numbers for what a library writes at the end
      syscall(SYS_exit, 7);
    }).detach();
    syscall(SYS_exit, 6);
    return 8;
  });
  CHECK(status_of(child) == 7);
}

TEST_CASE("descriptor limit: many threads come to it at once", "[open][tcp]") {
  Program program;
  constexpr int kThreads = 8;
  const int free = program.free();
  std::vector<std::vector<Fd>> opened(kThreads);
  std::vector<std::thread> threads;
  std::atomic<bool> begin{false};
  for (auto& mine : opened)
    threads.emplace_back([&] {
      while (!begin) std::this_thread::yield();
      for (int fd; (fd = open("/dev/null", O_RDONLY)) >= 0;) mine.emplace_back(fd);
    });
  begin = true;
  for (auto& thread : threads) thread.join();
  size_t all = 0;
  for (const auto& mine : opened) all += mine.size();
  CHECK(all == static_cast<size_t>(free));
  program.talk();
}

TEST_CASE("descriptor limit: it is lowered below what is open", "[open][tcp]") {
  const auto pair = connected();
  const rlimit low{8, 8};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
  std::vector<Fd> files;
  for (int fd; (fd = open("/dev/null", O_RDONLY)) >= 0;) files.emplace_back(fd);
  CHECK(errno == EMFILE);
  exchange(pair.client, pair.server);
}

TEST_CASE("descriptor limit: a peer that is stopped holds nobody up for long", "[open][tcp]") {
  const rlimit both{kLimit, kLimit};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &both) == 0);
  const auto peer = peer_that([](int fd) { return answer(fd, 5) ? 0 : 1; });
  const auto pair = connected();
  REQUIRE(kill(peer.child, SIGSTOP) == 0);
  const auto begun = std::chrono::steady_clock::now();
  std::vector<Fd> files;
  for (int fd; (fd = open("/dev/null", O_RDONLY)) >= 0;) files.emplace_back(fd);
  CHECK(errno == EMFILE);
  CHECK(std::chrono::steady_clock::now() - begun < 5s);
  exchange(pair.client, pair.server);
  REQUIRE(kill(peer.child, SIGCONT) == 0);
  send_all(peer.fd, "hello");
  CHECK(receive(peer.fd, 5) == "hello");
  CHECK(status_of(peer.child) == 0);
}

TEST_CASE("descriptor limit: a child of fork has the connections", "[open][fork][tcp]") {
  Program program;
  program.fill_up();
  auto& pair = program.pairs()[0];
  const pid_t child = child_that([&] { return answer(pair.server, 5) ? 0 : 1; });
  send_all(pair.client, "hello");
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(child) == 0);
  program.talk();
}

TEST_CASE("descriptor limit: a connection is closed, and others are made", "[close][accept][tcp]") {
  Program program;
  const auto listener = listening();
  program.has(1);
  program.fill_up();
  program.pairs().pop_back();
  for (int i = 0; i < 3; ++i) {
    const auto client = stream_socket();
    REQUIRE(connect(client, listener.name(), listener.size) == 0);
    const Fd server(accept(listener.fd, nullptr, nullptr));
    REQUIRE(server >= 0);
    exchange(client, server);
  }
  program.talk();
}
