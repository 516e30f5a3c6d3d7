// epoll: when a descriptor is reported, and when again. Level, edge, one-shot, exclusive.

#include "../sets.hpp"

using namespace conformance;

TEST_CASE("epoll_wait: level, reported as long as it is so", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  CHECK(set.quiet());
  arrive(pair, "ab");
  for (int i = 0; i < 3; ++i) CHECK(set.report() == "IN");
  CHECK(receive(pair.client, 1) == "a");
  CHECK(set.report() == "IN");
  CHECK(receive(pair.client, 1) == "b");
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: level, both directions at once", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLOUT);
  CHECK(set.report() == "OUT");
  arrive(pair, "a");
  CHECK(set.report() == "IN OUT");
}

TEST_CASE("epoll_ctl: MOD from level to edge and back", "[epoll_ctl]") {
  const auto pair = connected();
  const EpollSet set;
  arrive(pair, "a");
  set.add(pair.client, EPOLLIN);
  CHECK(set.report() == "IN");
  set.modify(pair.client, EPOLLIN | EPOLLET);
  CHECK(set.report() == "IN");
  CHECK(set.quiet());
  set.modify(pair.client, EPOLLIN);
  CHECK(set.report() == "IN");
  CHECK(set.report() == "IN");
}

TEST_CASE("epoll_wait: edge, bytes are reported once", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLET);
  CHECK(set.quiet());
  arrive(pair, "a");
  CHECK(set.report() == "IN");
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: edge, new bytes behind unread ones are reported", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLET);
  for (int i = 0; i < 5; ++i) {
    arrive(pair, "a");
    CHECK(set.report() == "IN");
  }
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: edge, a part that was read makes no event", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLET);
  arrive(pair, "abc");
  CHECK(set.report() == "IN");
  CHECK(receive(pair.client, 1) == "a");
  CHECK(set.quiet());
  CHECK(receive(pair.client, 2) == "bc");
  CHECK(set.quiet());
  arrive(pair, "d");
  CHECK(set.report() == "IN");
}

TEST_CASE("epoll_wait: edge, bytes that were read before are not reported", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLET);
  arrive(pair, "abc");
  CHECK(receive(pair.client, 3) == "abc");
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: edge, bytes that were there before the ADD are reported", "[epoll_ctl][epoll_wait]") {
  const auto pair = connected();
  arrive(pair, "abc");
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLET);
  CHECK(set.report() == "IN");
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: edge, writability is reported once", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLOUT | EPOLLET);
  CHECK(set.report() == "OUT");
  CHECK(set.quiet());
  send_all(pair.client, "some bytes");
  receive(pair.server, 10);
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: edge, writable again after it was full", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLOUT | EPOLLET);
  CHECK(set.report() == "OUT");
  for (int i = 0; i < 2; ++i) {
    size_t sent = 0;
    // Buffers grow: a connection that was full may take more a moment later, which is an event of its own.
    REQUIRE(eventually([&] {
      sent += fill(pair.client);
      return set.quiet(30ms) && polled(pair.client, POLLOUT) == 0;
    }));
    receive(pair.server, sent);
    CHECK(set.next_report() == "OUT");
  }
}

TEST_CASE("epoll_wait: edge, an event tells all that is ready", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLOUT | EPOLLET);
  CHECK(set.report() == "OUT");
  CHECK(set.quiet());
  arrive(pair, "a");
  CHECK(set.report() == "IN OUT");
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: edge, bytes do not concern who asked for writability alone", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLOUT | EPOLLET);
  CHECK(set.report() == "OUT");
  arrive(pair, "a");
  CHECK(set.quiet());
}

TEST_CASE("epoll_ctl: edge, MOD reports at once what is ready", "[epoll_ctl]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLET);
  arrive(pair, "a");
  for (int i = 0; i < 3; ++i) {
    CHECK(set.report() == "IN");
    CHECK(set.quiet(5ms));
    set.modify(pair.client, EPOLLIN | EPOLLET);
  }
  CHECK(set.report() == "IN");
  receive(pair.client, 1);
  set.modify(pair.client, EPOLLIN | EPOLLET);
  CHECK(set.quiet());
}

