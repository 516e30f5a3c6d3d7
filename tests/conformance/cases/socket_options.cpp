// getsockopt and setsockopt at the level of sockets.

#include <linux/sockios.h>
#include <sys/time.h>

#include <climits>

#include "../pair.hpp"

using namespace conformance;

namespace {

using Clock = std::chrono::steady_clock;

// Of a limit of 30 ms: the kernel counts in ticks, which are 4 ms long where they are rare, and the first has begun
// already.
constexpr auto kLeast = 25ms;

Clock::duration lasts(const std::function<void()>& call) {
  const auto begun = Clock::now();
  call();
  return Clock::now() - begun;
}

void talk(const Pair& pair) {
  send_all(pair.client, "to");
  CHECK(receive(pair.server, 2) == "to");
  send_all(pair.server, "fro");
  CHECK(receive(pair.client, 3) == "fro");
}

// Both ways in which the kernel numbers the options that hold times.
constexpr int kReceiveTimes[] = {SO_RCVTIMEO, SO_RCVTIMEO_OLD, SO_RCVTIMEO_NEW};
constexpr int kSendTimes[] = {SO_SNDTIMEO, SO_SNDTIMEO_OLD, SO_SNDTIMEO_NEW};

void set_time(int fd, int name, std::chrono::microseconds time) {
  const timeval limit{time.count() / 1000000, time.count() % 1000000};
  REQUIRE(setsockopt(fd, SOL_SOCKET, name, &limit, sizeof limit) == 0);
}

}  // namespace

TEST_CASE("getsockopt: what a flow is", "[getsockopt]") {
  for (const auto family : {Family::v4, Family::mapped}) {
    const auto pair = connected({.family = family});
    for (const int fd : {+pair.client, +pair.server}) {
      CHECK(option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM);
      CHECK(option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP);
      CHECK(option(fd, SOL_SOCKET, SO_DOMAIN) == (family == Family::v4 ? AF_INET : AF_INET6));
      CHECK(option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 0);
      CHECK(option(fd, SOL_SOCKET, SO_ERROR) == 0);
    }
  }
}

TEST_CASE("getsockopt: bad pointers, sizes and names", "[getsockopt]") {
  const auto pair = connected();
  for (const int fd : {+pair.client, +pair.server})
    for (const int name : {SO_ERROR, SO_RCVBUF, SO_TYPE}) {
      int value = 0;
      socklen_t size = sizeof value;
      CHECK_FAILS(getsockopt(fd, SOL_SOCKET, name, bad_pointer(), &size), EFAULT);
      CHECK_FAILS(getsockopt(fd, SOL_SOCKET, name, nullptr, &size), EFAULT);
      CHECK_FAILS(getsockopt(fd, SOL_SOCKET, name, &value, static_cast<socklen_t*>(bad_pointer())), EFAULT);
      CHECK_FAILS(getsockopt(fd, SOL_SOCKET, name, &value, nullptr), EFAULT);
      size = static_cast<socklen_t>(-1);
      CHECK_FAILS(getsockopt(fd, SOL_SOCKET, name, &value, &size), EINVAL);
    }
  int value;
  socklen_t size = sizeof value;
  CHECK_FAILS(getsockopt(pair.client, SOL_SOCKET, 9999, &value, &size), ENOPROTOOPT);
  CHECK_FAILS(getsockopt(pair.client, IPPROTO_TCP, 9999, &value, &size), ENOPROTOOPT);
  CHECK_FAILS(getsockopt(pair.client, 9999, SO_ERROR, &value, &size), EOPNOTSUPP);
  CHECK_FAILS(getsockopt(-1, SOL_SOCKET, SO_ERROR, &value, &size), EBADF);
  CHECK_FAILS(getsockopt(0, SOL_SOCKET, SO_ERROR, &value, &size), ENOTSOCK);
}

TEST_CASE("getsockopt: short and long room for SO_ERROR", "[getsockopt]") {
  const auto pair = connected();
  for (const socklen_t room : {0u, 1u, 2u, 3u, 4u, 100u}) {
    unsigned char value[128];
    memset(value, 0xee, sizeof value);
    socklen_t size = room;
    CHECK(getsockopt(pair.client, SOL_SOCKET, SO_ERROR, value, &size) == 0);
    CHECK(size == std::min<socklen_t>(room, sizeof(int)));
    for (socklen_t i = 0; i < 8; ++i) CHECK(value[i] == (i < size ? 0 : 0xee));
  }
}

