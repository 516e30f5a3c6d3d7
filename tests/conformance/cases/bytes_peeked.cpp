// MSG_PEEK: bytes are seen, and stay.

#include "../pair.hpp"

using namespace conformance;

namespace {

std::string peek(int fd, size_t most, int flags = 0) {
  std::string bytes(most, '\0');
  const auto got = recv(fd, bytes.data(), most, MSG_PEEK | flags);
  REQUIRE(got >= 0);
  bytes.resize(static_cast<size_t>(got));
  return bytes;
}

}  // namespace

TEST_CASE("recv: MSG_PEEK leaves the bytes where they are", "[recv]") {
  const auto pair = connected();
  for (const auto& [from, to] : {std::pair(+pair.client, +pair.server), std::pair(+pair.server, +pair.client)}) {
    send_all(from, "hello");
    arrived(to, 5);
    for (int i = 0; i < 3; ++i) CHECK(peek(to, 100) == "hello");
    CHECK(receive(to, 5) == "hello");
  }
}

TEST_CASE("recv: MSG_PEEK of a part, of nothing, and after a part was read", "[recv]") {
  const auto pair = connected();
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  CHECK(peek(pair.server, 2) == "he");
  CHECK(peek(pair.server, 0).empty());
  CHECK(receive(pair.server, 2) == "he");
  CHECK(peek(pair.server, 2) == "ll");
  CHECK(peek(pair.server, 9) == "llo");
  CHECK(receive(pair.server, 3) == "llo");
}

TEST_CASE("recvfrom, recvmsg, recvmmsg: MSG_PEEK too", "[recvfrom][recvmsg][recvmmsg]") {
  const auto pair = connected();
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  char a[3], b[10];
  iovec parts[] = {{a, 3}, {b, 10}};
  mmsghdr messages[2]{};
  for (auto& each : messages) each.msg_hdr.msg_iov = parts, each.msg_hdr.msg_iovlen = 2;
  CHECK(recvfrom(pair.server, b, 10, MSG_PEEK, nullptr, nullptr) == 5);
  CHECK(recvmsg(pair.server, &messages[0].msg_hdr, MSG_PEEK) == 5);
  CHECK(std::string(a, 3) + std::string(b, 2) == "hello");
  CHECK(recvmmsg(pair.server, messages, 2, MSG_PEEK, nullptr) == 2);
  CHECK(messages[0].msg_len == 5);
  CHECK(messages[1].msg_len == 5);
  CHECK(receive(pair.server, 5) == "hello");
}

TEST_CASE("recv: MSG_PEEK waits for the first byte", "[recv]") {
  const auto pair = connected();
  std::string seen;
  std::thread peeker([&] {
    char buffer[10];
    const auto got = recv(pair.server, buffer, sizeof buffer, MSG_PEEK);
    if (got > 0) seen.assign(buffer, static_cast<size_t>(got));
  });
  std::this_thread::sleep_for(1ms);
  CHECK(send(pair.client, "hello", 5, 0) == 5);
  peeker.join();
  CHECK(seen == "hello");
  CHECK(receive(pair.server, 5) == "hello");
}