TEST_CASE("epoll_ctl: edge, DEL and ADD report again", "[epoll_ctl]") {
  const auto pair = connected();
  const EpollSet set;
  arrive(pair, "a");
  for (int i = 0; i < 3; ++i) {
    set.add(pair.client, EPOLLIN | EPOLLET);
    CHECK(set.report() == "IN");
    CHECK(set.quiet(5ms));
    set.remove(pair.client);
    CHECK(set.quiet(5ms));
  }
}

TEST_CASE("epoll_wait: edge, the peer's shutdown is one event", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLRDHUP | EPOLLET);
  REQUIRE(shutdown(pair.server, SHUT_WR) == 0);
  CHECK(set.next_report() == "IN RDHUP");
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: edge, the peer's shutdown is an event also for who reads no more", "[epoll_wait][shutdown]") {
  const auto pair = connected();
  const EpollSet set;
  REQUIRE(shutdown(pair.client, SHUT_RD) == 0);
  set.add(pair.client, EPOLLIN | EPOLLRDHUP | EPOLLET);
  CHECK(set.next_report() == "IN RDHUP");
  CHECK(set.quiet());
  REQUIRE(shutdown(pair.server, SHUT_WR) == 0);
  CHECK(set.next_report() == "IN RDHUP");
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: edge, RDHUP alone comes with the peer's shutdown, behind unread bytes", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLRDHUP | EPOLLET);
  arrive(pair, "abc");
  CHECK(set.quiet());
  REQUIRE(shutdown(pair.server, SHUT_WR) == 0);
  CHECK(set.next_report() == "RDHUP");
  CHECK(set.quiet());
  CHECK(receive(pair.client, 10) == "abc");
}

TEST_CASE("epoll_wait: edge, our own shutdown of both halves is an event", "[epoll_wait][shutdown]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLRDHUP | EPOLLET);
  REQUIRE(shutdown(pair.client, SHUT_RDWR) == 0);
  CHECK(set.next_report() == "IN RDHUP HUP");
}

TEST_CASE("epoll_wait: edge, a reset is an event", "[epoll_wait]") {
  auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
  CHECK(set.report() == "OUT");
  reset_by_peer(pair);
  CHECK(set.next_report() == "IN OUT RDHUP ERR HUP");
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: level, a reset is told until the descriptor is closed", "[epoll_wait]") {
  auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  reset_by_peer(pair);
  CHECK(set.report() == "IN ERR HUP");
  CHECK(option(pair.client, SOL_SOCKET, SO_ERROR) == ECONNRESET);
  CHECK(set.report() == "IN HUP");
  CHECK(set.report() == "IN HUP");
  pair.client.close();
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: one-shot, one report and no more", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLONESHOT);
  arrive(pair, "a");
  CHECK(set.report() == "IN");
  CHECK(set.quiet());
  arrive(pair, "b");
  CHECK(set.quiet());
}

TEST_CASE("epoll_ctl: one-shot, MOD arms and reports at once what is ready", "[epoll_ctl]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLONESHOT);
  arrive(pair, "a");
  for (int i = 0; i < 3; ++i) {
    CHECK(set.report() == "IN");
    CHECK(set.quiet(5ms));
    set.modify(pair.client, EPOLLIN | EPOLLONESHOT);
  }
  CHECK(set.report() == "IN");
  receive(pair.client, 1);
  set.modify(pair.client, EPOLLIN | EPOLLONESHOT);
  CHECK(set.quiet());
  arrive(pair, "b");
  CHECK(set.report() == "IN");
}

