// Connections that enter their lane, or go back to TCP, while they are watched: no event is lost, none comes twice. But
// for edges, of which enter_edges.cpp tells more: at entering, what is ready may be reported once more.

#include "../sets.hpp"

using namespace conformance;

namespace {

void drain(int fd) {
  char bytes[256];
  while (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
  }
}

}  // namespace

TEST_CASE("epoll_wait: level, a watched connection goes on as it was", "[epoll_wait]") {
  const auto pair = connected({.enter = false});
  const EpollSet set;
  set.add(pair.client, EPOLLIN, 0x1122334455667788);
  enter_lane(pair.server, pair.client);
  CHECK(set.quiet());
  send_all(pair.server, "x");
  const auto events = set.wait(kPatience);
  REQUIRE(events.size() == 1);
  CHECK(events[0].data.u64 == 0x1122334455667788);
  CHECK(set.report() == "IN");
  drain(pair.client);
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: edge, writability that was not reported yet is reported once", "[epoll_wait]") {
  const auto pair = connected({.enter = false});
  const EpollSet set;
  set.add(pair.client, EPOLLOUT | EPOLLET);
  enter_lane(pair.server, pair.client);
  CHECK(set.report() == "OUT");
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: edge, bytes after the entering are reported once", "[epoll_wait]") {
  const auto pair = connected({.enter = false});
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLET);
  enter_lane(pair.server, pair.client);
  set.wait();  // bytes went to and fro
  CHECK(set.quiet());
  for (int i = 0; i < 3; ++i) {
    send_all(pair.server, "x");
    CHECK(set.next_report() == "IN");
    CHECK(set.quiet());
  }
}

TEST_CASE("epoll_wait: one-shot, a shot that was fired before stays fired", "[epoll_wait][epoll_ctl]") {
  const auto pair = connected({.enter = false});
  const EpollSet set;
  set.add(pair.client, EPOLLOUT | EPOLLONESHOT);
  CHECK(set.report() == "OUT");
  enter_lane(pair.server, pair.client);
  CHECK(set.quiet());
  set.modify(pair.client, EPOLLOUT | EPOLLONESHOT);
  CHECK(set.report() == "OUT");
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: a server that waits for each message of a connection from its first byte on", "[epoll_wait]") {
  for (const uint32_t flags : {0u, static_cast<uint32_t>(EPOLLET)}) {
    const auto pair = connected({.enter = false});
    const EpollSet set;
    set.add(pair.server, EPOLLIN | flags);
    bool all = true;
    std::thread server([&] {
      for (int i = 0; all && i < 500; ++i) {
        epoll_event event{};
        char byte;
        all = epoll_wait(set, &event, 1, 10'000) == 1 && recv(pair.server, &byte, 1, MSG_DONTWAIT) == 1 &&
              send(pair.server, &byte, 1, 0) == 1;
      }
    });
    bool answered = true;
    for (int i = 0; answered && i < 500; ++i) {
      char byte = 'x';
      if (send(pair.client, &byte, 1, 0) != 1 || recv(pair.client, &byte, 1, 0) != 1) answered = false;
      if (i % 100 == 0) std::this_thread::sleep_for(5ms);  // while the connection is on its way
    }
    server.join();
    CHECK(answered);
    CHECK(all);
    enter_lane(pair.client, pair.server);
  }
}

TEST_CASE("epoll_wait: a thread sleeps while its connection enters", "[epoll_wait]") {
  for (const uint32_t flags : {0u, static_cast<uint32_t>(EPOLLET), static_cast<uint32_t>(EPOLLONESHOT)}) {
    const auto pair = connected({.enter = false}), watched = connected({.enter = false});
    const EpollSet set;
    set.add(watched.client, EPOLLRDHUP | flags);  // which no byte wakes
    std::string seen;
    std::thread sleeper([&] {
      epoll_event event{};
      if (epoll_wait(set, &event, 1, 10'000) == 1) seen = names(event.events);
    });
    enter_lane(watched.server, watched.client);
    shutdown(watched.server, SHUT_WR);
    sleeper.join();
    CHECK(seen == "RDHUP");
    enter_lane(pair.client, pair.server);
  }
}

TEST_CASE("poll: a thread sleeps while its connection enters", "[poll][select]") {
  const auto watched = connected({.enter = false});
  short seen = 0;
  std::thread sleeper([&] { seen = awaited(watched.client, POLLRDHUP); });
  enter_lane(watched.server, watched.client);
  shutdown(watched.server, SHUT_WR);
  sleeper.join();
  CHECK(seen == POLLRDHUP);
}

TEST_CASE("epoll_ctl: a socket that is watched before its connect", "[epoll_ctl][epoll_wait][connect]") {
  const auto listener = listening();
  Pair pair;
  pair.client = stream_socket(Family::v4, SOCK_NONBLOCK);
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
  CHECK(set.report() == "OUT HUP");
  CHECK_FAILS(connect(pair.client, listener.name(), listener.size), EINPROGRESS);
  pair.server = Fd(accept(listener.fd, nullptr, nullptr));
  REQUIRE(pair.server >= 0);
  CHECK(set.next_report() == "OUT");
  enter_lane(pair.client, pair.server);
  set.wait();
  CHECK(set.quiet());
  send_all(pair.server, "x");
  CHECK(set.next_report() == "IN OUT");
}

TEST_CASE("epoll_wait: level, a connection that goes back to TCP is watched on", "[epoll_wait][send][tcp]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLPRI, 9);
  REQUIRE(send(pair.server, "!", 1, MSG_OOB) == 1);
  auto events = set.wait(kPatience);
  REQUIRE(events.size() == 1);
  CHECK(names(events[0].events) == "PRI");
  CHECK(events[0].data.u64 == 9);
  char byte;
  REQUIRE(recv(pair.client, &byte, 1, MSG_OOB) == 1);
  CHECK(set.quiet());
  send_all(pair.server, "x");
  CHECK(set.next_report() == "IN");
}

TEST_CASE("epoll_wait: edge, bytes after the way back to TCP are reported once", "[epoll_wait][send][tcp]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLET);
  REQUIRE(send(pair.client, "!", 1, MSG_OOB) == 1);
  CHECK(set.quiet());
  for (int i = 0; i < 3; ++i) {
    send_all(pair.server, "x");
    CHECK(set.next_report() == "IN");
    CHECK(set.quiet());
  }
}

TEST_CASE("epoll_wait: one-shot, a shot that was fired stays fired on the way back to TCP",
          "[epoll_wait][epoll_ctl][tcp]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLOUT | EPOLLONESHOT);
  CHECK(set.report() == "OUT");
  REQUIRE(send(pair.client, "!", 1, MSG_OOB) == 1);
  CHECK(set.quiet());
  set.modify(pair.client, EPOLLOUT | EPOLLONESHOT);
  CHECK(set.report() == "OUT");
}

TEST_CASE("epoll_wait: a thread sleeps while its connection goes back to TCP", "[epoll_wait][tcp]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLPRI | EPOLLET);
  std::string seen;
  std::thread sleeper([&] {
    epoll_event event{};
    if (epoll_wait(set, &event, 1, 10'000) == 1) seen = names(event.events);
  });
  REQUIRE(send(pair.server, "!", 1, MSG_OOB) == 1);
  sleeper.join();
  CHECK(seen == "PRI");
}