TEST_CASE("recv: MSG_PEEK with MSG_DONTWAIT", "[recv]") {
  const auto pair = connected();
  char byte;
  CHECK_FAILS(recv(pair.server, &byte, 1, MSG_PEEK | MSG_DONTWAIT), EAGAIN);
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  CHECK(recv(pair.server, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1);
  CHECK(recv(pair.server, &byte, 1, MSG_DONTWAIT) == 1);
  CHECK_FAILS(recv(pair.server, &byte, 1, MSG_PEEK | MSG_DONTWAIT), EAGAIN);
}

TEST_CASE("recv: MSG_PEEK at the end of the stream", "[recv]") {
  const auto pair = connected();
  send_all(pair.client, "last");
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  arrived(pair.server, 4);
  CHECK(peek(pair.server, 10) == "last");
  CHECK(receive(pair.server, 4) == "last");
  CHECK(peek(pair.server, 10).empty());
  CHECK(peek(pair.server, 10).empty());
}

TEST_CASE("recv: MSG_PEEK of much, and after every read", "[recv]") {
  const auto pair = connected();
  const auto text = pattern(12'000);
  send_all(pair.client, text);
  arrived(pair.server, 12'000);
  for (size_t at = 0; at < text.size(); at += 1000) {
    CHECK(peek(pair.server, text.size()) == text.substr(at));
    CHECK(receive(pair.server, 1000) == text.substr(at, 1000));
  }
}

TEST_CASE("recv: MSG_PEEK sees what comes in addition", "[recv]") {
  const auto pair = connected();
  std::string sent;
  for (int i = 0; i < 50; ++i) {
    sent += static_cast<char>('a' + i % 26);
    send_all(pair.client, sent.substr(sent.size() - 1));
    arrived(pair.server, i + 1);
    CHECK(peek(pair.server, 100) == sent);
  }
}

TEST_CASE("recv: MSG_PEEK makes no room, and readiness stays", "[recv][poll]") {
  const auto pair = connected({.nonblocking = true});
  const auto total = fill(pair.client);
  std::string buffer(1000, '\0');
  for (int i = 0; i < 100; ++i) CHECK(recv(pair.server, buffer.data(), buffer.size(), MSG_PEEK) == 1000);
  CHECK(polled(pair.client, POLLOUT) == 0);
  CHECK(polled(pair.server, POLLIN) == POLLIN);
  set_nonblocking(pair.server, false);
  CHECK(receive(pair.server, total).size() == total);
}

TEST_CASE("recv: MSG_PEEK with MSG_WAITALL, of what is there", "[recv]") {
  const auto pair = connected();
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  CHECK(peek(pair.server, 5, MSG_WAITALL) == "hello");
  CHECK(peek(pair.server, 3, MSG_WAITALL) == "hel");
  CHECK(peek(pair.server, 10, MSG_WAITALL | MSG_DONTWAIT) == "hello");
  CHECK(receive(pair.server, 5) == "hello");
}

TEST_CASE("recv: MSG_PEEK with MSG_WAITALL waits for all", "[recv][tcp]") {
  const auto pair = connected();
  send_all(pair.client, "hel");
  arrived(pair.server, 3);
  std::string seen;
  std::thread peeker([&] {
    char buffer[5];
    const auto got = recv(pair.server, buffer, 5, MSG_PEEK | MSG_WAITALL);
    if (got > 0) seen.assign(buffer, static_cast<size_t>(got));
  });
  std::this_thread::sleep_for(5ms);
  CHECK(send(pair.client, "lo", 2, 0) == 2);
  peeker.join();
  CHECK(seen == "hello");
  CHECK(receive(pair.server, 5) == "hello");
}

TEST_CASE("recv: MSG_PEEK with MSG_WAITALL gives what there is when the stream ends or the time is over",
          "[recv][tcp]") {
  const auto pair = connected();
  const timeval limit{0, 20'000};
  REQUIRE(setsockopt(pair.server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
  send_all(pair.client, "hel");
  arrived(pair.server, 3);
  CHECK(peek(pair.server, 5, MSG_WAITALL) == "hel");
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  CHECK(peek(pair.server, 5, MSG_WAITALL) == "hel");
  CHECK(receive(pair.server, 9) == "hel");
}

TEST_CASE("recv: SO_PEEK_OFF moves on with each look, and back with each read", "[recv][setsockopt][getsockopt][tcp]") {
  const auto pair = connected();
  int offset = 1;
  if (setsockopt(pair.server, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset) != 0) {
    CHECK(errno == EOPNOTSUPP);  // TCP has it since Linux 6.9
    return;
  }
  send_all(pair.client, "hello, world");
  arrived(pair.server, 12);
  CHECK(peek(pair.server, 4) == "ello");
  CHECK(peek(pair.server, 2) == ", ");
  CHECK(receive(pair.server, 3) == "hel");
  CHECK(option(pair.server, SOL_SOCKET, SO_PEEK_OFF) == 4);
  CHECK(peek(pair.server, 20) == "world");
  set_option(pair.server, SOL_SOCKET, SO_PEEK_OFF, -1);
  CHECK(peek(pair.server, 20) == "lo, world");
  CHECK(receive(pair.server, 9) == "lo, world");
}
