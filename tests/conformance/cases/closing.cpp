// close: what the other end sees, and when.

#include <linux/sockios.h>
#include <pthread.h>

#include <atomic>

#include "../pair.hpp"

using namespace conformance;

namespace {

void set_linger(int fd, bool on, int seconds) {
  const linger value{on, seconds};
  REQUIRE(setsockopt(fd, SOL_SOCKET, SO_LINGER, &value, sizeof value) == 0);
}

}  // namespace

TEST_CASE("close: with nothing under way: the other end reads the end of the stream", "[close][recv]") {
  for (const bool client_closes : {true, false}) {
    auto pair = connected();
    auto& one = client_closes ? pair.client : pair.server;
    auto& other = client_closes ? pair.server : pair.client;
    one.close();
    CHECK(awaited(other, POLLIN | POLLRDHUP) == (POLLIN | POLLRDHUP));
    char byte;
    CHECK(recv(other, &byte, 1, 0) == 0);
    CHECK(recv(other, &byte, 1, 0) == 0);
    CHECK(option(other, SOL_SOCKET, SO_ERROR) == 0);
  }
}

TEST_CASE("close: bytes under way are delivered, then the end", "[close][recv]") {
  for (const size_t size : {size_t{1}, size_t{5000}, size_t{200'000}}) {
    auto pair = connected();
    const auto bytes = pattern(size);
    send_all(pair.client, bytes);
    pair.client.close();
    CHECK(receive(pair.server, size + 1) == bytes);
    char byte;
    CHECK(recv(pair.server, &byte, 1, 0) == 0);
  }
}

TEST_CASE("close: a full socket is closed at once, and all it took is delivered", "[close][send]") {
  auto pair = connected();
  set_nonblocking(pair.client);
  const auto size = fill(pair.client);
  const auto begun = std::chrono::steady_clock::now();
  pair.client.close();
  CHECK(std::chrono::steady_clock::now() - begun < 1s);
  size_t got = 0;
  std::string buffer(65536, '\0');
  for (;;) {
    const auto n = recv(pair.server, buffer.data(), buffer.size(), 0);
    REQUIRE(n >= 0);
    if (n == 0) break;
    got += static_cast<size_t>(n);
  }
  CHECK(got == size);
}

TEST_CASE("close: with unread bytes: ECONNRESET at the other end", "[close][recv]") {
  auto pair = connected();
  send_all(pair.client, "unread");
  arrived(pair.server, 6);
  pair.server.close();
  CHECK((awaited(pair.client, POLLIN) & POLLERR) == POLLERR);
  char byte;
  CHECK_FAILS(recv(pair.client, &byte, 1, 0), ECONNRESET);
  CHECK(recv(pair.client, &byte, 1, 0) == 0);
  CHECK_FAILS(send(pair.client, &byte, 1, MSG_NOSIGNAL), EPIPE);
}

TEST_CASE("close: with unread bytes, partly read: ECONNRESET, too", "[close][recv]") {
  auto pair = connected();
  send_all(pair.client, "unread");
  CHECK(receive(pair.server, 3) == "unr");
  pair.server.close();
  CHECK((awaited(pair.client, POLLIN) & POLLERR) == POLLERR);
  CHECK(option(pair.client, SOL_SOCKET, SO_ERROR) == ECONNRESET);
  CHECK(option(pair.client, SOL_SOCKET, SO_ERROR) == 0);
}

TEST_CASE("close: SO_LINGER 0: ECONNRESET at the other end, at once", "[close][setsockopt]") {
  auto pair = connected();
  set_linger(pair.client, true, 0);
  pair.client.close();
  CHECK((awaited(pair.server, POLLIN) & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP));
  char byte;
  CHECK_FAILS(recv(pair.server, &byte, 1, 0), ECONNRESET);
}

TEST_CASE("close: SO_LINGER 0, switched off again, is an ordinary end", "[close][setsockopt]") {
  auto pair = connected();
  set_linger(pair.client, true, 0);
  set_linger(pair.client, false, 0);
  send_all(pair.client, "bye");
  pair.client.close();
  CHECK(receive(pair.server, 4) == "bye");
}

TEST_CASE("close: SO_LINGER with a time, and everything taken: returns soon", "[close][setsockopt]") {
  auto pair = connected();
  set_linger(pair.client, true, 5);
  send_all(pair.client, "bye");
  CHECK(receive(pair.server, 3) == "bye");
  const auto begun = std::chrono::steady_clock::now();
  CHECK(close(pair.client.release()) == 0);
  CHECK(std::chrono::steady_clock::now() - begun < 3s);
  char byte;
  CHECK(recv(pair.server, &byte, 1, 0) == 0);
}

TEST_CASE("close: the descriptor is bad from then on, for every call", "[close][recv][send][shutdown]") {
  auto pair = connected();
  const int fd = pair.client.release();
  CHECK(close(fd) == 0);
  CHECK_FAILS(close(fd), EBADF);
  char byte;
  socklen_t size = sizeof byte;
  CHECK_FAILS(recv(fd, &byte, 1, 0), EBADF);
  CHECK_FAILS(read(fd, &byte, 1), EBADF);
  CHECK_FAILS(send(fd, &byte, 1, MSG_NOSIGNAL), EBADF);
  CHECK_FAILS(write(fd, &byte, 1), EBADF);
  CHECK_FAILS(shutdown(fd, SHUT_RDWR), EBADF);
  CHECK_FAILS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &byte, &size), EBADF);
  CHECK_FAILS(fcntl(fd, F_GETFL), EBADF);
  CHECK_FAILS(ioctl(fd, FIONREAD, &byte), EBADF);
  CHECK_FAILS(dup(fd), EBADF);
  CHECK(polled(fd, POLLIN) == POLLNVAL);
}