TEST_CASE("setsockopt: bad pointers, sizes and names", "[setsockopt]") {
  const auto pair = connected();
  const int one = 1;
  for (const int fd : {+pair.client, +pair.server})
    for (const int name : {SO_KEEPALIVE, SO_RCVBUF, SO_LINGER, SO_RCVTIMEO}) {
      CHECK_FAILS(setsockopt(fd, SOL_SOCKET, name, bad_pointer(), sizeof(timeval)), EFAULT);
      CHECK_FAILS(setsockopt(fd, SOL_SOCKET, name, nullptr, sizeof(timeval)), EFAULT);
      CHECK_FAILS(setsockopt(fd, SOL_SOCKET, name, &one, 1), EINVAL);
      CHECK_FAILS(setsockopt(fd, SOL_SOCKET, name, &one, 0), EINVAL);
    }
  CHECK_FAILS(setsockopt(pair.client, SOL_SOCKET, 9999, &one, sizeof one), ENOPROTOOPT);
  CHECK_FAILS(setsockopt(pair.client, IPPROTO_TCP, 9999, &one, sizeof one), ENOPROTOOPT);
  CHECK_FAILS(setsockopt(pair.client, IPPROTO_TCP, TCP_CORK, bad_pointer(), sizeof one), EFAULT);
  CHECK_FAILS(setsockopt(pair.client, IPPROTO_TCP, TCP_CORK, &one, 1), EINVAL);
  CHECK_FAILS(setsockopt(pair.client, IPPROTO_TCP, TCP_CORK, &one, static_cast<socklen_t>(-1)), EINVAL);
  CHECK_FAILS(setsockopt(pair.client, SOL_SOCKET, SO_TYPE, &one, sizeof one), ENOPROTOOPT);
  CHECK_FAILS(setsockopt(pair.client, SOL_SOCKET, SO_ERROR, &one, sizeof one), ENOPROTOOPT);
  CHECK_FAILS(setsockopt(-1, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one), EBADF);
  CHECK_FAILS(setsockopt(0, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one), ENOTSOCK);
  talk(pair);
}

