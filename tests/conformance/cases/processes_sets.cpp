// An epoll set that more than one process holds: who uses it makes it the kernel's, and each hears of what is in it.

#include "../child.hpp"

using namespace conformance;

namespace {

Fd set_with(int fd, uint32_t events, uint64_t data) {
  Fd set(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{events, {.u64 = data}};
  REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0);
  return set;
}

// The data of the one that is ready; 0 for none, or another number of them.
uint64_t ready_in(int set, int ms = 10000) {
  epoll_event event{};
  return epoll_wait(set, &event, 1, ms) == 1 ? event.data.u64 : 0;
}

}  // namespace

TEST_CASE("fork: a child waits in the epoll set of its parent", "[fork][epoll_wait][tcp]") {
  const auto pair = connected();
  const Fd set = set_with(pair.server, EPOLLIN, 77);
  const Signal waits;
  const pid_t child = child_that([&] {
    if (ready_in(set, 0) != 0) return 1;
    waits.give();
    return ready_in(set) == 77 && answer(pair.server, 5) && ready_in(set, 0) == 0 ? 7 : 2;
  });
  REQUIRE(waits.wait());
  send_all(pair.client, "hello");
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(child) == 7);
  send_all(pair.client, "again");
  CHECK(ready_in(set) == 77);
  CHECK(receive(pair.server, 5) == "again");
}

TEST_CASE("fork: a child finds in its parent's set what was ready before", "[fork][epoll_wait][tcp]") {
  const auto pair = connected();
  const Fd set = set_with(pair.server, EPOLLIN | EPOLLET, 77);
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  const pid_t child = child_that([&] { return ready_in(set) == 77 && answer(pair.server, 5) ? 7 : 1; });
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(child) == 7);
}

TEST_CASE("fork: child and parent sleep in one set", "[fork][epoll_wait][tcp]") {
  const auto pair = connected();
  const Fd set = set_with(pair.server, EPOLLIN, 77);
  uint64_t parents = 0;
  std::thread sleeper([&] { parents = ready_in(set); });
  const Signal waits;
  const pid_t child = child_that([&] {
    if (ready_in(set, 0) != 0) return 1;
    waits.give();
    return ready_in(set) == 77 ? 7 : 2;
  });
  REQUIRE(waits.wait());
  send_all(pair.client, "hello");
  sleeper.join();
  CHECK(parents == 77);
  CHECK(status_of(child) == 7);
}

TEST_CASE("fork: a child changes what its parent's set waits for", "[fork][epoll_ctl][tcp]") {
  const auto pair = connected();
  const Fd set = set_with(pair.server, EPOLLIN, 77);
  const pid_t child = child_that([&] {
    epoll_event event{EPOLLOUT, {.u64 = 78}};
    return epoll_ctl(set, EPOLL_CTL_MOD, pair.server, &event) == 0 ? 7 : 1;
  });
  CHECK(status_of(child) == 7);
  CHECK(ready_in(set) == 78);
  CHECK(epoll_ctl(set, EPOLL_CTL_DEL, pair.server, nullptr) == 0);
  CHECK_FAILS(epoll_ctl(set, EPOLL_CTL_DEL, pair.server, nullptr), ENOENT);
}

TEST_CASE("fork: one report for both of EPOLLONESHOT", "[fork][epoll_wait][tcp]") {
  const auto pair = connected();
  const Fd set = set_with(pair.server, EPOLLIN | EPOLLONESHOT, 77);
  send_all(pair.client, "hello");
  CHECK(ready_in(set) == 77);
  const pid_t child = child_that([&] {
    if (ready_in(set, 50) != 0) return 1;
    epoll_event event{EPOLLIN | EPOLLONESHOT, {.u64 = 78}};
    return epoll_ctl(set, EPOLL_CTL_MOD, pair.server, &event) == 0 && ready_in(set) == 78 ? 7 : 2;
  });
  CHECK(status_of(child) == 7);
  CHECK(ready_in(set, 50) == 0);
  CHECK(receive(pair.server, 5) == "hello");
}

