// Urgent data, the error queue, zero copy, and control data.

#include <time.h>
// needs timespec
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <signal.h>

#include "../pair.hpp"

using namespace conformance;

namespace {

bool at_mark(int fd) {
  int mark = -1;
  REQUIRE(ioctl(fd, SIOCATMARK, &mark) == 0);
  return mark == 1;
}

}  // namespace

TEST_CASE("recv: no urgent data", "[recv][sockatmark]") {
  const auto pair = connected();
  CHECK_FALSE(at_mark(pair.server));
  CHECK(sockatmark(pair.server) == 0);
  CHECK(polled(pair.server, POLLPRI) == 0);
}

TEST_CASE("recv: MSG_OOB where there is none", "[recv][recvmsg]") {
  const auto pair = connected();
  char byte;
  CHECK_FAILS(recv(pair.server, &byte, 1, MSG_OOB), EINVAL);
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  CHECK_FAILS(recv(pair.server, &byte, 1, MSG_OOB), EINVAL);
  CHECK(receive(pair.server, 1) == "x");
}

TEST_CASE("send: MSG_OOB comes beside the stream, at its mark", "[send][recv][poll][sockatmark][tcp]") {
  const auto pair = connected();
  send_all(pair.client, "before");
  CHECK(send(pair.client, "!", 1, MSG_OOB) == 1);
  send_all(pair.client, "after");
  REQUIRE(awaited(pair.server, POLLPRI) & POLLPRI);
  char byte = 0;
  CHECK(recv(pair.server, &byte, 1, MSG_OOB | MSG_PEEK) == 1);
  CHECK(byte == '!');
  CHECK(recv(pair.server, &byte, 1, MSG_OOB) == 1);
  CHECK(byte == '!');
  CHECK_FAILS(recv(pair.server, &byte, 1, MSG_OOB), EINVAL);
  char buffer[100];
  CHECK(recv(pair.server, buffer, sizeof buffer, 0) == 6);  // up to the mark
  CHECK(at_mark(pair.server));
  CHECK(receive(pair.server, 5) == "after");
  CHECK_FALSE(at_mark(pair.server));
}

TEST_CASE("send: MSG_OOB of several bytes: the last is the urgent one", "[send][recv][tcp]") {
  const auto pair = connected();
  CHECK(send(pair.client, "abc", 3, MSG_OOB) == 3);
  REQUIRE(awaited(pair.server, POLLPRI) & POLLPRI);
  char byte = 0;
  CHECK(recv(pair.server, &byte, 1, MSG_OOB) == 1);
  CHECK(byte == 'c');
  CHECK(receive(pair.server, 2) == "ab");
}

TEST_CASE("send: MSG_OOB within the stream, where SO_OOBINLINE is set", "[send][recv][setsockopt][tcp]") {
  const auto pair = connected();
  set_option(pair.server, SOL_SOCKET, SO_OOBINLINE, 1);
  send_all(pair.client, "ab");
  CHECK(send(pair.client, "!", 1, MSG_OOB) == 1);
  send_all(pair.client, "cd");
  REQUIRE(awaited(pair.server, POLLPRI) & POLLPRI);
  char byte;
  CHECK_FAILS(recv(pair.server, &byte, 1, MSG_OOB), EINVAL);
  arrived(pair.server, 2);
  char buffer[100];
  CHECK(recv(pair.server, buffer, sizeof buffer, 0) == 2);
  CHECK(at_mark(pair.server));
  CHECK(receive(pair.server, 3) == "!cd");
}