TEST_CASE("getsockopt: SO_ERROR tells of a reset once", "[getsockopt]") {
  auto pair = connected();
  const linger hard{1, 0};
  REQUIRE(setsockopt(pair.client, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
  pair.client.close();
  REQUIRE((awaited(pair.server, POLLIN) & POLLERR) != 0);
  CHECK(option(pair.server, SOL_SOCKET, SO_ERROR) == ECONNRESET);
  CHECK(option(pair.server, SOL_SOCKET, SO_ERROR) == 0);
  char byte;
  CHECK(recv(pair.server, &byte, 1, 0) == 0);
  CHECK_FAILS(send(pair.server, &byte, 1, MSG_NOSIGNAL), EPIPE);
  CHECK((polled(pair.server, POLLIN) & POLLERR) == 0);
}

TEST_CASE("setsockopt: SO_RCVTIMEO bounds recv: EAGAIN, under each of its names", "[setsockopt][recv][read][recvmsg]") {
  const auto pair = connected();
  char byte;
  for (const int name : kReceiveTimes) {
    set_time(pair.server, name, 30ms);
    CHECK(lasts([&] { CHECK_FAILS(recv(pair.server, &byte, 1, 0), EAGAIN); }) >= kLeast);
    CHECK(lasts([&] { CHECK_FAILS(read(pair.server, &byte, 1), EAGAIN); }) >= kLeast);
    iovec piece{&byte, 1};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    CHECK(lasts([&] { CHECK_FAILS(recvmsg(pair.server, &message, 0), EAGAIN); }) >= kLeast);
    set_time(pair.server, name, 0us);
    CHECK_FAILS(recv(pair.server, &byte, 1, MSG_DONTWAIT), EAGAIN);
  }
  talk(pair);
}

TEST_CASE("setsockopt: SO_RCVTIMEO: MSG_WAITALL gives what is there", "[setsockopt][recv]") {
  const auto pair = connected();
  set_time(pair.server, SO_RCVTIMEO, 30ms);
  send_all(pair.client, "abc");
  arrived(pair.server, 3);
  char bytes[10];
  CHECK(lasts([&] { CHECK(recv(pair.server, bytes, 10, MSG_WAITALL) == 3); }) >= kLeast);
}

TEST_CASE("setsockopt: SO_RCVTIMEO ends early when bytes come", "[setsockopt][recv]") {
  const auto pair = connected();
  set_time(pair.server, SO_RCVTIMEO, 5s);
  std::thread later([&] { send_all(pair.client, "x"); });
  CHECK(lasts([&] { CHECK(receive(pair.server, 1) == "x"); }) < 4s);
  later.join();
}

TEST_CASE("setsockopt: SO_SNDTIMEO bounds send: EAGAIN, or a short count", "[setsockopt][send]") {
  for (const int name : kSendTimes) {
    const auto pair = connected();
    set_time(pair.client, name, 30ms);
    const auto bytes = pattern(64 << 20);
    ssize_t sent = -2;
    CHECK(lasts([&] { sent = send(pair.client, bytes.data(), bytes.size(), MSG_NOSIGNAL); }) >= kLeast);
    CHECK(sent > 0);
    CHECK(sent < static_cast<ssize_t>(bytes.size()));
    // The kernel may find a little more room yet.
    CHECK(eventually([&] { return send(pair.client, bytes.data(), 1000, MSG_NOSIGNAL) < 0; }));
    CHECK(errno == EAGAIN);
    CHECK(receive(pair.server, static_cast<size_t>(sent)) == bytes.substr(0, static_cast<size_t>(sent)));
  }
}

TEST_CASE("setsockopt: SO_RCVTIMEO: what is set is what is told, and impossible times are refused",
          "[setsockopt][getsockopt]") {
  const auto pair = connected();
  set_time(pair.client, SO_RCVTIMEO, 1'250'000us);
  timeval told{};
  socklen_t size = sizeof told;
  CHECK(getsockopt(pair.client, SOL_SOCKET, SO_RCVTIMEO, &told, &size) == 0);
  CHECK(told.tv_sec == 1);
  CHECK(std::abs(told.tv_usec - 250'000) < 10'000);
  const timeval bad{1, 2'000'000};
  CHECK_FAILS(setsockopt(pair.client, SOL_SOCKET, SO_RCVTIMEO, &bad, sizeof bad), EDOM);
  const timeval negative{-1, 0};
  CHECK(setsockopt(pair.client, SOL_SOCKET, SO_RCVTIMEO, &negative, sizeof negative) == 0);
}

namespace {

void never_waits(int fd) {
  char byte;
  CHECK(lasts([&] { CHECK_FAILS(recv(fd, &byte, 1, 0), EAGAIN); }) < 1s);
  CHECK(lasts([&] { CHECK_FAILS(read(fd, &byte, 1), EAGAIN); }) < 1s);
}

}  // namespace

TEST_CASE("setsockopt: SO_RCVTIMEO: a negative time: no call waits, until another is set", "[setsockopt][recv][read]") {
  for (const int name : kReceiveTimes) {
    const auto pair = connected();
    const timeval negative{-1, 0};
    REQUIRE(setsockopt(pair.server, SOL_SOCKET, name, &negative, sizeof negative) == 0);
    set_option(pair.server, SOL_SOCKET, SO_KEEPALIVE, 1);  // another option changes nothing
    set_time(pair.server, SO_SNDTIMEO, 30ms);
    never_waits(pair.server);
    send_all(pair.client, "ab");
    arrived(pair.server, 2);
    char bytes[4];
    CHECK(recv(pair.server, bytes, 4, MSG_WAITALL) == 2);
    timeval told{1, 1};
    socklen_t size = sizeof told;
    CHECK(getsockopt(pair.server, SOL_SOCKET, name, &told, &size) == 0);
    CHECK((told.tv_sec == 0 && told.tv_usec == 0));
    set_time(pair.server, name, 30ms);
    CHECK(lasts([&] { CHECK_FAILS(recv(pair.server, bytes, 1, 0), EAGAIN); }) >= kLeast);
    talk(pair);
  }
}

TEST_CASE("setsockopt: SO_SNDTIMEO: a negative time: no call waits", "[setsockopt][send]") {
  for (const int name : kSendTimes) {
    const auto pair = connected();
    const timeval negative{-1000, 0};
    REQUIRE(setsockopt(pair.client, SOL_SOCKET, name, &negative, sizeof negative) == 0);
    const auto bytes = pattern(64 << 20);
    ssize_t sent = 0;
    CHECK(lasts([&] { sent = send(pair.client, bytes.data(), bytes.size(), MSG_NOSIGNAL); }) < 5s);
    CHECK(sent > 0);
    CHECK(sent < static_cast<ssize_t>(bytes.size()));
    CHECK(receive(pair.server, static_cast<size_t>(sent)) == bytes.substr(0, static_cast<size_t>(sent)));
  }
}

TEST_CASE("setsockopt: SO_RCVTIMEO: negative before the connection is made, and of the listener",
          "[setsockopt][recv][accept]") {
  const timeval negative{-1, 0};
  const auto listener = listening();
  REQUIRE(setsockopt(listener.fd, SOL_SOCKET, SO_RCVTIMEO, &negative, sizeof negative) == 0);
  const auto client = stream_socket();
  REQUIRE(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &negative, sizeof negative) == 0);
  REQUIRE(connect(client, listener.name(), listener.size) == 0);
  REQUIRE(awaited(listener.fd, POLLIN) == POLLIN);
  const Fd server(accept(listener.fd, nullptr, nullptr));
  REQUIRE(server >= 0);
  never_waits(server);
  enter_lane(client, server);
  never_waits(client);
  never_waits(server);
}

TEST_CASE("setsockopt: SO_RCVTIMEO: negative, and then the socket listens", "[setsockopt][recv][listen][accept]") {
  const timeval negative{-1, 0};
  const auto socket = stream_socket();
  REQUIRE(setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &negative, sizeof negative) == 0);
  const auto model = listening();
  auto name = model.address;
  reinterpret_cast<sockaddr_in&>(name).sin_port = 0;
  REQUIRE(bind(socket, reinterpret_cast<sockaddr*>(&name), model.size) == 0);
  REQUIRE(listen(socket, 4) == 0);
  socklen_t size = sizeof name;
  REQUIRE(getsockname(socket, reinterpret_cast<sockaddr*>(&name), &size) == 0);
  const auto client = stream_socket();
  REQUIRE(connect(client, reinterpret_cast<sockaddr*>(&name), size) == 0);
  REQUIRE(awaited(socket, POLLIN) == POLLIN);
  const Fd server(accept(socket, nullptr, nullptr));
  enter_lane(client, server);
  never_waits(server);
}

TEST_CASE("setsockopt: SO_RCVTIMEO: times that are far away are waited for", "[setsockopt][recv]") {
  for (const long seconds : {1L << 33, 1L << 40, 1L << 53, LONG_MAX}) {
    const auto pair = connected();
    const timeval far{seconds, 999'999};
    REQUIRE(setsockopt(pair.server, SOL_SOCKET, SO_RCVTIMEO, &far, sizeof far) == 0);
    std::thread later([&] {
      std::this_thread::sleep_for(10ms);
      send_all(pair.client, "x");
    });
    CHECK(receive(pair.server, 1) == "x");
    later.join();
  }
}

TEST_CASE("setsockopt: SO_RCVTIMEO through a copy of the descriptor", "[setsockopt][dup]") {
  const auto pair = connected();
  const Fd copy(dup(pair.server));
  set_time(copy, SO_RCVTIMEO, 30ms);
  char byte;
  CHECK_FAILS(recv(pair.server, &byte, 1, 0), EAGAIN);
}

TEST_CASE("setsockopt: SO_RCVTIMEO set before the lane was entered", "[setsockopt][recv]") {
  const auto pair = connected({.prepare = [](int fd) { set_time(fd, SO_RCVTIMEO, 30ms); }});
  char byte;
  CHECK_FAILS(recv(pair.server, &byte, 1, 0), EAGAIN);
  CHECK_FAILS(recv(pair.client, &byte, 1, 0), EAGAIN);
}

TEST_CASE("setsockopt: SO_RCVLOWAT: poll waits for so many bytes", "[setsockopt][poll]") {
  const auto pair = connected();
  set_option(pair.server, SOL_SOCKET, SO_RCVLOWAT, 10);
  CHECK(option(pair.server, SOL_SOCKET, SO_RCVLOWAT) == 10);
  send_all(pair.client, "12345");
  arrived(pair.server, 5);
  CHECK(polled(pair.server, POLLIN) == 0);
  send_all(pair.client, "67890");
  CHECK(awaited(pair.server, POLLIN) == POLLIN);
  CHECK(receive(pair.server, 3) == "123");
  CHECK(polled(pair.server, POLLIN) == 0);
  set_option(pair.server, SOL_SOCKET, SO_RCVLOWAT, 1);
  CHECK(awaited(pair.server, POLLIN) == POLLIN);
}

TEST_CASE("setsockopt: SO_RCVLOWAT: epoll waits for so many bytes", "[setsockopt][epoll_wait]") {
  const auto pair = connected();
  set_option(pair.server, SOL_SOCKET, SO_RCVLOWAT, 10);
  const Fd set(epoll_create1(0));
  epoll_event event{EPOLLIN, {.u32 = 7}};
  REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, pair.server, &event) == 0);
  send_all(pair.client, "12345");
  arrived(pair.server, 5);
  CHECK(epoll_wait(set, &event, 1, 0) == 0);
  send_all(pair.client, "67890");
  CHECK(epoll_wait(set, &event, 1, 5000) == 1);
}

