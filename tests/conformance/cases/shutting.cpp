// shutdown: each half, both, twice, and what the other end sees.

#include <atomic>
#include <csignal>

#include "../pair.hpp"

using namespace conformance;

namespace {

// Both roles, since either end may be the one to shut down.
template <class Case>
void for_each_role(Case run) {
  for (const bool client : {true, false}) {
    auto pair = connected();
    client ? run(pair.client, pair.server) : run(pair.server, pair.client);
  }
}

}  // namespace

TEST_CASE("shutdown: SHUT_WR: the other end reads what was sent, then the end", "[shutdown][recv]") {
  for_each_role([](int one, int other) {
    send_all(one, "last");
    CHECK(shutdown(one, SHUT_WR) == 0);
    CHECK(receive(other, 100) == "last");
    char byte;
    CHECK(recv(other, &byte, 1, 0) == 0);
    CHECK((polled(other, POLLIN | POLLOUT | POLLRDHUP)) == (POLLIN | POLLOUT | POLLRDHUP));
  });
}

TEST_CASE(
    "shutdown: SHUT_WR: what was sent before is read, then the end, although the connection goes back to TCP meanwhile",
    "[shutdown][send][recv][tcp]") {
  for_each_role([](int one, int other) {
    send_all(one, "last");
    CHECK(shutdown(one, SHUT_WR) == 0);
    REQUIRE(send(other, "!", 1, MSG_OOB) == 1);
    CHECK(receive(other, 100) == "last");
    char byte;
    CHECK(recv(other, &byte, 1, 0) == 0);
  });
}

TEST_CASE("shutdown: SHUT_WR: the other half goes on, for long", "[shutdown][send][recv]") {
  for_each_role([](int one, int other) {
    CHECK(shutdown(one, SHUT_WR) == 0);
    for (int i = 0; i < 50; ++i) {
      send_all(other, pattern(3000, i));
      CHECK(receive(one, 3000) == pattern(3000, i));
    }
    char byte;
    CHECK(recv(other, &byte, 1, MSG_DONTWAIT) <= 0);
  });
}

TEST_CASE("shutdown: SHUT_WR: send gives EPIPE, and SIGPIPE", "[shutdown][send][write]") {
  for_each_role([](int one, int) {
    CHECK(shutdown(one, SHUT_WR) == 0);
    CHECK_FAILS(send(one, "x", 1, MSG_NOSIGNAL), EPIPE);
    static std::atomic<int> raised;
    raised = 0;
    struct sigaction action {
    }, before{};
    action.sa_handler = [](int) { ++raised; };
    REQUIRE(sigaction(SIGPIPE, &action, &before) == 0);
    CHECK_FAILS(send(one, "x", 1, 0), EPIPE);
    CHECK(raised == 1);
    CHECK_FAILS(write(one, "x", 1), EPIPE);
    CHECK(raised == 2);
    sigaction(SIGPIPE, &before, nullptr);
  });
}

TEST_CASE("shutdown: SHUT_WR twice, and more of it", "[shutdown]") {
  for_each_role([](int one, int other) {
    for (int i = 0; i < 3; ++i) CHECK(shutdown(one, SHUT_WR) == 0);
    CHECK(shutdown(one, SHUT_RD) == 0);
    CHECK(shutdown(one, SHUT_RDWR) == 0);
    char byte;
    CHECK(recv(other, &byte, 1, 0) == 0);
  });
}

TEST_CASE("shutdown: SHUT_WR: what poll says at the end that did it", "[shutdown][poll]") {
  for_each_role([](int one, int other) {
    CHECK(polled(one, POLLIN | POLLOUT | POLLRDHUP) == POLLOUT);
    CHECK(shutdown(one, SHUT_WR) == 0);
    CHECK(polled(one, POLLIN | POLLOUT | POLLRDHUP) == POLLOUT);
    send_all(other, "x");
    arrived(one, 1);
    CHECK(polled(one, POLLIN | POLLOUT | POLLRDHUP) == (POLLIN | POLLOUT));
  });
}