TEST_CASE("close: the number is free for a file, which is just that", "[close][open]") {
  auto pair = connected();
  // All lower numbers are taken, those too that were so for a moment while the other end was looked for.
  for (int i = 0; i < 3; ++i) {
    while (open("/dev/zero", O_RDWR | O_CLOEXEC) < pair.client) {
    }
    std::this_thread::sleep_for(2ms);
  }
  const int fd = pair.client.release();
  send_all(fd, "still under way");
  CHECK(close(fd) == 0);
  const Fd file(open("/dev/zero", O_RDWR));
  REQUIRE(file == fd);
  char bytes[4] = "abc";
  CHECK(read(file, bytes, 4) == 4);
  CHECK(bytes[0] == 0);
  CHECK(write(file, bytes, 4) == 4);
  CHECK_FAILS(recv(file, bytes, 4, 0), ENOTSOCK);
  CHECK(receive(pair.server, 100) == "still under way");
}

TEST_CASE("close: the number is free for another flow, which has its own bytes", "[close][accept]") {
  auto first = connected();
  const int fd = first.server.release();
  send_all(fd, "of the first");
  CHECK(close(fd) == 0);
  for (int i = 0; i < 5; ++i) {
    auto next = connected();
    send_all(next.client, "mine");
    CHECK(receive(next.server, 4) == "mine");
  }
  CHECK(receive(first.client, 100) == "of the first");
}

TEST_CASE("close: by a thread while another waits in recv: the waiting call goes on", "[close][recv]") {
  auto pair = connected();
  std::atomic<bool> begun{false};
  ssize_t got = -2;
  char byte = 0;
  const int fd = pair.client.release();
  std::thread waits([&] {
    begun = true;
    got = recv(fd, &byte, 1, 0);
  });
  REQUIRE(eventually([&] { return begun.load(); }));
  std::this_thread::sleep_for(20ms);  // it may be in its call
  CHECK(close(fd) == 0);
  CHECK_FAILS(send(fd, "x", 1, MSG_NOSIGNAL), EBADF);
  // The connection lives as long as the call does.
  send_all(pair.server, "x");
  waits.join();
  CHECK((got == 1 || (got == -1 && errno != 0)));
  if (got == 1) CHECK(byte == 'x');
}

TEST_CASE("close: both ends at once, with bytes under way both ways", "[close]") {
  for (int i = 0; i < 20; ++i) {
    auto pair = connected();
    send_all(pair.client, "a");
    send_all(pair.server, "b");
    pair.client.close();
    pair.server.close();
  }
}

TEST_CASE("close: after the other end did", "[close]") {
  auto pair = connected();
  pair.client.close();
  char byte;
  CHECK(recv(pair.server, &byte, 1, 0) == 0);
  CHECK(close(pair.server.release()) == 0);
}

TEST_CASE("send: after the other end closed: taken once, then EPIPE", "[send][close]") {
  auto pair = connected();
  pair.server.close();
  REQUIRE(awaited(pair.client, POLLRDHUP) == POLLRDHUP);
  CHECK(send(pair.client, "x", 1, MSG_NOSIGNAL) == 1);
  // The answer to it is a reset.
  CHECK((awaited(pair.client, 0) & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP));
  CHECK_FAILS(send(pair.client, "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST_CASE("close: 500 connections in a row", "[close][connect][accept]") {
  const auto listener = listening();
  for (int i = 0; i < 500; ++i) {
    const auto client = stream_socket();
    REQUIRE(connect(client, listener.name(), listener.size) == 0);
    const Fd server(accept(listener.fd, nullptr, nullptr));
    send_all(client, "ping");
    REQUIRE(receive(server, 4) == "ping");
    send_all(server, "pong");
    REQUIRE(receive(client, 4) == "pong");
    if (i == 250) enter_lane(client, server);
  }
}

TEST_CASE("close: 500 connections at once", "[close][connect][accept]") {
  const auto listener = listening();
  std::vector<Pair> pairs;
  for (int i = 0; i < 250; ++i) {
    pairs.push_back({stream_socket(), {}});
    REQUIRE(connect(pairs.back().client, listener.name(), listener.size) == 0);
    pairs.back().server = Fd(accept(listener.fd, nullptr, nullptr));
    send_all(pairs.back().client, "hello");
    REQUIRE(receive(pairs.back().server, 5) == "hello");
  }
  enter_lane(pairs[0].client, pairs[0].server);
  for (int round = 0; round < 3; ++round)
    for (size_t i = 0; i < pairs.size(); ++i) {
      const auto text = std::to_string(i) + "!";
      send_all(pairs[i].client, text);
      REQUIRE(receive(pairs[i].server, text.size()) == text);
      send_all(pairs[i].server, text);
      REQUIRE(receive(pairs[i].client, text.size()) == text);
    }
  for (size_t i = 0; i < pairs.size(); ++i) (i % 2 ? pairs[i].client : pairs[i].server).close();
  for (size_t i = 0; i < pairs.size(); ++i) {
    char byte;
    REQUIRE(recv(i % 2 ? pairs[i].server : pairs[i].client, &byte, 1, 0) == 0);
  }
}
