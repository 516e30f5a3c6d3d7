// Sets that several threads use: what changes while one of them sleeps there, and who gets an event.

#include <atomic>
#include <map>

#include "../sets.hpp"
#include "../signals.hpp"

using namespace conformance;

namespace {

// A thread that sleeps in the set until one event comes; what it was.
class Sleeper {
 public:
  explicit Sleeper(int set) : caller_([this, set] { return epoll_wait(set, &event_, 1, 10'000); }) {
    REQUIRE(caller_.asleep());
  }
  std::string seen() { return caller_.join().value == 1 ? names(event_.events) : ""; }
  uint64_t data() const { return event_.data.u64; }

 private:
  epoll_event event_{};
  Caller caller_;
};

}  // namespace

TEST_CASE("epoll_wait: bytes wake who sleeps", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  Sleeper sleeper(set);
  send_all(pair.server, "x");
  CHECK(sleeper.seen() == "IN");
}

TEST_CASE("epoll_ctl: ADD of a ready socket wakes who sleeps in an empty set", "[epoll_ctl][epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  Sleeper sleeper(set);
  set.add(pair.client, EPOLLOUT, 0x123456789abcdef0);
  CHECK(sleeper.seen() == "OUT");
  CHECK(sleeper.data() == 0x123456789abcdef0);
}

TEST_CASE("epoll_ctl: ADD to an empty set in which a thread sleeps, and bytes later", "[epoll_ctl][epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  Sleeper sleeper(set);
  set.add(pair.client, EPOLLIN, 7);
  send_all(pair.server, "x");
  CHECK(sleeper.seen() == "IN");
  CHECK(sleeper.data() == 7);
}

TEST_CASE("epoll_ctl: several threads sleep in an empty set that gets its first sockets", "[epoll_ctl][epoll_wait]") {
  std::vector<Pair> pairs;
  for (int i = 0; i < 3; ++i) pairs.push_back(connected());
  const EpollSet set;
  {
    Sleeper one(set), two(set), three(set);
    for (size_t i = 0; i < pairs.size(); ++i) {
      set.add(pairs[i].client, EPOLLIN | EPOLLONESHOT, i);
      send_all(pairs[i].server, "x");
    }
    CHECK(one.seen() == "IN");
    CHECK(two.seen() == "IN");
    CHECK(three.seen() == "IN");
    CHECK(one.data() + two.data() + three.data() == 3);
    CHECK(one.data() != two.data());
  }
  CHECK(set.quiet());
}

TEST_CASE("epoll_ctl: a thread has slept in the set since before there was any connection", "[epoll_ctl][epoll_wait]") {
  const EpollSet set;
  Sleeper sleeper(set);
  const auto pair = connected();
  set.add(pair.client, EPOLLIN, 5);
  send_all(pair.server, "x");
  CHECK(sleeper.seen() == "IN");
  CHECK(sleeper.data() == 5);
}

TEST_CASE("epoll_ctl: MOD to what is ready wakes who sleeps", "[epoll_ctl][epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN, 1);
  Sleeper sleeper(set);
  set.modify(pair.client, EPOLLOUT, 2);
  CHECK(sleeper.seen() == "OUT");
  CHECK(sleeper.data() == 2);
}

TEST_CASE("epoll_ctl: DEL while a thread sleeps, and then another socket", "[epoll_ctl][epoll_wait]") {
  const auto gone = connected(), stays = connected();
  const EpollSet set;
  set.add(gone.client, EPOLLIN, 1);
  set.add(stays.client, EPOLLIN, 2);
  Sleeper sleeper(set);
  set.remove(gone.client);
  send_all(gone.server, "x");
  arrived(gone.client, 1);
  send_all(stays.server, "x");
  CHECK(sleeper.seen() == "IN");
  CHECK(sleeper.data() == 2);
}

TEST_CASE("close: of a member while a thread sleeps in the set", "[close][epoll_wait]") {
  auto gone = connected();
  const auto stays = connected();
  const EpollSet set;
  set.add(gone.client, EPOLLIN | EPOLLRDHUP, 1);
  set.add(stays.client, EPOLLIN, 2);
  Sleeper sleeper(set);
  gone.client.close();
  gone.server.close();
  send_all(stays.server, "x");
  CHECK(sleeper.seen() == "IN");
  CHECK(sleeper.data() == 2);
}

TEST_CASE("close: of a set in which a thread sleeps does not wake it", "[close][epoll_wait]") {
  const auto pair = connected();
  EpollSet set;
  const EpollSet copy{Fd(dup(set))};
  set.add(pair.client, EPOLLIN);
  Sleeper sleeper(set);
  set.close();
  send_all(pair.server, "x");
  CHECK(sleeper.seen() == "IN");
}

TEST_CASE("epoll_wait: a pipe wakes who sleeps among sockets", "[epoll_wait]") {
  const auto pair = connected();
  const auto pipe = a_pipe();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  set.add(pipe.out, EPOLLIN, 5);
  Sleeper sleeper(set);
  REQUIRE(write(pipe.in, "x", 1) == 1);
  CHECK(sleeper.seen() == "IN");
  CHECK(sleeper.data() == 5);
}

TEST_CASE("epoll_wait: the peer's shutdown, close and reset wake who sleeps", "[epoll_wait]") {
  for (int how = 0; how < 3; ++how) {
    auto pair = connected();
    const EpollSet set;
    set.add(pair.client, EPOLLIN | EPOLLRDHUP);
    Sleeper sleeper(set);
    if (how == 0) REQUIRE(shutdown(pair.server, SHUT_WR) == 0);
    if (how == 1) pair.server.close();
    if (how == 2) reset_by_peer(pair);
    CHECK(sleeper.seen() == (how == 2 ? "IN RDHUP ERR HUP" : "IN RDHUP"));
  }
}

TEST_CASE("epoll_wait: writability wakes who sleeps", "[epoll_wait]") {
  const auto pair = connected();
  const auto sent = fill(pair.client);
  const EpollSet set;
  set.add(pair.client, EPOLLOUT);
  Sleeper sleeper(set);
  receive(pair.server, sent);
  CHECK(sleeper.seen() == "OUT");
}

TEST_CASE("epoll_wait: EPOLLEXCLUSIVE wakes at least one of those who sleep in several sets",
          "[epoll_wait][epoll_ctl]") {
  const auto pair = connected();
  const auto pipe = a_pipe();
  std::atomic<int> woken{0};
  std::vector<EpollSet> sets(3);
  std::vector<std::thread> threads;
  for (const auto& set : sets) {
    set.add(pair.client, EPOLLIN | EPOLLEXCLUSIVE, 1);
    set.add(pipe.out, EPOLLIN, 2);
    threads.emplace_back([&woken, fd = static_cast<int>(set)] {
      epoll_event event{};
      if (epoll_wait(fd, &event, 1, 10'000) == 1 && event.data.u64 == 1) ++woken;
    });
  }
  send_all(pair.server, "x");
  CHECK(eventually([&] { return woken > 0; }));
  REQUIRE(write(pipe.in, "x", 1) == 1);
  for (auto& thread : threads) thread.join();
  CHECK(woken >= 1);
}

namespace {

// Four threads in one set take `rounds` events, one after the other; how many they took in all, and a little later.
int taken_by_threads(uint32_t flags, int rounds) {
  const auto pair = connected();
  const auto end = a_pipe();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | flags, 1);
  set.add(end.out, EPOLLIN, 2);
  std::atomic<int> taken{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (;;) {
        epoll_event event{};
        if (epoll_wait(set, &event, 1, 10'000) != 1 || event.data.u64 == 2) return;
        ++taken;
      }
    });
  bool all = true;
  for (int i = 1; all && i <= rounds; ++i) {
    if (i > 1 && (flags & EPOLLONESHOT)) set.modify(pair.client, EPOLLIN | flags, 1);
    send_all(pair.server, "x");
    all = eventually([&] { return taken >= i; });
    char byte;
    if (recv(pair.client, &byte, 1, 0) != 1) all = false;
  }
  std::this_thread::sleep_for(20ms);
  if (write(end.in, "x", 1) != 1) all = false;
  for (auto& thread : threads) thread.join();
  return all ? taken.load() : -1;
}

}  // namespace

TEST_CASE("epoll_wait: several threads in a set, each edge is for one", "[epoll_wait]") {
  CHECK(taken_by_threads(EPOLLET, 50) == 50);
}

TEST_CASE("epoll_wait: several threads in a set, each shot is for one", "[epoll_wait][epoll_ctl]") {
  CHECK(taken_by_threads(EPOLLONESHOT, 50) == 50);
}

TEST_CASE("epoll_wait: several threads in a set, two ready sockets keep two of them busy", "[epoll_wait]") {
  const auto one = connected(), two = connected();
  const EpollSet set;
  set.add(one.client, EPOLLIN | EPOLLET, 1);
  set.add(two.client, EPOLLIN | EPOLLET, 2);
  Sleeper first(set), second(set);
  send_all(one.server, "x");
  send_all(two.server, "x");
  CHECK(first.seen() == "IN");
  CHECK(second.seen() == "IN");
  CHECK(first.data() + second.data() == 3);
}

TEST_CASE("poll: bytes for any of many sockets wake who sleeps", "[poll][ppoll][select][pselect]") {
  std::vector<Pair> pairs;
  for (int i = 0; i < 4; ++i) pairs.push_back(connected());
  for (int call = 0; call < 4; ++call) {
    int found = 0;
    const auto& ready = pairs[static_cast<size_t>(call)];
    std::thread sleeper([&] {
      pollfd fds[4];
      fd_set reads;
      FD_ZERO(&reads);
      int most = 0;
      for (size_t i = 0; i < 4; ++i)
        fds[i] = {pairs[i].client, POLLIN, 0}, FD_SET(fds[i].fd, &reads), most = std::max(most, fds[i].fd);
      timeval time{10, 0};
      const timespec precise{10, 0};
      if (call == 0) found = poll(fds, 4, 10'000);
      if (call == 1) found = ppoll(fds, 4, &precise, nullptr);
      if (call == 2) found = select(most + 1, &reads, nullptr, nullptr, &time) == 1 && FD_ISSET(ready.client, &reads);
      if (call == 3)
        found = pselect(most + 1, &reads, nullptr, nullptr, &precise, nullptr) == 1 && FD_ISSET(ready.client, &reads);
      if (call < 2 && fds[call].revents != POLLIN) found = -1;
    });
    send_all(ready.server, "x");
    sleeper.join();
    CHECK(found == 1);
    receive(ready.client, 1);
  }
}
