// Bytes and the ends of the streams: what can still be read, what a write says, in which order.

#include <signal.h>

#include "../pair.hpp"
#include "../ways.hpp"

using namespace conformance;

TEST_CASE("shutdown of the writing half: the peer reads what was sent, then the end; the other way goes on",
          "[read][shutdown]") {
  const auto pair = connected();
  send_all(pair.client, "request");
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  CHECK(receive(pair.server, 100) == "request");
  send_all(pair.server, "answer");
  CHECK(receive(pair.client, 6) == "answer");
  REQUIRE(shutdown(pair.server, SHUT_WR) == 0);
  CHECK(receive(pair.client, 1).empty());
}

TEST_CASE("shutdown of the writing half: much that was sent before still comes", "[read][shutdown]") {
  const auto pair = connected({.nonblocking = true});
  const auto total = fill(pair.client);
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  set_nonblocking(pair.server, false);
  CHECK(receive(pair.server, total + 1).size() == total);
}

TEST_CASE("shutdown of the reading half: what is there can be read, then 0; writing goes on",
          EVERY_WAY_IN "[shutdown]") {
  const auto pair = connected();
  send_all(pair.client, "before");
  arrived(pair.server, 6);
  REQUIRE(shutdown(pair.server, SHUT_RD) == 0);
  CHECK(receive(pair.server, 6) == "before");
  for (const auto& way : ways_in()) {
    INFO(way.name);
    char byte;
    CHECK(way.take(pair.server, &byte, 1) == 0);
  }
  send_all(pair.server, "out");
  CHECK(receive(pair.client, 3) == "out");
}

TEST_CASE("shutdown of the reading half: what comes later is still read", "[read][shutdown]") {
  const auto pair = connected();
  REQUIRE(shutdown(pair.server, SHUT_RD) == 0);
  send_all(pair.client, "after");
  arrived(pair.server, 5);
  CHECK(receive(pair.server, 5) == "after");
  char byte;
  CHECK(read(pair.server, &byte, 1) == 0);
}

TEST_CASE("shutdown of both halves: reads end, writes fail, at both ends", "[read][send][shutdown]") {
  const auto pair = connected();
  send_all(pair.client, "last");
  REQUIRE(shutdown(pair.client, SHUT_RDWR) == 0);
  char byte;
  CHECK(read(pair.client, &byte, 1) == 0);
  CHECK_FAILS(send(pair.client, "x", 1, MSG_NOSIGNAL), EPIPE);
  CHECK(receive(pair.server, 10) == "last");
}

TEST_CASE("shutdown wakes a reader of the same socket", "[read][shutdown]") {
  const auto pair = connected();
  ssize_t got = -2;
  std::thread reader([&] {
    char byte;
    got = read(pair.server, &byte, 1);
  });
  std::this_thread::sleep_for(2ms);
  REQUIRE(shutdown(pair.server, SHUT_RD) == 0);
  reader.join();
  CHECK(got == 0);
}

TEST_CASE("shutdown wakes a writer of the same socket", "[send][shutdown]") {
  const auto pair = connected();
  fill(pair.client);
  ssize_t got = -2;
  int error = 0;
  std::thread writer([&] {
    got = send(pair.client, "x", 1, MSG_NOSIGNAL);
    error = errno;
  });
  std::this_thread::sleep_for(2ms);
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  writer.join();
  CHECK(got == -1);
  CHECK(error == EPIPE);
}

TEST_CASE("close: the peer reads what was sent, then the end", "[read][close]") {
  for (const bool server_closes : {false, true}) {
    auto pair = connected();
    auto& closing = server_closes ? pair.server : pair.client;
    auto& staying = server_closes ? pair.client : pair.server;
    send_all(closing, "farewell");
    closing.close();
    CHECK(receive(staying, 100) == "farewell");
    char byte;
    CHECK(read(staying, &byte, 1) == 0);
  }
}

TEST_CASE("close: much that was sent before still comes", "[read][close]") {
  auto pair = connected({.nonblocking = true});
  const auto total = fill(pair.client);
  pair.client.close();
  set_nonblocking(pair.server, false);
  CHECK(receive(pair.server, total + 1).size() == total);
}

TEST_CASE("send after the peer closed: taken at first, then EPIPE and SIGPIPE", EVERY_WAY_OUT "[close]") {
  signal(SIGPIPE, SIG_IGN);
  for (const auto& way : ways_out()) {
    INFO(way.name);
    auto pair = connected();
    pair.client.close();
    char byte;
    REQUIRE(read(pair.server, &byte, 1) == 0);
    CHECK(way.give(pair.server, "x", 1) == 1);
    CHECK(eventually([&] { return way.give(pair.server, "x", 1) == -1; }));
    CHECK(errno == EPIPE);
    CHECK_FAILS(way.give(pair.server, "x", 1), EPIPE);
    CHECK(read(pair.server, &byte, 1) == 0);
  }
  signal(SIGPIPE, SIG_DFL);
}