TEST_CASE("setsockopt: SO_RCVLOWAT: a blocking recv waits, one that does not wait takes what is there",
          "[setsockopt][recv]") {
  const auto pair = connected();
  set_option(pair.server, SOL_SOCKET, SO_RCVLOWAT, 10);
  send_all(pair.client, "12345");
  arrived(pair.server, 5);
  char bytes[100];
  set_time(pair.server, SO_RCVTIMEO, 30ms);
  CHECK(recv(pair.server, bytes, 3, 0) == 3);  // as much as is asked for is enough
  CHECK(lasts([&] { CHECK(recv(pair.server, bytes, sizeof bytes, 0) == 2); }) >= kLeast);
  send_all(pair.client, "12345");
  arrived(pair.server, 5);
  CHECK(recv(pair.server, bytes, sizeof bytes, MSG_DONTWAIT) == 5);
  set_time(pair.server, SO_RCVTIMEO, 5s);
  std::thread later([&] {
    send_all(pair.client, "abcde");
    std::this_thread::sleep_for(5ms);
    send_all(pair.client, "fghij");
  });
  CHECK(recv(pair.server, bytes, sizeof bytes, 0) == 10);
  later.join();
}

TEST_CASE(
    "setsockopt: SO_RCVLOWAT: too little after a recv took a part does not wake it, and is taken when its time is up",
    "[setsockopt][recv]") {
  const auto pair = connected();
  set_option(pair.server, SOL_SOCKET, SO_RCVLOWAT, 10);
  set_time(pair.server, SO_RCVTIMEO, 500ms);
  send_all(pair.client, "12345");
  arrived(pair.server, 5);
  std::thread later([&] {
    int left = 5;
    eventually([&] { return ioctl(pair.server, FIONREAD, &left) == 0 && left == 0; });
    send_all(pair.client, "67890");
  });
  char bytes[100];
  CHECK(lasts([&] { CHECK(recv(pair.server, bytes, sizeof bytes, 0) == 10); }) >= 450ms);
  later.join();
}

