// MSG_WAITALL: all of it, unless something ends the wait.

#include <signal.h>

#include "../pair.hpp"

using namespace conformance;

namespace {

// recv with MSG_WAITALL in a thread of its own.
struct Whole {
  std::string bytes;
  ssize_t got = -2;
  int error = 0;
  std::thread thread;
  Whole(int fd, size_t size, int flags = MSG_WAITALL)
      : bytes(size, '\0'), thread([this, fd, flags] {
          got = recv(fd, bytes.data(), bytes.size(), flags);
          error = errno;
        }) {}
  void done() { thread.join(); }
};

}  // namespace

TEST_CASE("recv: MSG_WAITALL waits for all that was asked for", "[recv]") {
  const auto pair = connected();
  Whole whole(pair.server, 10);
  for (const char* piece : {"01", "234", "5", "6789"}) {
    send(pair.client, piece, strlen(piece), 0);
    std::this_thread::sleep_for(1ms);
  }
  whole.done();
  CHECK(whole.got == 10);
  CHECK(whole.bytes == "0123456789");
}

TEST_CASE("recv: MSG_WAITALL takes no more than was asked for", "[recv]") {
  const auto pair = connected();
  send_all(pair.client, "0123456789");
  arrived(pair.server, 10);
  char buffer[4];
  CHECK(recv(pair.server, buffer, 4, MSG_WAITALL) == 4);
  CHECK(std::string_view(buffer, 4) == "0123");
  CHECK(receive(pair.server, 6) == "456789");
}

TEST_CASE("recv: MSG_WAITALL of more than any ring holds", "[recv]") {
  const auto pair = connected();
  const auto text = pattern(5 << 20);
  Whole whole(pair.server, text.size());
  send_all(pair.client, text);
  whole.done();
  CHECK(whole.got == static_cast<ssize_t>(text.size()));
  CHECK(whole.bytes == text);
}

TEST_CASE("recv: MSG_WAITALL ends with the stream", "[recv]") {
  const auto pair = connected();
  Whole whole(pair.server, 10);
  send_all(pair.client, "abc");
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  whole.done();
  CHECK(whole.got == 3);
  char byte;
  CHECK(recv(pair.server, &byte, 1, MSG_WAITALL) == 0);
}

TEST_CASE("recv: MSG_WAITALL ends when the peer closes", "[recv]") {
  auto pair = connected();
  Whole whole(pair.server, 10);
  send_all(pair.client, "abc");
  pair.client.close();
  whole.done();
  CHECK(whole.got == 3);
}

TEST_CASE("recv: MSG_WAITALL ends when the own half is shut", "[recv][shutdown]") {
  auto pair = connected();
  send_all(pair.client, "abc");
  arrived(pair.server, 3);
  Whole whole(pair.server, 10);
  std::this_thread::sleep_for(5ms);
  REQUIRE(shutdown(pair.server, SHUT_RD) == 0);
  whole.done();
  CHECK(whole.got == 3);
}

TEST_CASE("recv: MSG_WAITALL gives what it has when SO_RCVTIMEO is over", "[recv]") {
  const auto pair = connected();
  const timeval limit{0, 20'000};
  REQUIRE(setsockopt(pair.server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
  send_all(pair.client, "abc");
  char buffer[10];
  CHECK(recv(pair.server, buffer, 10, MSG_WAITALL) == 3);
  CHECK_FAILS(recv(pair.server, buffer, 10, MSG_WAITALL), EAGAIN);
}

TEST_CASE("recv: MSG_WAITALL does not wait where nothing may", "[recv]") {
  const auto pair = connected();
  char buffer[10];
  CHECK_FAILS(recv(pair.server, buffer, 10, MSG_WAITALL | MSG_DONTWAIT), EAGAIN);
  send_all(pair.client, "abc");
  arrived(pair.server, 3);
  CHECK(recv(pair.server, buffer, 10, MSG_WAITALL | MSG_DONTWAIT) == 3);
  set_nonblocking(pair.server);
  send_all(pair.client, "abc");
  arrived(pair.server, 3);
  CHECK(recv(pair.server, buffer, 10, MSG_WAITALL) == 3);
}

TEST_CASE("recv: MSG_WAITALL gives what it has when a signal comes", "[recv]") {
  const auto pair = connected();
  struct sigaction action {};
  action.sa_handler = [](int) {};
  REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
  send_all(pair.client, "abc");
  arrived(pair.server, 3);
  Whole whole(pair.server, 10);
  REQUIRE(eventually([&] {  // once it has taken the three and waits
    int there = -1;
    return ioctl(pair.server, FIONREAD, &there) == 0 && there == 0;
  }));
  std::this_thread::sleep_for(5ms);
  REQUIRE(pthread_kill(whole.thread.native_handle(), SIGUSR1) == 0);
  whole.done();
  CHECK(whole.got == 3);
}

TEST_CASE("recvmsg: MSG_WAITALL fills all pieces", "[recvmsg][recvfrom]") {
  const auto pair = connected();
  char a[3], b[4], c[3];
  iovec parts[] = {{a, 3}, {b, 4}, {c, 3}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 3;
  ssize_t got = 0, from = 0;
  char buffer[5];
  std::thread reader([&] {
    got = recvmsg(pair.server, &message, MSG_WAITALL);
    from = recvfrom(pair.server, buffer, 5, MSG_WAITALL, nullptr, nullptr);
  });
  for (const char* byte = "0123456789ABCDE"; *byte; ++byte) send(pair.client, byte, 1, 0);
  reader.join();
  CHECK(got == 10);
  CHECK(std::string(a, 3) + std::string(b, 4) + std::string(c, 3) == "0123456789");
  CHECK(from == 5);
  CHECK(std::string(buffer, 5) == "ABCDE");
}

TEST_CASE("recvmmsg: MSG_WAITALL fills each message", "[recvmmsg]") {
  const auto pair = connected();
  char a[3], b[4];
  iovec parts[] = {{a, 3}, {b, 4}};
  mmsghdr messages[2]{};
  for (int i = 0; i < 2; ++i) messages[i].msg_hdr.msg_iov = &parts[i], messages[i].msg_hdr.msg_iovlen = 1;
  int got = 0;
  std::thread reader([&] { got = recvmmsg(pair.server, messages, 2, MSG_WAITALL, nullptr); });
  for (const char* byte = "0123456"; *byte; ++byte) send(pair.client, byte, 1, 0);
  reader.join();
  CHECK(got == 2);
  CHECK(messages[0].msg_len == 3);
  CHECK(messages[1].msg_len == 4);
  CHECK(std::string(a, 3) + std::string(b, 4) == "0123456");
}