TEST_CASE("close with unread bytes: the peer's read fails once with ECONNRESET, then ends", EVERY_WAY_IN "[close]") {
  for (const auto& way : ways_in()) {
    INFO(way.name);
    auto pair = connected();
    send_all(pair.server, "unread");
    arrived(pair.client, 6);
    pair.client.close();
    REQUIRE(awaited(pair.server, POLLIN) & POLLHUP);
    char byte;
    CHECK_FAILS(way.take(pair.server, &byte, 1), ECONNRESET);
    CHECK(way.take(pair.server, &byte, 1) == 0);
    CHECK_FAILS(send(pair.server, "x", 1, MSG_NOSIGNAL), EPIPE);
  }
}

TEST_CASE("close with unread bytes: the peer's write fails once with ECONNRESET, then with EPIPE",
          EVERY_WAY_OUT "[close]") {
  signal(SIGPIPE, SIG_IGN);
  for (const auto& way : ways_out()) {
    INFO(way.name);
    auto pair = connected();
    send_all(pair.server, "unread");
    arrived(pair.client, 6);
    pair.client.close();
    REQUIRE(awaited(pair.server, POLLIN) & POLLHUP);
    CHECK_FAILS(way.give(pair.server, "x", 1), ECONNRESET);
    CHECK_FAILS(way.give(pair.server, "x", 1), EPIPE);
    char byte;
    CHECK(read(pair.server, &byte, 1) == 0);
  }
  signal(SIGPIPE, SIG_DFL);
}

TEST_CASE("reset: the error is told once, by whichever call asks first", "[recv][send][getsockopt]") {
  auto pair = connected();
  set_option(pair.client, SOL_SOCKET, SO_KEEPALIVE, 0);
  const linger hard{1, 0};
  REQUIRE(setsockopt(pair.client, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
  pair.client.close();
  REQUIRE(awaited(pair.server, POLLIN) & POLLHUP);
  CHECK(option(pair.server, SOL_SOCKET, SO_ERROR) == ECONNRESET);
  CHECK(option(pair.server, SOL_SOCKET, SO_ERROR) == 0);
  char byte;
  CHECK(recv(pair.server, &byte, 1, 0) == 0);
  CHECK_FAILS(send(pair.server, "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST_CASE("reset: bytes that came before are read first", "[recv]") {
  auto pair = connected();
  send_all(pair.client, "before");
  arrived(pair.server, 6);
  const linger hard{1, 0};
  REQUIRE(setsockopt(pair.client, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
  pair.client.close();
  REQUIRE(eventually([&] { return polled(pair.server, POLLIN) & POLLHUP; }));
  CHECK(receive(pair.server, 6) == "before");
  char byte;
  CHECK_FAILS(recv(pair.server, &byte, 1, 0), ECONNRESET);
  CHECK(recv(pair.server, &byte, 1, 0) == 0);
}

TEST_CASE("a blocked reader hears of the reset", "[read]") {
  auto pair = connected();
  ssize_t got = 0;
  int error = 0;
  std::thread reader([&] {
    char byte;
    got = read(pair.server, &byte, 1);
    error = errno;
  });
  std::this_thread::sleep_for(2ms);
  const linger hard{1, 0};
  REQUIRE(setsockopt(pair.client, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
  pair.client.close();
  reader.join();
  CHECK(got == -1);
  CHECK(error == ECONNRESET);
}

TEST_CASE("a blocked writer hears of the reset", "[send]") {
  auto pair = connected();
  fill(pair.client);
  ssize_t got = 0;
  int error = 0;
  std::thread writer([&] {
    got = send(pair.client, "x", 1, MSG_NOSIGNAL);
    error = errno;
  });
  std::this_thread::sleep_for(2ms);
  pair.server.close();  // with bytes unread
  writer.join();
  CHECK(got == -1);
  CHECK(error == ECONNRESET);
}

TEST_CASE("a large blocking write that the peer's reset cuts short gives what was taken", "[send]") {
  auto pair = connected();
  const auto text = pattern(32 << 20);
  ssize_t got = 0;
  std::thread writer([&] { got = send(pair.client, text.data(), text.size(), MSG_NOSIGNAL); });
  arrived(pair.server, 1);
  std::this_thread::sleep_for(20ms);  // it has filled all there is
  pair.server.close();
  writer.join();
  CHECK(got > 0);
  CHECK(got < static_cast<ssize_t>(text.size()));
  CHECK(send(pair.client, "x", 1, MSG_NOSIGNAL) == -1);
}

TEST_CASE("a reset in the middle of a send that waits is for the next call to tell", "[send]") {
  auto pair = connected();
  const std::string much(64 << 20, 'x');
  ssize_t sent = 0;
  std::thread writer([&] { sent = send(pair.client, much.data(), much.size(), MSG_NOSIGNAL); });
  arrived(pair.server, 10'000);
  std::this_thread::sleep_for(100ms);  // a send that waits is what is reset, as a rule
  const linger now{1, 0};
  REQUIRE(setsockopt(pair.server, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
  pair.server.close();
  writer.join();
  REQUIRE(sent > 0);
  CHECK(sent < static_cast<ssize_t>(much.size()));
  CHECK_FAILS(send(pair.client, "x", 1, MSG_NOSIGNAL), ECONNRESET);
  CHECK_FAILS(send(pair.client, "x", 1, MSG_NOSIGNAL), EPIPE);
}
