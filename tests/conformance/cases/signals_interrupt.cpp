// Calls that a handler interrupts: EINTR, or on with them.

#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/time.h>

#include "../signals.hpp"

using namespace conformance;

namespace {

// Bigger than what any socket takes.
constexpr size_t kMuch = 64 << 20;

std::string& much() {
  static std::string bytes(kMuch, 'm');
  return bytes;
}

// The byte that every call here reads or would.
char& one_byte() {
  static char byte;
  return byte;
}

void check_reads_end() {
  const auto pair = connected();
  for (const int fd : {+pair.client, +pair.server})
    for (const auto& reader : readers) {
      INFO(reader.name);
      Caller caller([&] { return reader.call(fd, &one_byte(), 1); });
      REQUIRE(caller.asleep());
      caller.signal_until(SIGUSR1);
      const auto outcome = caller.join();
      CHECK(outcome.value == -1);
      CHECK(outcome.error == EINTR);
    }
}

}  // namespace

TEST_CASE("recv and its kin: EINTR when a handler interrupts them",
          "[read][readv][recv][recvfrom][recvmsg][recvmmsg]") {
  const Action action(SIGUSR1, count_signal);
  check_reads_end();
}

TEST_CASE("recv and its kin: go on after a handler with SA_RESTART",
          "[read][readv][recv][recvfrom][recvmsg][recvmmsg]") {
  const Action action(SIGUSR1, count_signal, SA_RESTART);
  const auto pair = connected();
  for (const auto& reader : readers) {
    INFO(reader.name);
    handled = 0;
    Caller caller([&] { return reader.call(pair.server, &one_byte(), 1); });
    REQUIRE(caller.asleep());
    caller.signal_until(SIGUSR1, [] { return handled >= 5; });
    CHECK(!caller.done());
    send_all(pair.client, "x");
    CHECK(caller.join().value == 1);
  }
}

// The kernel's socket still takes a few bytes now and then after it refused some: such calls end with what they moved.
Outcome interrupted_in_vain(const std::function<long()>& call) {
  for (;;) {
    Caller caller(call);
    if (caller.asleep()) caller.signal_until(SIGUSR1);
    const auto outcome = caller.join();
    if (outcome.value <= 0) return outcome;
  }
}

TEST_CASE("send and its kin: EINTR when a handler interrupts them and nothing was taken",
          "[write][writev][send][sendto][sendmsg][sendmmsg]") {
  const Action action(SIGUSR1, count_signal);
  const auto pair = connected();
  for (const auto& writer : writers) {
    INFO(writer.name);
    fill(pair.client);
    const auto outcome = interrupted_in_vain([&] { return writer.call(pair.client, much().data(), kMuch); });
    CHECK(outcome.value == -1);
    CHECK(outcome.error == EINTR);
  }
}

TEST_CASE("send and its kin: go on after a handler with SA_RESTART",
          "[write][writev][send][sendto][sendmsg][sendmmsg]") {
  constexpr size_t kSize = 1 << 20;
  const Action action(SIGUSR1, count_signal, SA_RESTART);
  for (const auto& writer : writers) {
    INFO(writer.name);
    const auto pair = connected();
    size_t sent = fill(pair.client);
    bool restarted = false;
    while (!restarted) {
      handled = 0;
      Caller caller([&] { return writer.call(pair.client, much().data(), kSize); });
      REQUIRE(caller.asleep());
      caller.signal_until(SIGUSR1, [] { return handled >= 5; });
      restarted = caller.asleep();
      if (restarted) {
        CHECK(receive(pair.server, sent + kSize).size() == sent + kSize);
        CHECK(caller.join().value == static_cast<long>(kSize));
      } else {  // it had moved something before
        const auto moved = caller.join().value;
        REQUIRE(moved > 0);
        sent += static_cast<size_t>(moved);
      }
    }
  }
}