TEST_CASE("shutdown: SHUT_RD: reads give 0, and what is there can be read first", "[shutdown][recv][poll]") {
  for_each_role([](int one, int other) {
    send_all(other, "before");
    arrived(one, 6);
    CHECK(shutdown(one, SHUT_RD) == 0);
    CHECK(polled(one, POLLIN | POLLRDHUP) == (POLLIN | POLLRDHUP));
    CHECK(receive(one, 6) == "before");
    char byte;
    CHECK(recv(one, &byte, 1, 0) == 0);
    CHECK(recv(one, &byte, 1, MSG_DONTWAIT) == 0);
  });
}

TEST_CASE("shutdown: SHUT_RD: the other end is told nothing, and its bytes still come", "[shutdown][recv][send]") {
  for_each_role([](int one, int other) {
    CHECK(shutdown(one, SHUT_RD) == 0);
    char byte;
    CHECK(recv(one, &byte, 1, 0) == 0);
    CHECK(polled(other, POLLIN | POLLOUT | POLLRDHUP | POLLHUP) == POLLOUT);
    send_all(other, "still");
    arrived(one, 5);
    CHECK(receive(one, 5) == "still");
    CHECK(recv(one, &byte, 1, 0) == 0);
    send_all(one, "on");
    CHECK(receive(other, 2) == "on");
  });
}

TEST_CASE("shutdown: SHUT_RDWR: both halves end", "[shutdown][recv][send][poll]") {
  for_each_role([](int one, int other) {
    CHECK(shutdown(one, SHUT_RDWR) == 0);
    CHECK((polled(one, POLLIN | POLLRDHUP) & (POLLIN | POLLRDHUP | POLLHUP)) == (POLLIN | POLLRDHUP | POLLHUP));
    char byte;
    CHECK(recv(one, &byte, 1, 0) == 0);
    CHECK_FAILS(send(one, &byte, 1, MSG_NOSIGNAL), EPIPE);
    CHECK(recv(other, &byte, 1, 0) == 0);
  });
}

TEST_CASE("shutdown: both ends, one half each: POLLHUP at both", "[shutdown][poll]") {
  const auto pair = connected();
  CHECK(shutdown(pair.client, SHUT_WR) == 0);
  char byte;
  CHECK(recv(pair.server, &byte, 1, 0) == 0);
  CHECK(shutdown(pair.server, SHUT_WR) == 0);
  CHECK(recv(pair.client, &byte, 1, 0) == 0);
  for (const int fd : {+pair.client, +pair.server}) {
    CHECK(awaited(fd, POLLHUP) == POLLHUP);
    CHECK(polled(fd, POLLIN | POLLOUT | POLLRDHUP) == (POLLIN | POLLOUT | POLLRDHUP | POLLHUP));
  }
}

TEST_CASE("shutdown: when the connection is over: ENOTCONN", "[shutdown]") {
  const auto pair = connected();
  CHECK(shutdown(pair.client, SHUT_WR) == 0);
  char byte;
  CHECK(recv(pair.server, &byte, 1, 0) == 0);
  CHECK(shutdown(pair.server, SHUT_WR) == 0);
  CHECK(recv(pair.client, &byte, 1, 0) == 0);
  CHECK(awaited(pair.server, POLLHUP) == POLLHUP);
  CHECK_FAILS(shutdown(pair.server, SHUT_WR), ENOTCONN);
}