TEST_CASE("send: MSG_OOB of the accepting end, seen by epoll", "[send][epoll_wait][tcp]") {
  const auto pair = connected();
  const Fd set(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{EPOLLPRI, {.fd = pair.client}};
  REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, pair.client, &event) == 0);
  CHECK(send(pair.server, "!", 1, MSG_OOB) == 1);
  CHECK(epoll_wait(set, &event, 1, 10'000) == 1);
  CHECK(event.events == EPOLLPRI);
  CHECK(event.data.fd == pair.client);
}

TEST_CASE("recvmsg: MSG_OOB is told in its flags", "[recvmsg][tcp]") {
  const auto pair = connected();
  CHECK(send(pair.client, "!", 1, MSG_OOB) == 1);
  REQUIRE(awaited(pair.server, POLLPRI) & POLLPRI);
  char byte;
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  CHECK(recvmsg(pair.server, &message, MSG_OOB) == 1);
  CHECK(message.msg_flags == MSG_OOB);
}

TEST_CASE("recvmsg: MSG_ERRQUEUE where the error queue is empty", "[recvmsg][recv]") {
  const auto pair = connected();
  char control[256], byte;
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  CHECK_FAILS(recvmsg(pair.server, &message, MSG_ERRQUEUE), EAGAIN);
  CHECK_FAILS(recv(pair.server, &byte, 1, MSG_ERRQUEUE), EAGAIN);
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  CHECK_FAILS(recvmsg(pair.server, &message, MSG_ERRQUEUE), EAGAIN);
  CHECK(receive(pair.server, 1) == "x");
}

TEST_CASE("send: MSG_FASTOPEN on a connection that stands", "[send][sendto][tcp]") {
  const auto pair = connected();
  CHECK(send(pair.client, "x", 1, MSG_FASTOPEN) == -1);
  const int error = errno;
  CHECK((error == EISCONN || error == EOPNOTSUPP));  // as net.ipv4.tcp_fastopen says
  send_all(pair.client, "end");
  CHECK(receive(pair.server, 3) == "end");
}

TEST_CASE("send: MSG_ZEROCOPY without SO_ZEROCOPY is as without it", "[send][tcp]") {
  const auto pair = connected();
  const auto text = pattern(20'000);
  CHECK(send(pair.client, text.data(), text.size(), MSG_ZEROCOPY) == 20'000);
  CHECK(receive(pair.server, text.size()) == text);
  CHECK((polled(pair.client, 0) & POLLERR) == 0);
}

TEST_CASE("send: MSG_ZEROCOPY tells on the error queue when the bytes are gone",
          "[send][sendmsg][recvmsg][poll][tcp]") {
  const auto pair = connected();
  set_option(pair.client, SOL_SOCKET, SO_ZEROCOPY, 1);
  const auto text = pattern(20'000);
  for (unsigned i = 0; i < 3; ++i) {
    CHECK(send(pair.client, text.data(), text.size(), MSG_ZEROCOPY) == 20'000);
    CHECK(receive(pair.server, text.size()) == text);
    REQUIRE(awaited(pair.client, 0) & POLLERR);
    alignas(cmsghdr) char control[256];
    msghdr message{};
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    REQUIRE(recvmsg(pair.client, &message, MSG_ERRQUEUE) == 0);
    CHECK((message.msg_flags & MSG_ERRQUEUE) != 0);
    const auto* found = CMSG_FIRSTHDR(&message);
    REQUIRE(found != nullptr);
    const auto* error = reinterpret_cast<const sock_extended_err*>(CMSG_DATA(found));
    CHECK(error->ee_origin == SO_EE_ORIGIN_ZEROCOPY);
    CHECK(error->ee_errno == 0);
    CHECK(error->ee_info == i);
    CHECK(error->ee_data == i);
    CHECK_FAILS(recvmsg(pair.client, &message, MSG_ERRQUEUE), EAGAIN);
  }
}

// The kernel begins to stamp a moment after it was asked to.
TEST_CASE("recvmsg: a time stamp, once SO_TIMESTAMP is set; MSG_CTRUNC where there is no room for it",
          "[recvmsg][setsockopt][tcp]") {
  const auto pair = connected();
  set_option(pair.server, SOL_SOCKET, SO_TIMESTAMP, 1);
  alignas(cmsghdr) char control[256];
  char byte;
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const auto one_received = [&](size_t room) {
    send_all(pair.client, "x");
    message.msg_control = control;
    message.msg_controllen = room;
    REQUIRE(recvmsg(pair.server, &message, 0) == 1);
  };
  REQUIRE(eventually([&] { return one_received(sizeof control), CMSG_FIRSTHDR(&message) != nullptr; }));
  CHECK(CMSG_FIRSTHDR(&message)->cmsg_level == SOL_SOCKET);
  CHECK(CMSG_FIRSTHDR(&message)->cmsg_type == SO_TIMESTAMP);
  CHECK(message.msg_flags == 0);
  one_received(0);
  CHECK(message.msg_flags == MSG_CTRUNC);
}

TEST_CASE("recvmsg: TCP_INQ tells how many bytes are left", "[recvmsg][setsockopt]") {
  const auto pair = connected();
  set_option(pair.server, IPPROTO_TCP, TCP_INQ, 1);
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  alignas(cmsghdr) char control[256];
  char bytes[2];
  iovec part{bytes, 2};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  CHECK(recvmsg(pair.server, &message, 0) == 2);
  const auto* found = CMSG_FIRSTHDR(&message);
  REQUIRE(found != nullptr);
  CHECK(found->cmsg_type == TCP_CM_INQ);
  int left = 0;
  std::memcpy(&left, CMSG_DATA(found), sizeof left);
  CHECK(left == 3);
}

TEST_CASE("recv: of nothing, at the mark there is something", "[recv][tcp]") {
  const auto pair = connected();
  CHECK(send(pair.client, "!", 1, MSG_OOB) == 1);
  REQUIRE(awaited(pair.server, POLLPRI) & POLLPRI);
  char byte;
  CHECK(recv(pair.server, &byte, 0, MSG_DONTWAIT | MSG_PEEK) == 0);
  CHECK(recv(pair.server, &byte, 0, MSG_DONTWAIT) == 0);
  CHECK_FAILS(recv(pair.server, &byte, 1, MSG_DONTWAIT), EAGAIN);
}

TEST_CASE("recv: what takes nothing goes past the mark as well", "[recv][poll][tcp]") {
  for (const int flags : {0, int{MSG_TRUNC}}) {
    const auto pair = connected();
    CHECK(send(pair.client, "!", 1, MSG_OOB) == 1);
    REQUIRE(awaited(pair.server, POLLPRI) & POLLPRI);
    CHECK_FAILS(recv(pair.server, bad_pointer(), 10, MSG_DONTWAIT | flags), EAGAIN);
    CHECK(polled(pair.server, POLLPRI) == 0);
  }
}

TEST_CASE("send: MSG_OOB from an end that has bytes unread waits for nobody", "[send][recv][tcp]") {
  const auto pair = connected({.enter = false});
  send_all(pair.server, "unread");
  arrived(pair.client, 6);
  REQUIRE(eventually([&] {  // it enters its lane, as far as this end's bytes tell
    const auto before = received_by_kernel(pair.server);
    send_all(pair.client, "x");
    return receive(pair.server, 1) == "x" && (!in_lane_world() || received_by_kernel(pair.server) == before);
  }));
  const auto begun = std::chrono::steady_clock::now();
  CHECK(send(pair.client, "!", 1, MSG_OOB) == 1);
  CHECK(std::chrono::steady_clock::now() - begun < 1s);
  REQUIRE(awaited(pair.server, POLLPRI) & POLLPRI);
  CHECK(receive(pair.client, 6) == "unread");
}

TEST_CASE("sendmmsg, recvmmsg: all messages, where the kernel takes over at the first", "[sendmmsg][recvmmsg][tcp]") {
  const auto pair = connected();
  CHECK(send(pair.client, "!", 1, MSG_OOB) == 1);
  char text[] = "abc";
  iovec parts[2] = {{text, 1}, {text + 1, 2}};
  mmsghdr both[2] = {};
  for (int i = 0; i < 2; ++i) both[i].msg_hdr.msg_iov = &parts[i], both[i].msg_hdr.msg_iovlen = 1;
  CHECK(sendmmsg(pair.server, both, 2, 0) == 2);
  arrived(pair.client, 3);
  CHECK(recvmmsg(pair.client, both, 2, 0, nullptr) == 2);
  CHECK(std::string_view(text) == "abc");
}

TEST_CASE("recv: MSG_TRUNC at the mark counts what is behind it, and goes past it", "[recv][poll][tcp]") {
  const auto pair = connected();
  CHECK(send(pair.client, "!", 1, MSG_OOB) == 1);
  send_all(pair.client, "behind");
  REQUIRE(awaited(pair.server, POLLPRI) & POLLPRI);
  CHECK(eventually([&] { return recv(pair.server, nullptr, 70, MSG_DONTWAIT | MSG_TRUNC | MSG_PEEK) == 6; }));
  CHECK(polled(pair.server, POLLPRI) == POLLPRI);
  CHECK(recv(pair.server, nullptr, 70, MSG_DONTWAIT | MSG_TRUNC) == 6);
  CHECK(polled(pair.server, POLLPRI) == 0);
  CHECK(send(pair.client, "!", 1, MSG_OOB) == 1);
  REQUIRE(awaited(pair.server, POLLPRI) & POLLPRI);
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  REQUIRE(awaited(pair.server, POLLRDHUP) & POLLRDHUP);
  CHECK(recv(pair.server, nullptr, 70, MSG_DONTWAIT | MSG_TRUNC) == 0);
  CHECK(polled(pair.server, POLLPRI) == 0);
}

TEST_CASE("recv: what SO_RCVLOWAT asks for is not waited for across the mark", "[recv][setsockopt][tcp]") {
  const auto pair = connected();
  set_option(pair.server, SOL_SOCKET, SO_RCVLOWAT, 10);
  send_all(pair.client, "front");
  CHECK(send(pair.client, "!", 1, MSG_OOB) == 1);
  send_all(pair.client, std::string(100, 'b'));
  REQUIRE(awaited(pair.server, POLLPRI) & POLLPRI);
  char buffer[60];
  CHECK(recv(pair.server, buffer, sizeof buffer, 0) == 5);
}

TEST_CASE("ioctl: SIOCATMARK is 0 as long as bytes come before the mark, wherever they are",
          "[ioctl][sockatmark][recv][tcp]") {
  const auto pair = connected();
  send_all(pair.client, "unread");
  arrived(pair.server, 6);
  CHECK(send(pair.client, "!", 1, MSG_OOB) == 1);
  REQUIRE(awaited(pair.server, POLLPRI) & POLLPRI);
  int mark = -1;
  REQUIRE(ioctl(pair.server, SIOCATMARK, &mark) == 0);
  CHECK(mark == 0);
  CHECK(sockatmark(pair.server) == 0);
  CHECK(receive(pair.server, 6) == "unread");
  REQUIRE(ioctl(pair.server, SIOCATMARK, &mark) == 0);
  CHECK(mark == 1);
  CHECK(sockatmark(pair.server) == 1);
}

TEST_CASE("recv: into nothing leaves the mark behind it, also while the connection enters its lane",
          "[recv][tcp][no-lane]") {
  // The one end is back on TCP when the other is still on its way, for a moment.
  for (int i = 0; i < 300; ++i) {
    const auto pair = connected({.enter = false});
    send_all(pair.client, "to");
    REQUIRE(receive(pair.server, 2) == "to");
    send_all(pair.server, "fro");
    REQUIRE(receive(pair.client, 3) == "fro");
    std::this_thread::sleep_for(std::chrono::microseconds(i % 60 * 10));
    REQUIRE(send(pair.server, "!", 1, MSG_OOB) == 1);
    REQUIRE(awaited(pair.client, POLLPRI) & POLLPRI);
    const bool dropped = i % 2;
    CHECK(recv(pair.client, dropped ? nullptr : bad_pointer(), 70, MSG_DONTWAIT | (dropped ? MSG_TRUNC : 0)) == -1);
    CHECK(errno == EAGAIN);
    CHECK(polled(pair.client, POLLPRI) == 0);
  }
}