TEST_CASE("send: interrupted after a part was taken, it is short, with SA_RESTART too", "[send][write]") {
  for (const int flags : {0, SA_RESTART}) {
    const Action action(SIGUSR1, count_signal, flags);
    const auto pair = connected();
    Caller caller([&] { return send(pair.client, much().data(), kMuch, 0); });
    REQUIRE(caller.asleep());
    caller.signal_until(SIGUSR1);
    const auto outcome = caller.join();
    REQUIRE(outcome.value > 0);
    CHECK(outcome.value < static_cast<long>(kMuch));
    CHECK(receive(pair.server, static_cast<size_t>(outcome.value)).size() == static_cast<size_t>(outcome.value));
  }
}

TEST_CASE("recv: MSG_WAITALL gives what came before the handler, with SA_RESTART too", "[recv][recvmsg]") {
  for (const int flags : {0, SA_RESTART}) {
    const Action action(SIGUSR1, count_signal, flags);
    const auto pair = connected();
    send_all(pair.client, "four");
    arrived(pair.server, 4);
    char buffer[10];
    Caller caller([&] { return recv(pair.server, buffer, sizeof buffer, MSG_WAITALL); });
    REQUIRE(caller.asleep());
    caller.signal_until(SIGUSR1);
    CHECK(caller.join().value == 4);
  }
}

TEST_CASE("SO_RCVTIMEO: with a time limit recv is not restarted", "[recv][read][setsockopt]") {
  const Action action(SIGUSR1, count_signal, SA_RESTART);
  const timeval limit{30, 0};
  const auto pair =
      connected({.prepare = [&](int fd) { setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit); }});
  Caller caller([&] { return recv(pair.server, &one_byte(), 1, 0); });
  REQUIRE(caller.asleep());
  caller.signal_until(SIGUSR1);
  const auto outcome = caller.join();
  CHECK(outcome.value == -1);
  CHECK(outcome.error == EINTR);
}

TEST_CASE("SO_SNDTIMEO: with a time limit send is not restarted", "[send][write][setsockopt]") {
  const Action action(SIGUSR1, count_signal, SA_RESTART);
  const timeval limit{30, 0};
  const auto pair =
      connected({.prepare = [&](int fd) { setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit); }});
  fill(pair.client);
  const auto outcome = interrupted_in_vain([&] { return send(pair.client, much().data(), kMuch, 0); });
  CHECK(outcome.value == -1);
  CHECK(outcome.error == EINTR);
}

TEST_CASE("sendfile: short when a handler interrupts it", "[sendfile][sendfile64]") {
  const Action action(SIGUSR1, count_signal);
  const Fd file(memfd_create("much", MFD_CLOEXEC));
  REQUIRE(ftruncate(file, kMuch) == 0);
  const auto pair = connected();
  Caller caller([&] { return sendfile(pair.client, file, nullptr, kMuch); });
  REQUIRE(caller.asleep());
  caller.signal_until(SIGUSR1);
  const auto outcome = caller.join();
  REQUIRE(outcome.value > 0);
  CHECK(outcome.value < static_cast<long>(kMuch));
  CHECK(lseek(file, 0, SEEK_CUR) == outcome.value);
  CHECK(receive(pair.server, static_cast<size_t>(outcome.value)).size() == static_cast<size_t>(outcome.value));
}

