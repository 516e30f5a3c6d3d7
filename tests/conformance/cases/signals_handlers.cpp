// Handlers that use sockets, whatever they interrupt; and streams under a storm of signals.

#include <sys/time.h>

#include "../child.hpp"
#include "../signals.hpp"

using namespace conformance;

namespace {

// SIGALRM every 200 us of a thread's time or of the clock, while it lives.
class Storm {
 public:
  Storm() {
    const itimerval often{{0, 200}, {0, 200}};
    setitimer(ITIMER_REAL, &often, nullptr);
  }
  ~Storm() {
    const itimerval off{};
    setitimer(ITIMER_REAL, &off, nullptr);
  }
};

constexpr size_t kStream = 4 << 20;

// Sends all of it, by calls that signals may end.
template <class Wait>
long pour(int fd, const std::string& bytes, Wait wait) {
  size_t done = 0;
  while (done < bytes.size()) {
    const auto sent = send(fd, bytes.data() + done, std::min<size_t>(bytes.size() - done, 50'000), 0);
    if (sent > 0)
      done += static_cast<size_t>(sent);
    else if (errno == EAGAIN)
      wait(fd, POLLOUT);
    else if (errno != EINTR)
      return -errno;
  }
  return 0;
}
template <class Wait>
long drink(int fd, const std::string& bytes, Wait wait) {
  std::string got(bytes.size(), '\0');
  size_t done = 0;
  while (done < got.size()) {
    const auto taken = recv(fd, got.data() + done, std::min<size_t>(got.size() - done, 30'000), 0);
    if (taken > 0)
      done += static_cast<size_t>(taken);
    else if (taken == 0)
      return -1000;
    else if (errno == EAGAIN)
      wait(fd, POLLIN);
    else if (errno != EINTR)
      return -errno;
  }
  return got == bytes ? 0 : -2000;
}

// Streams of known bytes both ways at once, under the storm.
template <class Wait>
void streams_in_storm(bool nonblocking, int flags, Wait wait) {
  const Action action(SIGALRM, count_signal, flags);
  const auto pair = connected({.nonblocking = nonblocking});
  const auto there = pattern(kStream, 1), back = pattern(kStream, 2);
  handled = 0;
  std::vector<Outcome> outcomes;
  {
    const Storm storm;
    Caller a([&] { return pour(pair.client, there, wait); });
    Caller b([&] { return drink(pair.server, there, wait); });
    Caller c([&] { return pour(pair.server, back, wait); });
    Caller d([&] { return drink(pair.client, back, wait); });
    for (auto* caller : {&a, &b, &c, &d}) outcomes.push_back(caller->join());
  }
  for (const auto& outcome : outcomes) CHECK(outcome.value == 0);
  CHECK(handled > 0);
}

const auto no_wait = [](int, short) {};
const auto by_poll = [](int fd, short events) {
  pollfd one{fd, events, 0};
  poll(&one, 1, -1);
};
const auto by_epoll = [](int fd, short events) { waiters[4].call(fd, events, -1); };

// What handlers work on.
int handler_from = -1, handler_to = -1, interrupted_fd = -1;
std::atomic<int> wrong{0};
void ping_pong(int) {
  const int saved = errno;
  char byte = 'h';
  pollfd one{handler_to, POLLIN, 0};
  if (send(handler_from, &byte, 1, MSG_DONTWAIT) != 1 || poll(&one, 1, 1000) != 1 ||
      recv(handler_to, &byte, 1, MSG_DONTWAIT) != 1 || byte != 'h')
    ++wrong;
  ++handled;
  errno = saved;
}
void send_on_it(int) {
  const int saved = errno;
  if (send(interrupted_fd, "h", 1, MSG_DONTWAIT) != 1 && errno != EAGAIN) ++wrong;
  ++handled;
  errno = saved;
}
char byte;

// Catch's own take memory each time, and a handler that waits may need some: it must not interrupt that.
#define HOLDS(...) \
  if (!(__VA_ARGS__)) FAIL(#__VA_ARGS__)

}  // namespace

TEST_CASE("storm: blocking streams with SA_RESTART lose nothing", "[send][recv]") {
  streams_in_storm(false, SA_RESTART, no_wait);
}
TEST_CASE("storm: blocking streams with EINTR lose nothing", "[send][recv]") { streams_in_storm(false, 0, no_wait); }
TEST_CASE("storm: streams of a program that polls lose nothing", "[send][recv][poll]") {
  streams_in_storm(true, 0, by_poll);
}
TEST_CASE("storm: streams of a program with epoll lose nothing", "[send][recv][epoll_wait]") {
  streams_in_storm(true, SA_RESTART, by_epoll);
}

TEST_CASE("storm: one thread that talks to itself", "[send][recv]") {
  const Action action(SIGALRM, count_signal, SA_RESTART);
  const auto pair = connected();
  handled = 0;
  const Storm storm;
  for (int i = 0; handled < 100 || i < 1000; ++i) {
    REQUIRE(send(pair.client, &i, sizeof i, 0) == sizeof i);
    int got = -1;
    REQUIRE(recv(pair.server, &got, sizeof got, MSG_WAITALL) > 0);
    REQUIRE(got == i);
  }
}

TEST_CASE("handler: talks on another connection, whatever call it interrupts",
          "[send][recv][poll][epoll_wait][sigaction]") {
  const Action action(SIGALRM, ping_pong, SA_RESTART);
  const auto pair = connected();
  const auto other = connected();
  handler_from = other.client, handler_to = other.server;
  handled = wrong = 0;
  {
    const Storm storm;
    for (int i = 0; handled < 200 || i < 500; ++i) {
      HOLDS(send(pair.client, &i, sizeof i, 0) == sizeof i);
      int ready;
      const auto& waiter = waiters[static_cast<size_t>(i) % waiters.size()];
      while ((ready = waiter.call(pair.server, POLLIN, -1)) < 0) HOLDS(errno == EINTR);
      HOLDS(ready == 1);
      int got = -1;
      HOLDS(recv(pair.server, &got, sizeof got, MSG_WAITALL) == sizeof got);
      HOLDS(got == i);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("handler: sends on the very socket that its thread works on", "[send][recv][sigaction]") {
  const Action action(SIGALRM, send_on_it, SA_RESTART);
  const auto pair = connected();
  interrupted_fd = pair.client;
  handled = wrong = 0;
  long others = 0;
  {
    const Storm storm;
    char bytes[64];
    for (int i = 0; handled < 200 || i < 500; ++i) {
      HOLDS(send(pair.client, "m", 1, 0) == 1);
      for (bool mine = false; !mine;) {
        const auto got = recv(pair.server, bytes, sizeof bytes, 0);
        HOLDS(got > 0);
        for (ssize_t k = 0; k < got; ++k) bytes[k] == 'm' ? mine = true : ++others > 0;
      }
    }
  }
  CHECK(wrong == 0);
  while (polled(pair.server, POLLIN)) others += static_cast<long>(receive(pair.server, 1).size());
  CHECK(eventually([&] {
    if (polled(pair.server, POLLIN)) others += static_cast<long>(receive(pair.server, 1).size());
    return others == handled;
  }));
}

TEST_CASE("handler: feeds the recv that it interrupts", "[recv][sigaction]") {
  const Action action(SIGUSR1, send_on_it, SA_RESTART);
  const auto pair = connected();
  interrupted_fd = pair.client;
  handled = wrong = 0;
  Caller caller([&] { return recv(pair.server, &byte, 1, 0); });
  REQUIRE(caller.asleep());
  caller.signal(SIGUSR1);
  CHECK(caller.join().value == 1);
  CHECK(byte == 'h');
  CHECK(wrong == 0);
}

TEST_CASE("handler: shuts down the connection whose recv it interrupts", "[recv][shutdown][sigaction]") {
  const Action action(
      SIGUSR1, [](int) { shutdown(interrupted_fd, SHUT_RDWR); }, SA_RESTART);
  const auto pair = connected();
  interrupted_fd = pair.server;
  Caller caller([&] { return recv(pair.server, &byte, 1, 0); });
  REQUIRE(caller.asleep());
  caller.signal(SIGUSR1);
  CHECK(caller.join().value == 0);
}

TEST_CASE("handler: closes a connection while its thread waits for another", "[recv][close][sigaction]") {
  const Action action(
      SIGUSR1, [](int) { close(interrupted_fd); }, SA_RESTART);
  const auto pair = connected();
  auto other = connected();
  interrupted_fd = other.server.release();
  Caller caller([&] { return recv(pair.server, &byte, 1, 0); });
  REQUIRE(caller.asleep());
  caller.signal(SIGUSR1);
  CHECK(receive(other.client, 1).empty());
  send_all(pair.client, "x");
  CHECK(caller.join().value == 1);
}

TEST_CASE("handler: waits for another connection, whose bytes come when all threads sleep",
          "[epoll_wait][recv][poll][sigaction]") {
  static std::atomic<bool> waiting, heard;
  waiting = heard = false;
  const Action action(
      SIGUSR1,
      [](int) {
        waiting = true;
        pollfd one{interrupted_fd, POLLIN, 0};
        heard = poll(&one, 1, 5000) == 1;
      },
      0);
  const auto pair = connected(), other = connected(), third = connected();
  interrupted_fd = other.server;
  const Fd set(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{EPOLLIN, {}};
  REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, pair.server, &event) == 0);
  Caller caller([&] { return epoll_wait(set, &event, 1, -1); });
  REQUIRE(caller.asleep());
  // Another one waits while the handler does.
  char got = 0;
  Caller beside([&] { return recv(third.server, &got, 1, 0); });
  REQUIRE(beside.asleep());
  caller.signal(SIGUSR1);
  REQUIRE(eventually([&] { return waiting.load(); }));
  REQUIRE(caller.asleep());
  send_all(third.client, "t");
  CHECK(beside.join().value == 1);
  send_all(other.client, "x");
  const auto outcome = caller.join();
  CHECK(heard);
  CHECK(outcome.value == -1);
  CHECK(outcome.error == EINTR);
}

TEST_CASE("handler: forks while its thread waits, and others do", "[fork][recv][sigaction]") {
  static std::atomic<pid_t> child;
  child = 0;
  const Action action(
      SIGUSR1, [](int) { child = fork(); }, 0);
  const auto pair = connected(), other = connected();
  for (const bool first : {true, false}) {
    INFO("the one that waited first: " << first);
    child = -1;
    const auto wait_for = [&](int fd) {
      return [fd] {
        char got = 0;
        const auto answer = recv(fd, &got, 1, 0);
        if (child == 0) _exit(answer == -1 && errno == EINTR ? 0 : 1);
        return answer;
      };
    };
    Caller one(wait_for(pair.server));
    REQUIRE(one.asleep());
    Caller two(wait_for(other.server));
    REQUIRE(two.asleep());
    auto& forks = first ? one : two;
    forks.signal(SIGUSR1);
    REQUIRE(eventually([&] { return child > 0; }));
    CHECK(status_of(child) == 0);
    CHECK(forks.join().error == EINTR);
    (first ? two : one).signal(SIGUSR1);
    CHECK((first ? two : one).join().error == EINTR);
    CHECK(status_of(child) == 0);
  }
}

TEST_CASE("handler: makes a connection of its own", "[connect][accept][socket][sigaction]") {
  static std::atomic<int> made{0};
  static Listener listener = listening();
  const Action action(
      SIGUSR1,
      [](int) {
        const int client = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(client, listener.name(), listener.size) == 0) {
          const int server = accept(listener.fd, nullptr, nullptr);
          char got = 0;
          if (send(client, "x", 1, 0) == 1 && recv(server, &got, 1, 0) == 1) ++made;
          close(server);
        }
        close(client);
      },
      SA_RESTART);
  const auto pair = connected();
  Caller caller([&] { return recv(pair.server, &byte, 1, 0); });
  REQUIRE(caller.asleep());
  for (int i = 1; i <= 5; ++i) {
    caller.signal(SIGUSR1);
    CHECK(eventually([&] { return made == i; }));
  }
  send_all(pair.client, "x");
  CHECK(caller.join().value == 1);
}

TEST_CASE("handler: runs on a stack of its own of the least size", "[sigaltstack][send][recv][sigaction]") {
  static std::vector<char> memory(static_cast<size_t>(sysconf(_SC_MINSIGSTKSZ)) + 6 * 1024);
  const stack_t stack{memory.data(), 0, memory.size()};
  const Action action(
      SIGUSR1,
      [](int) {
        char got = 0;
        if (send(handler_from, "h", 1, MSG_DONTWAIT) != 1 || recv(handler_to, &got, 1, 0) != 1 || got != 'h') ++wrong;
        ++handled;
      },
      SA_ONSTACK | SA_RESTART);
  const auto pair = connected(), other = connected();
  handler_from = other.client, handler_to = other.server;
  handled = wrong = 0;
  Caller caller([&] {
    sigaltstack(&stack, nullptr);
    return recv(pair.server, &byte, 1, 0);
  });
  REQUIRE(caller.asleep());
  caller.signal_until(SIGUSR1, [] { return handled >= 20; });
  send_all(pair.client, "x");
  CHECK(caller.join().value == 1);
  CHECK(wrong == 0);
}