TEST_CASE("shutdown: after a reset: ENOTCONN", "[shutdown]") {
  auto pair = connected();
  const linger hard{1, 0};
  REQUIRE(setsockopt(pair.client, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
  pair.client.close();
  REQUIRE((awaited(pair.server, POLLIN) & POLLERR) != 0);
  CHECK_FAILS(shutdown(pair.server, SHUT_RDWR), ENOTCONN);
  CHECK(option(pair.server, SOL_SOCKET, SO_ERROR) == ECONNRESET);
  CHECK_FAILS(shutdown(pair.server, SHUT_WR), ENOTCONN);
}

TEST_CASE("shutdown: ways that there are not", "[shutdown]") {
  const auto pair = connected();
  for (const int fd : {+pair.client, +pair.server})
    for (const int how : {-1, 3, 4, 100}) CHECK_FAILS(shutdown(fd, how), EINVAL);
  CHECK_FAILS(shutdown(stream_socket(), SHUT_RDWR), ENOTCONN);
  CHECK_FAILS(shutdown(-1, SHUT_RD), EBADF);
  const Fd file(open("/dev/null", O_RDONLY));
  CHECK_FAILS(shutdown(file, SHUT_RD), ENOTSOCK);
  send_all(pair.client, "on");
  CHECK(receive(pair.server, 2) == "on");
}

TEST_CASE("shutdown: ends a recv of another thread", "[shutdown][recv]") {
  for (const int how : {SHUT_RD, SHUT_RDWR}) {
    const auto pair = connected();
    std::atomic<bool> begun{false};
    ssize_t got = -2;
    std::thread waits([&] {
      char byte;
      begun = true;
      got = recv(pair.server, &byte, 1, 0);
    });
    REQUIRE(eventually([&] { return begun.load(); }));
    std::this_thread::sleep_for(5ms);  // in its call or not: it ends
    CHECK(shutdown(pair.server, how) == 0);
    waits.join();
    CHECK(got == 0);
  }
}

TEST_CASE("shutdown: SHUT_RDWR ends a poll of another thread", "[shutdown][poll]") {
  const auto pair = connected();
  std::atomic<bool> begun{false};
  short seen = 0;
  std::thread waits([&] {
    begun = true;
    pollfd one{pair.server, POLLIN, 0};
    poll(&one, 1, 5000);
    seen = one.revents;
  });
  REQUIRE(eventually([&] { return begun.load(); }));
  std::this_thread::sleep_for(5ms);
  CHECK(shutdown(pair.server, SHUT_RDWR) == 0);
  waits.join();
  CHECK((seen & (POLLIN | POLLHUP)) == (POLLIN | POLLHUP));
}

TEST_CASE("shutdown: SHUT_WR ends a send of another thread: EPIPE or a short count", "[shutdown][send]") {
  const auto pair = connected();
  set_nonblocking(pair.client);
  fill(pair.client);
  set_nonblocking(pair.client, false);
  std::atomic<bool> begun{false};
  ssize_t sent = 0;
  int error = 0;
  const auto bytes = pattern(1 << 20);
  std::thread waits([&] {
    begun = true;
    sent = send(pair.client, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    error = errno;
  });
  REQUIRE(eventually([&] { return begun.load(); }));
  std::this_thread::sleep_for(20ms);
  CHECK(shutdown(pair.client, SHUT_WR) == 0);
  waits.join();
  if (sent < 0) CHECK(error == EPIPE);
  CHECK(sent < static_cast<ssize_t>(bytes.size()));
}

TEST_CASE("shutdown: SHUT_WR with much under way: all of it is delivered", "[shutdown][send]") {
  const auto pair = connected();
  set_nonblocking(pair.client);
  const auto size = fill(pair.client);
  CHECK(shutdown(pair.client, SHUT_WR) == 0);
  CHECK(receive(pair.server, size + 1).size() == size);
  send_all(pair.server, "thanks");
  CHECK(receive(pair.client, 6) == "thanks");
}

TEST_CASE("shutdown: then close, with what was sent still delivered", "[shutdown][close]") {
  auto pair = connected();
  send_all(pair.client, "bye");
  CHECK(shutdown(pair.client, SHUT_WR) == 0);
  pair.client.close();
  CHECK(receive(pair.server, 100) == "bye");
  CHECK(send(pair.server, "x", 1, MSG_NOSIGNAL) == 1);
}

TEST_CASE("shutdown: through one copy of a descriptor holds for all", "[shutdown][dup]") {
  const auto pair = connected();
  const Fd copy(dup(pair.client));
  CHECK(shutdown(copy, SHUT_WR) == 0);
  CHECK_FAILS(send(pair.client, "x", 1, MSG_NOSIGNAL), EPIPE);
  char byte;
  CHECK(recv(pair.server, &byte, 1, 0) == 0);
}