TEST_CASE("poll and its kin: EINTR, whatever the handler's flags",
          "[poll][ppoll][select][pselect][epoll_wait][epoll_pwait][epoll_pwait2]") {
  const auto pair = connected();
  for (const int flags : {0, SA_RESTART}) {
    const Action action(SIGUSR1, count_signal, flags);
    for (const auto& waiter : waiters)
      for (const int ms : {-1, 30'000}) {
        INFO(waiter.name << " for " << ms << " ms");
        Caller caller([&] { return waiter.call(pair.server, POLLIN, ms); });
        REQUIRE(caller.asleep());
        caller.signal_until(SIGUSR1);
        const auto outcome = caller.join();
        CHECK(outcome.value == -1);
        CHECK(outcome.error == EINTR);
      }
  }
}

TEST_CASE("poll and its kin: what is ready comes before EINTR",
          "[poll][ppoll][select][pselect][epoll_wait][epoll_pwait][epoll_pwait2]") {
  const Action action(SIGUSR1, count_signal);
  const auto pair = connected();
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  for (const auto& waiter : waiters) {
    INFO(waiter.name);
    raise(SIGUSR1);
    CHECK(waiter.call(pair.server, POLLIN, -1) == 1);
  }
}

TEST_CASE("select: the sets stay as they were when it is interrupted", "[select]") {
  const Action action(SIGUSR1, count_signal);
  const auto pair = connected();
  fd_set reads;
  FD_ZERO(&reads);
  FD_SET(pair.server, &reads);
  Caller caller([&] { return select(pair.server + 1, &reads, nullptr, nullptr, nullptr); });
  REQUIRE(caller.asleep());
  caller.signal_until(SIGUSR1);
  CHECK(caller.join().error == EINTR);
  CHECK(FD_ISSET(pair.server, &reads));
}

TEST_CASE("SA_RESTART: the flag of the handler that ran decides, not that of others", "[recv][sigaction]") {
  const Action restarting(SIGUSR1, count_signal, SA_RESTART);
  const Action breaking(SIGUSR2, count_signal);
  const auto pair = connected();
  handled = 0;
  Caller caller([&] { return recv(pair.server, &one_byte(), 1, 0); });
  REQUIRE(caller.asleep());
  caller.signal_until(SIGUSR1, [] { return handled >= 5; });
  CHECK(!caller.done());
  caller.signal_until(SIGUSR2);
  CHECK(caller.join().error == EINTR);
}

TEST_CASE("siginterrupt: takes SA_RESTART from the handler, and gives it", "[siginterrupt][signal][recv]") {
  const auto before = signal(SIGUSR1, count_signal);
  const auto pair = connected();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  REQUIRE(siginterrupt(SIGUSR1, 1) == 0);
  {
    Caller caller([&] { return recv(pair.server, &one_byte(), 1, 0); });
    REQUIRE(caller.asleep());
    caller.signal_until(SIGUSR1);
    CHECK(caller.join().error == EINTR);
  }
  REQUIRE(signal(SIGUSR1, count_signal) == count_signal);  // remembers
  struct sigaction now {};
  REQUIRE(sigaction(SIGUSR1, nullptr, &now) == 0);
  CHECK(!(now.sa_flags & SA_RESTART));
  REQUIRE(siginterrupt(SIGUSR1, 0) == 0);
#pragma GCC diagnostic pop
  handled = 0;
  Caller caller([&] { return recv(pair.server, &one_byte(), 1, 0); });
  REQUIRE(caller.asleep());
  caller.signal_until(SIGUSR1, [] { return handled >= 5; });
  CHECK(!caller.done());
  send_all(pair.client, "x");
  CHECK(caller.join().value == 1);
  signal(SIGUSR1, before);
}

TEST_CASE("recv, poll, epoll_wait: a signal without a handler interrupts nothing", "[recv][poll][epoll_wait]") {
  const auto pair = connected();
  const Action ignored(SIGUSR1, SIG_IGN);
  for (const int signal : {SIGUSR1, SIGCHLD}) {  // ignored, and ignored by default
    Caller reads([&] { return recv(pair.server, &one_byte(), 1, MSG_PEEK); });
    Caller polls([&] { return waiters[0].call(pair.server, POLLIN, -1); });
    Caller waits([&] { return waiters[4].call(pair.server, POLLIN, -1); });
    for (auto* caller : {&reads, &polls, &waits}) {
      REQUIRE(caller->asleep());
      for (int i = 0; i < 3; ++i) caller->signal(signal);
      CHECK(caller->asleep());
    }
    send_all(pair.client, "x");
    for (auto* caller : {&reads, &polls, &waits}) CHECK(caller->join().value == 1);
    CHECK(receive(pair.server, 1) == "x");
  }
}

TEST_CASE("recv: a blocked signal does not interrupt, and is handled when it is let in", "[recv]") {
  const Action action(SIGUSR1, count_signal);
  const auto pair = connected();
  handled = 0;
  int handled_before = -1;
  Caller caller([&] {
    const Blocked blocked(SIGUSR1);
    const auto got = recv(pair.server, &one_byte(), 1, 0);
    handled_before = handled;
    return got;
  });
  REQUIRE(caller.asleep());
  caller.signal(SIGUSR1);
  CHECK(caller.asleep());
  send_all(pair.client, "x");
  CHECK(caller.join().value == 1);
  CHECK(handled_before == 0);
  CHECK(handled == 1);
}

TEST_CASE("accept: EINTR, or on with SA_RESTART", "[accept][accept4][no-lane]") {
  const auto listener = listening();
  for (const bool four : {false, true}) {
    const auto call = [&]() -> long {
      return four ? accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC) : accept(listener.fd, nullptr, nullptr);
    };
    {
      const Action action(SIGUSR1, count_signal);
      Caller caller(call);
      REQUIRE(caller.asleep());
      caller.signal_until(SIGUSR1);
      CHECK(caller.join().error == EINTR);
    }
    const Action action(SIGUSR1, count_signal, SA_RESTART);
    handled = 0;
    Caller caller(call);
    REQUIRE(caller.asleep());
    caller.signal_until(SIGUSR1, [] { return handled >= 5; });
    CHECK(!caller.done());
    const auto client = stream_socket();
    REQUIRE(connect(client, listener.name(), listener.size) == 0);
    const Fd accepted(static_cast<int>(caller.join().value));
    CHECK(accepted >= 0);
  }
}