TEST_CASE("setsockopt: SO_RCVLOWAT: the end of the stream is readable however little there is",
          "[setsockopt][poll][recv]") {
  const auto pair = connected();
  set_option(pair.server, SOL_SOCKET, SO_RCVLOWAT, 1000);
  send_all(pair.client, "few");
  CHECK(shutdown(pair.client, SHUT_WR) == 0);
  CHECK(awaited(pair.server, POLLIN) == POLLIN);
  char bytes[100];
  CHECK(recv(pair.server, bytes, sizeof bytes, 0) == 3);
  CHECK(recv(pair.server, bytes, sizeof bytes, 0) == 0);
}

TEST_CASE("setsockopt: SO_RCVBUF and SO_SNDBUF are told doubled, and bytes still pass", "[setsockopt][getsockopt]") {
  const auto pair = connected();
  for (const int name : {SO_RCVBUF, SO_SNDBUF}) {
    set_option(pair.client, SOL_SOCKET, name, 50'000);
    CHECK(option(pair.client, SOL_SOCKET, name) == 100'000);
    set_option(pair.client, SOL_SOCKET, name, 1);
    CHECK(option(pair.client, SOL_SOCKET, name) > 1);
  }
  talk(pair);
  const auto bytes = pattern(300'000);
  std::string got;
  std::thread reads([&] { got = receive(pair.server, bytes.size()); });
  send_all(pair.client, bytes);
  reads.join();
  CHECK(got == bytes);
}

TEST_CASE("setsockopt: small buffers bound what a sender has under way", "[setsockopt][send]") {
  // How many bytes differs from the kernel's, whose packets count with all that is around them; that there is a bound
  // does not.
  const auto pair = connected({.prepare = [](int fd) {
    set_option(fd, SOL_SOCKET, SO_SNDBUF, 8192);
    set_option(fd, SOL_SOCKET, SO_RCVBUF, 8192);
  }});
  set_nonblocking(pair.client);
  CHECK(fill(pair.client) < 100'000);
}

TEST_CASE("setsockopt: SO_KEEPALIVE and its times are the connection's", "[setsockopt][getsockopt]") {
  const auto pair = connected();
  CHECK(option(pair.client, SOL_SOCKET, SO_KEEPALIVE) == 0);
  set_option(pair.client, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(pair.client, IPPROTO_TCP, TCP_KEEPIDLE, 33);
  set_option(pair.client, IPPROTO_TCP, TCP_KEEPINTVL, 7);
  set_option(pair.client, IPPROTO_TCP, TCP_KEEPCNT, 3);
  CHECK(option(pair.client, SOL_SOCKET, SO_KEEPALIVE) == 1);
  CHECK(option(pair.client, IPPROTO_TCP, TCP_KEEPIDLE) == 33);
  CHECK(option(pair.client, IPPROTO_TCP, TCP_KEEPINTVL) == 7);
  CHECK(option(pair.client, IPPROTO_TCP, TCP_KEEPCNT) == 3);
  talk(pair);
}

TEST_CASE("setsockopt: SO_LINGER is told as it was set", "[setsockopt][getsockopt]") {
  const auto pair = connected();
  const linger set{1, 12};
  REQUIRE(setsockopt(pair.client, SOL_SOCKET, SO_LINGER, &set, sizeof set) == 0);
  linger told{};
  socklen_t size = sizeof told;
  REQUIRE(getsockopt(pair.client, SOL_SOCKET, SO_LINGER, &told, &size) == 0);
  CHECK(told.l_onoff == 1);
  CHECK(told.l_linger == 12);
  const linger none{};
  REQUIRE(setsockopt(pair.client, SOL_SOCKET, SO_LINGER, &none, sizeof none) == 0);
}

TEST_CASE("setsockopt: what else programs set, told as it was set", "[setsockopt][getsockopt]") {
  const auto pair = connected();
  const std::pair<int, int> settings[] = {{SO_REUSEADDR, 1}, {SO_REUSEPORT, 1}, {SO_BUSY_POLL, 0}, {SO_INCOMING_CPU, 0},
                                          {SO_PRIORITY, 3},  {SO_OOBINLINE, 1}, {SO_DONTROUTE, 1}};
  for (const auto& [name, value] : settings) {
    INFO(name);
    CHECK(setsockopt(pair.client, SOL_SOCKET, name, &value, sizeof value) == 0);
    CHECK(option(pair.client, SOL_SOCKET, name) == value);
  }
  talk(pair);
}

TEST_CASE("setsockopt: SO_TIMESTAMP: recvmsg tells when the bytes came", "[setsockopt][recvmsg][tcp]") {
  for (const bool before : {true, false}) {
    const auto prepare = [&](int fd) {
      if (before) set_option(fd, SOL_SOCKET, SO_TIMESTAMP, 1);
    };
    const auto in_lane = connected();
    const auto pair = connected({.enter = !before, .prepare = prepare});
    if (!before) set_option(pair.server, SOL_SOCKET, SO_TIMESTAMP, 1);
    int kind = -1;
    // It takes the kernel a moment before it looks at the clock.
    CHECK(eventually([&] {
      send_all(pair.client, "x");
      arrived(pair.server, 1);
      char byte;
      alignas(cmsghdr) char control[200];
      iovec piece{&byte, 1};
      msghdr message{};
      message.msg_iov = &piece;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      REQUIRE(recvmsg(pair.server, &message, 0) == 1);
      const auto* part = CMSG_FIRSTHDR(&message);
      if (part) kind = part->cmsg_type;
      return part != nullptr;
    }));
    CHECK(kind == SO_TIMESTAMP);
  }
}

TEST_CASE("setsockopt: TCP_INQ: recvmsg tells how many bytes are left", "[setsockopt][recvmsg]") {
  const auto pair = connected();
  set_option(pair.server, IPPROTO_TCP, TCP_INQ, 1);
  send_all(pair.client, "12345");
  arrived(pair.server, 5);
  char bytes[2];
  alignas(cmsghdr) char control[200];
  iovec piece{bytes, 2};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  CHECK(recvmsg(pair.server, &message, 0) == 2);
  const auto* part = CMSG_FIRSTHDR(&message);
  REQUIRE(part != nullptr);
  CHECK(part->cmsg_level == IPPROTO_TCP);
  CHECK(part->cmsg_type == TCP_CM_INQ);
  int left;
  memcpy(&left, CMSG_DATA(part), sizeof left);
  CHECK(left == 3);
}

TEST_CASE("setsockopt: SO_LINGER 0 that an accepted socket has from its listener: close resets",
          "[setsockopt][accept][close]") {
  const auto listener = listening();
  const linger hard{1, 0};
  REQUIRE(setsockopt(listener.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
  const auto client = stream_socket();
  REQUIRE(connect(client, listener.name(), listener.size) == 0);
  Fd server(accept(listener.fd, nullptr, nullptr));
  enter_lane(client, server);
  server.close();
  CHECK((awaited(client, POLLIN) & POLLERR) == POLLERR);
  char byte;
  CHECK_FAILS(recv(client, &byte, 1, 0), ECONNRESET);
}

TEST_CASE("setsockopt: SO_ZEROCOPY is told as it was set", "[setsockopt][getsockopt]") {
  const auto pair = connected();
  CHECK(option(pair.client, SOL_SOCKET, SO_ZEROCOPY) == 0);
  set_option(pair.client, SOL_SOCKET, SO_ZEROCOPY, 1);
  CHECK(option(pair.client, SOL_SOCKET, SO_ZEROCOPY) == 1);
  const int two = 2;
  CHECK_FAILS(setsockopt(pair.client, SOL_SOCKET, SO_ZEROCOPY, &two, sizeof two), EINVAL);
  talk(pair);
}

TEST_CASE(
    "setsockopt: SO_RCVLOWAT before the connection is used: recv waits for so many bytes, or for all it asked for",
    "[setsockopt][recv][no-lane]") {
  const auto pair = connected({.enter = false});
  set_option(pair.server, SOL_SOCKET, SO_RCVLOWAT, 10);
  set_time(pair.server, SO_RCVTIMEO, 300ms);  // the kernel does not wake who has taken some of them before that
  send_all(pair.client, "12345");
  // Not by arrived(), since poll says nothing of 5.
  CHECK(eventually([&] {
    int there = 0;
    return ioctl(pair.server, FIONREAD, &there) == 0 && there == 5;
  }));
  char bytes[100];
  std::thread later([&] {
    std::this_thread::sleep_for(5ms);
    send_all(pair.client, "67890");
    std::this_thread::sleep_for(5ms);
    send_all(pair.client, "abc");
  });
  CHECK(recv(pair.server, bytes, 10, 0) == 10);
  CHECK(recv(pair.server, bytes, 3, 0) == 3);
  later.join();
}
