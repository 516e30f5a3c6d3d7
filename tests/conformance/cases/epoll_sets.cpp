// Sets in sets, several sets, sets that are polled, copied and closed; descriptors that are copied, closed and used
// again.

#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include <csignal>
#include <map>
#include <set>

#include "../sets.hpp"

using namespace conformance;

namespace {

// The one event that `outer` reports is the inner set's; the inner set then reports the socket.
void check_nested(const EpollSet& outer, const EpollSet& inner, const Pair& pair) {
  CHECK(outer.quiet());
  for (int i = 0; i < 3; ++i) {
    arrive(pair, "x");
    const auto events = outer.wait(kPatience);
    REQUIRE(events.size() == 1);
    CHECK(events[0].data.u64 == static_cast<uint64_t>(static_cast<int>(inner)));
    CHECK(names(events[0].events) == "IN");
    CHECK(inner.report() == "IN");
    CHECK(outer.report() == "IN");  // level: still so
    receive(pair.client, 1);
    CHECK(outer.quiet());
    CHECK(inner.quiet());
  }
}

}  // namespace

TEST_CASE("epoll_ctl: a set in a set, with a socket from the start", "[epoll_ctl][epoll_wait]") {
  const auto pair = connected();
  const EpollSet outer, inner;
  inner.add(pair.client, EPOLLIN);
  outer.add(inner, EPOLLIN);
  check_nested(outer, inner, pair);
}

TEST_CASE("epoll_ctl: a set in a set before it has its first socket", "[epoll_ctl][epoll_wait]") {
  const auto pair = connected();
  const EpollSet outer, inner;
  outer.add(inner, EPOLLIN);
  inner.add(pair.client, EPOLLIN);
  check_nested(outer, inner, pair);
}

TEST_CASE("epoll_ctl: a set in a set before its socket is connected", "[epoll_ctl][epoll_wait]") {
  const EpollSet outer, inner;
  outer.add(inner, EPOLLIN);
  const auto pair = connected({.prepare = [&](int fd) {
    if (inner.control(EPOLL_CTL_ADD, fd, EPOLLIN, static_cast<uint64_t>(fd)) != 0) FAIL("ADD");
  }});
  inner.remove(pair.server);
  check_nested(outer, inner, pair);
}

TEST_CASE("epoll_ctl: a set in a set in a set", "[epoll_ctl][epoll_wait]") {
  const auto pair = connected();
  const EpollSet top, outer, inner;
  top.add(outer, EPOLLIN);
  outer.add(inner, EPOLLIN);
  inner.add(pair.client, EPOLLIN);
  CHECK(top.quiet());
  arrive(pair, "x");
  CHECK(top.next_report() == "IN");
  CHECK(outer.report() == "IN");
  CHECK(inner.report() == "IN");
  receive(pair.client, 1);
  CHECK(top.quiet());
}

TEST_CASE("epoll_wait: a set in a set, edge-triggered there", "[epoll_ctl][epoll_wait]") {
  const auto pair = connected();
  const EpollSet outer, inner;
  outer.add(inner, EPOLLIN | EPOLLET);
  inner.add(pair.client, EPOLLIN);
  for (int i = 0; i < 3; ++i) {
    arrive(pair, "x");
    CHECK(outer.next_report() == "IN");
    CHECK(outer.quiet());
  }
  CHECK(inner.report() == "IN");
}

TEST_CASE("epoll_wait: an edge-triggered socket in a set in a set", "[epoll_ctl][epoll_wait]") {
  const auto pair = connected();
  const EpollSet outer, inner;
  inner.add(pair.client, EPOLLIN | EPOLLET);
  outer.add(inner, EPOLLIN);
  arrive(pair, "x");
  CHECK(outer.next_report() == "IN");
  CHECK(outer.report() == "IN");  // until the inner set has told it
  CHECK(inner.report() == "IN");
  CHECK(outer.quiet());
  CHECK(inner.quiet());
}