TEST_CASE("connect: EINTR when interrupted, and the connection is still being made", "[connect][no-lane]") {
  const Action action(SIGUSR1, count_signal);
  // Nobody accepts, and the queue is full: no connection is made.
  const auto listener = listening(Family::v4, 0);
  const auto first = stream_socket();
  REQUIRE(connect(first, listener.name(), listener.size) == 0);
  const auto second = stream_socket();
  set_nonblocking(second);
  connect(second, listener.name(), listener.size);
  const auto third = stream_socket();
  Caller caller([&] { return connect(third, listener.name(), listener.size); });
  REQUIRE(caller.asleep());
  caller.signal_until(SIGUSR1);
  const auto outcome = caller.join();
  CHECK(outcome.value == -1);
  CHECK(outcome.error == EINTR);
  set_nonblocking(third);
  CHECK_FAILS(connect(third, listener.name(), listener.size), EALREADY);
}

TEST_CASE("alarm: one signal at any moment of a call ends it", "[recv][poll][epoll_wait][setitimer]") {
  // The timer goes off at other moments of the call each time: on the way in, while it spins, before it sleeps, in its
  // sleep.
  const Action action(SIGALRM, count_signal);
  const auto pair = connected();
  const std::vector<std::function<long()>> calls{[&] { return recv(pair.server, &one_byte(), 1, 0); },
                                                 [&] { return waiters[0].call(pair.server, POLLIN, -1); },
                                                 [&] { return waiters[4].call(pair.server, POLLIN, -1); }};
  for (const auto& call : calls)
    for (int us = 5; us < 700; us += 7) {
      handled = 0;
      // One that goes off before the call begins is missed by the kernel, too: hence a second one.
      const itimerval late{{0, 20'000}, {0, us}};
      setitimer(ITIMER_REAL, &late, nullptr);
      const auto begun = std::chrono::steady_clock::now();
      const long value = call();
      const int error = errno;
      const itimerval off{};
      setitimer(ITIMER_REAL, &off, nullptr);
      REQUIRE(value == -1);
      REQUIRE(error == EINTR);
      REQUIRE(std::chrono::steady_clock::now() - begun < 1s);
    }
}