TEST_CASE("epoll_wait: one-shot, one event disarms all of them", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLONESHOT);
  CHECK(set.report() == "OUT");
  arrive(pair, "a");
  REQUIRE(shutdown(pair.server, SHUT_WR) == 0);
  REQUIRE(awaited(pair.client, POLLRDHUP) == POLLRDHUP);
  CHECK(set.quiet());
  set.modify(pair.client, EPOLLIN | EPOLLRDHUP);
  CHECK(set.report() == "IN RDHUP");
}

TEST_CASE("epoll_wait: one-shot, not even a reset is told once it fired", "[epoll_wait]") {
  auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLOUT | EPOLLONESHOT);
  CHECK(set.report() == "OUT");
  reset_by_peer(pair);
  CHECK(set.quiet());
  set.modify(pair.client, EPOLLONESHOT);
  CHECK(set.report() == "ERR HUP");
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: one-shot and edge together", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLET | EPOLLONESHOT);
  arrive(pair, "a");
  CHECK(set.report() == "IN");
  arrive(pair, "b");
  CHECK(set.quiet());
  set.modify(pair.client, EPOLLIN | EPOLLET | EPOLLONESHOT);
  CHECK(set.report() == "IN");
  CHECK(set.quiet());
}

TEST_CASE("epoll_ctl: a one-shot descriptor that fired is still a member", "[epoll_ctl]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLOUT | EPOLLONESHOT);
  CHECK(set.report() == "OUT");
  epoll_event event{};
  CHECK_FAILS(epoll_ctl(set, EPOLL_CTL_ADD, pair.client, &event), EEXIST);
  set.remove(pair.client);
  set.add(pair.client, EPOLLOUT | EPOLLONESHOT);
  CHECK(set.report() == "OUT");
}

TEST_CASE("epoll_ctl: EPOLLEXCLUSIVE is level-triggered as any other", "[epoll_ctl]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLEXCLUSIVE);
  CHECK(set.quiet());
  arrive(pair, "a");
  CHECK(set.report() == "IN");
  CHECK(set.report() == "IN");
  receive(pair.client, 1);
  CHECK(set.quiet());
}

TEST_CASE("epoll_ctl: EPOLLEXCLUSIVE with EPOLLET is reported once", "[epoll_ctl]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLET | EPOLLEXCLUSIVE);
  arrive(pair, "a");
  CHECK(set.report() == "IN");
  CHECK(set.quiet());
}

TEST_CASE("epoll_ctl: EPOLLWAKEUP changes nothing that can be seen", "[epoll_ctl]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLWAKEUP);
  arrive(pair, "a");
  CHECK(set.report() == "IN");
  set.modify(pair.client, EPOLLIN | EPOLLWAKEUP | EPOLLET);
  CHECK(set.report() == "IN");
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: the 64 bits of data come back as they are", "[epoll_ctl][epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  for (const uint64_t data : {0xfedcba9876543210ull, 0ull, ~0ull, 1ull << 63}) {
    set.add(pair.client, EPOLLOUT, data);
    CHECK(set.wait().at(0).data.u64 == data);
    set.modify(pair.client, EPOLLOUT, data ^ 0xff);
    CHECK(set.wait().at(0).data.u64 == (data ^ 0xff));
    set.remove(pair.client);
  }
}

TEST_CASE("epoll_wait: both ends of a connection in one set", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  set.add(pair.server, EPOLLIN);
  CHECK(set.quiet());
  for (int i = 0; i < 3; ++i) {
    send_all(pair.client, "ping");
    auto events = set.wait(kPatience);
    REQUIRE(events.size() == 1);
    CHECK(events[0].data.u64 == static_cast<uint64_t>(+pair.server));
    receive(pair.server, 4);
    send_all(pair.server, "pong");
    events = set.wait(kPatience);
    REQUIRE(events.size() == 1);
    CHECK(events[0].data.u64 == static_cast<uint64_t>(+pair.client));
    receive(pair.client, 4);
  }
}