TEST_CASE("epoll_wait: both sets of two sleep, and the socket is in the inner one", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet outer, inner;
  outer.add(inner, EPOLLIN);
  inner.add(pair.client, EPOLLIN);
  std::string seen;
  std::thread sleeper([&] {
    epoll_event event{};
    if (epoll_wait(outer, &event, 1, 10'000) == 1) seen = names(event.events);
  });
  send_all(pair.server, "x");
  sleeper.join();
  CHECK(seen == "IN");
}

TEST_CASE("poll, select: a set is readable when a socket in it is ready", "[poll][ppoll][select][pselect][epoll_ctl]") {
  const auto pair = connected();
  const EpollSet set;
  CHECK(polled(set, kAllEvents) == 0);
  set.add(pair.client, EPOLLIN);
  CHECK(polled(set, kAllEvents) == 0);
  send_all(pair.server, "x");
  CHECK(names(static_cast<uint16_t>(awaited(set, kAllEvents))) == "IN RDNORM");
  fd_set reads;
  FD_ZERO(&reads);
  FD_SET(set, &reads);
  timeval none{};
  CHECK(select(set + 1, &reads, nullptr, nullptr, &none) == 1);
  receive(pair.client, 1);
  CHECK(polled(set, kAllEvents) == 0);
}

TEST_CASE("poll: a set that gets its first socket while it is polled", "[poll][epoll_ctl]") {
  const auto pair = connected();
  const EpollSet set;
  short seen = 0;
  std::thread sleeper([&] {
    pollfd one{set, POLLIN, 0};
    if (poll(&one, 1, 10'000) == 1) seen = one.revents;
  });
  set.add(pair.client, EPOLLIN);
  send_all(pair.server, "x");
  sleeper.join();
  CHECK(seen == POLLIN);
}

TEST_CASE("epoll_wait: one socket in several sets, each with its own rules", "[epoll_ctl][epoll_wait]") {
  const auto pair = connected();
  const EpollSet level, edge, once, writing;
  level.add(pair.client, EPOLLIN, 1);
  edge.add(pair.client, EPOLLIN | EPOLLET, 2);
  once.add(pair.client, EPOLLIN | EPOLLONESHOT, 3);
  writing.add(pair.client, EPOLLOUT | EPOLLET, 4);
  CHECK(writing.report() == "OUT");
  for (int i = 0; i < 2; ++i) {
    arrive(pair, "x");
    CHECK(level.report() == "IN");
    CHECK(level.report() == "IN");
    CHECK(edge.report() == "IN");
    CHECK(edge.quiet(5ms));
    CHECK(once.report() == (i == 0 ? "IN" : ""));
    CHECK(writing.quiet(5ms));
  }
  edge.remove(pair.client);
  arrive(pair, "x");
  CHECK(edge.quiet());
  CHECK(level.report() == "IN");
}

TEST_CASE("close: a set that is closed leaves the others alone", "[close][epoll_wait]") {
  const auto pair = connected();
  const EpollSet stays;
  {
    const EpollSet goes;
    goes.add(pair.client, EPOLLIN);
    stays.add(pair.client, EPOLLIN);
    arrive(pair, "x");
    CHECK(goes.report() == "IN");
  }
  CHECK(stays.report() == "IN");
  receive(pair.client, 1);
  arrive(pair, "y");
  CHECK(stays.report() == "IN");
}

TEST_CASE("dup: a copy of a set is the same set", "[dup][epoll_wait][epoll_ctl]") {
  const auto pair = connected();
  EpollSet set;
  const EpollSet before{Fd(dup(set))};  // before it has a socket
  set.add(pair.client, EPOLLIN);
  const EpollSet after{Fd(dup(set))};
  arrive(pair, "x");
  CHECK(before.report() == "IN");
  CHECK(after.report() == "IN");
  CHECK(after.wait()[0].data.u64 == static_cast<uint64_t>(+pair.client));
  epoll_event event{};
  CHECK_FAILS(epoll_ctl(before, EPOLL_CTL_ADD, pair.client, &event), EEXIST);
  set.close();
  CHECK(before.report() == "IN");
  before.modify(pair.client, EPOLLOUT);
  CHECK(after.report() == "OUT");
  after.remove(pair.client);
  CHECK(before.quiet());
}

TEST_CASE("dup: two descriptors of one socket are two members", "[dup][epoll_ctl][epoll_wait]") {
  const auto pair = connected();
  const Fd copy(dup(pair.client));
  const EpollSet set;
  set.add(pair.client, EPOLLIN, 1);
  set.add(copy, EPOLLIN, 2);
  arrive(pair, "x");
  auto events = set.wait();
  REQUIRE(events.size() == 2);
  CHECK(events[0].data.u64 + events[1].data.u64 == 3);
  set.remove(pair.client);
  events = set.wait();
  REQUIRE(events.size() == 1);
  CHECK(events[0].data.u64 == 2);
}

TEST_CASE("close: a member stays while another descriptor of its socket is open", "[close][dup][epoll_wait]") {
  auto pair = connected();
  Fd copy(dup(pair.client));
  const EpollSet set;
  set.add(pair.client, EPOLLIN, 1);
  const int number = pair.client;
  pair.client.close();
  send_all(pair.server, "x");
  auto events = set.wait(kPatience);
  REQUIRE(events.size() == 1);
  CHECK(events[0].data.u64 == 1);
  epoll_event event{};
  CHECK_FAILS(epoll_ctl(set, EPOLL_CTL_DEL, number, &event), EBADF);
  CHECK_FAILS(epoll_ctl(set, EPOLL_CTL_DEL, copy, &event), ENOENT);
  CHECK(set.wait().size() == 1);
  copy.close();
  CHECK(set.quiet());
}

TEST_CASE("close: the number of a member that lives on may name something else", "[close][dup2][epoll_ctl]") {
  auto pair = connected();
  const Fd copy(dup(pair.client));
  const EpollSet set;
  const int number = pair.client;
  set.add(number, EPOLLIN, 1);
  const auto pipe = a_pipe();
  REQUIRE(dup2(pipe.out, number) == number);
  set.add(number, EPOLLIN, 2);  // not EEXIST
  send_all(pair.server, "x");
  auto events = set.wait(kPatience);
  REQUIRE(events.size() == 1);
  CHECK(events[0].data.u64 == 1);
  REQUIRE(write(pipe.in, "y", 1) == 1);
  std::set<uint64_t> seen;
  REQUIRE(eventually([&] {
    for (const auto& each : set.wait()) seen.insert(each.data.u64);
    return seen == std::set<uint64_t>{1, 2};
  }));
  set.remove(number);  // the pipe
  events = set.wait();
  REQUIRE(events.size() == 1);
  CHECK(events[0].data.u64 == 1);
}

TEST_CASE("close: removes the member, and the number is free for another", "[close][epoll_ctl][epoll_wait]") {
  auto old = connected();
  const EpollSet set;
  const int number = old.client;
  set.add(number, EPOLLIN, 1);
  send_all(old.server, "x");
  arrived(old.client, 1);
  auto fresh = connected();
  old.client.close();
  CHECK(set.quiet());
  REQUIRE(dup2(fresh.client, number) == number);
  const Fd again(number);
  CHECK(set.quiet());
  set.add(number, EPOLLIN, 2);
  send_all(fresh.server, "y");
  const auto events = set.wait(kPatience);
  REQUIRE(events.size() == 1);
  CHECK(events[0].data.u64 == 2);
}

TEST_CASE("close: a ready member that is closed is not reported any more", "[close][epoll_wait]") {
  auto one = connected(), two = connected();
  const EpollSet set;
  for (const auto* pair : {&one, &two}) {
    set.add(pair->client, EPOLLIN | EPOLLET);
    send_all(pair->server, "x");
    arrived(pair->client, 1);
  }
  one.client.close();
  const auto events = set.wait();
  REQUIRE(events.size() == 1);
  CHECK(events[0].data.u64 == static_cast<uint64_t>(+two.client));
}

TEST_CASE("epoll_wait: maxevents, all of many get their turn", "[epoll_wait]") {
  std::vector<Pair> pairs;
  const EpollSet set;
  for (int i = 0; i < 5; ++i) {
    pairs.push_back(connected());
    set.add(pairs.back().client, EPOLLIN, static_cast<uint64_t>(i));
    arrive(pairs.back(), "x");
  }
  for (const int room : {1, 2, 3}) {
    std::map<uint64_t, int> turns;
    for (int i = 0; i < 30; ++i) {
      const auto events = set.wait(0ms, room);
      REQUIRE(events.size() == static_cast<size_t>(room));
      for (const auto& event : events) ++turns[event.data.u64];
    }
    CHECK(turns.size() == 5);
    for (const auto& [which, count] : turns) CHECK(std::abs(count - 30 * room / 5) <= 1);
  }
}

TEST_CASE("epoll_wait: sockets and all kinds of other descriptors, with little room, get their turn", "[epoll_wait]") {
  const auto one = connected(), two = connected();
  const auto pipe = a_pipe();
  const auto listener = listening();
  const Fd counter(eventfd(1, EFD_CLOEXEC)), timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  const itimerspec soon{{}, {0, 1}};
  REQUIRE(timerfd_settime(timer, 0, &soon, nullptr) == 0);
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  REQUIRE(pthread_sigmask(SIG_BLOCK, &usr1, nullptr) == 0);
  REQUIRE(pthread_kill(pthread_self(), SIGUSR1) == 0);
  const Fd signals(signalfd(-1, &usr1, SFD_CLOEXEC));
  const auto waiting = stream_socket();
  REQUIRE(connect(waiting, listener.name(), listener.size) == 0);
  REQUIRE(write(pipe.in, "x", 1) == 1);
  arrive(one, "x");
  arrive(two, "x");
  REQUIRE(awaited(timer, POLLIN) == POLLIN);
  const EpollSet set;
  const int all[] = {one.client, two.client, pipe.out, listener.fd, counter, timer, signals};
  for (const int fd : all) set.add(fd, EPOLLIN);
  for (const int room : {1, 2, 3}) {
    std::set<uint64_t> seen;
    REQUIRE(eventually([&] {
      for (const auto& event : set.wait(0ms, room)) seen.insert(event.data.u64);
      return seen.size() == std::size(all);
    }));
  }
}

TEST_CASE("epoll_wait: a socket and a pipe that are ready come together", "[epoll_wait]") {
  const auto pair = connected();
  const auto pipe = a_pipe();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  set.add(pipe.out, EPOLLIN);
  CHECK(set.quiet());
  char byte;
  for (int i = 0; i < 200; ++i) {
    REQUIRE(write(pipe.in, "x", 1) == 1);
    arrive(pair, "x");
    CHECK(set.wait().size() == 2);
    CHECK(set.wait().size() == 2);  // and again, as long as both are
    REQUIRE(read(pipe.out, &byte, 1) == 1);
    CHECK(set.wait().size() == 1);
    REQUIRE(receive(pair.client, 1) == "x");
  }
}