TEST_CASE("fork: a child asks poll about its parent's set", "[fork][poll][tcp]") {
  const auto pair = connected();
  const Fd set = set_with(pair.server, EPOLLIN, 77);
  const Signal waits;
  const pid_t child = child_that([&] {
    pollfd one{set, POLLIN, 0};
    if (poll(&one, 1, 50) != 0) return 1;
    waits.give();
    return poll(&one, 1, 10000) == 1 && ready_in(set) == 77 ? 7 : 2;
  });
  REQUIRE(waits.wait());
  send_all(pair.client, "hello");
  CHECK(status_of(child) == 7);
  CHECK(receive(pair.server, 5) == "hello");
}

TEST_CASE("fork: a child adds a connection to its parent's set", "[fork][epoll_ctl][tcp]") {
  const auto pair = connected();
  const Fd set = set_with(pair.server, EPOLLIN, 77);
  const auto listener = listening();
  const pid_t child = child_that([&] {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    epoll_event event{EPOLLIN, {.u64 = 78}};
    if (connect(fd, listener.name(), listener.size) != 0 || epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0) return 1;
    return ready_in(set) == 78 && take(fd, 2) == "hi" ? 7 : 2;
  });
  const Fd other(accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC));
  send_all(other, "hi");
  CHECK(status_of(child) == 7);
  exchange(pair.client, pair.server);
}

TEST_CASE("fork: a set goes on in the child of a process that ended", "[fork][exit][epoll_wait][tcp]") {
  const auto listener = listening();
  auto peer = peer_that([&](int fd) {
    const int set = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{EPOLLIN, {.u64 = 77}};
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0) return 1;
    if (fork() > 0) return 7;
    if (ready_in(set) != 77 || !answer(fd, 5)) return 2;
    // What it makes itself now is its own.
    const int own = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    event.data.u64 = 78;
    if (connect(own, listener.name(), listener.size) != 0 || epoll_ctl(set, EPOLL_CTL_ADD, own, &event) != 0) return 3;
    while (ready_in(set) == 78) {
      const auto heard = take(own, 1);
      if (heard.empty() || heard == "!") break;
      put(own, heard);
    }
    return 0;
  });
  CHECK(status_of(peer.child) == 7);
  send_all(peer.fd, "hello");
  CHECK(receive(peer.fd, 5) == "hello");
  const Fd own(accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC));
  CHECK(enters_lane(own));
  send_all(own, "!");
  CHECK(ended(peer.fd));
}

TEST_CASE("daemon: an epoll set goes on in the daemon", "[daemon][epoll_wait][tcp]") {
  auto peer = peer_that([](int fd) {
    const int set = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{EPOLLIN, {.u64 = 77}};
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0 || daemon(1, 1) != 0) return 1;
    return ready_in(set) == 77 && answer(fd, 5) ? 7 : 2;
  });
  CHECK(status_of(peer.child) == 0);
  answers_and_ends(peer.fd);
}

TEST_CASE("close: of a set that a child goes on with", "[close][fork][epoll_wait][tcp]") {
  const auto pair = connected();
  Fd set = set_with(pair.server, EPOLLIN, 77);
  const Signal go;
  const pid_t child = child_that([&] { return go.wait() && ready_in(set) == 77 && answer(pair.server, 5) ? 7 : 1; });
  set.close();
  go.give();
  send_all(pair.client, "hello");
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(child) == 7);
}

TEST_CASE("fork: a set that a child only holds, and the parent's flows stay where they are", "[fork][epoll_wait]") {
  const auto pair = connected();
  const Fd set = set_with(pair.server, EPOLLIN, 77);
  const Signal go;
  const pid_t child = child_that([&] { return go.wait() ? 7 : 1; });
  send_all(pair.client, "hello");
  CHECK(ready_in(set) == 77);
  CHECK(receive(pair.server, 5) == "hello");
  go.give();
  CHECK(status_of(child) == 7);
  exchange(pair.client, pair.server);
}
