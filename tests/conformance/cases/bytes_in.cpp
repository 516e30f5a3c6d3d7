// The plain rules of reading: what comes, in which order, how much of it, and when nothing does.

#include <sys/mman.h>

#include "../pair.hpp"
#include "../ways.hpp"

using namespace conformance;

TEST_CASE("every way to read: gives what is there", EVERY_WAY_IN) {
  const auto pair = connected();
  for (const auto& way : ways_in()) {
    INFO(way.name);
    send_all(pair.client, "hello");
    arrived(pair.server, 5);
    char buffer[100];
    CHECK(way.take(pair.server, buffer, sizeof buffer) == 5);
    CHECK(std::string_view(buffer, 5) == "hello");
  }
}

TEST_CASE("every way to read: takes as much as was asked for, and leaves the rest", EVERY_WAY_IN) {
  const auto pair = connected();
  for (const auto& way : ways_in()) {
    INFO(way.name);
    send_all(pair.server, "hello, world");
    arrived(pair.client, 12);
    char buffer[7];
    CHECK(way.take(pair.client, buffer, 7) == 7);
    CHECK(std::string_view(buffer, 7) == "hello, ");
    CHECK(way.take(pair.client, buffer, 5) == 5);
    CHECK(std::string_view(buffer, 5) == "world");
  }
}

TEST_CASE("every way to read: nothing beyond what came is written to", EVERY_WAY_IN) {
  const auto pair = connected();
  for (const auto& way : ways_in()) {
    INFO(way.name);
    send_all(pair.client, "abc");
    arrived(pair.server, 3);
    std::string buffer(64, '.');
    CHECK(way.take(pair.server, buffer.data(), 64) == 3);
    CHECK(buffer == "abc" + std::string(61, '.'));
  }
}

TEST_CASE("every way to read: EAGAIN where there is nothing", EVERY_WAY_IN) {
  const auto pair = connected({.nonblocking = true});
  for (const auto& way : ways_in())
    for (const int fd : {+pair.client, +pair.server}) {
      INFO(way.name);
      char byte;
      CHECK_FAILS(way.take(fd, &byte, 1), EAGAIN);
    }
}

TEST_CASE("every way to read: waits for the first byte only", EVERY_WAY_IN) {
  const auto pair = connected();
  for (const auto& way : ways_in()) {
    INFO(way.name);
    char buffer[100];
    ssize_t got = 0;
    std::thread reader([&] { got = way.take(pair.server, buffer, sizeof buffer); });
    std::this_thread::sleep_for(1ms);  // most find nothing at first
    CHECK(send(pair.client, "x", 1, 0) == 1);
    reader.join();
    CHECK(got == 1);
    CHECK(buffer[0] == 'x');
  }
}

TEST_CASE("every way to read: EAGAIN when SO_RCVTIMEO is over", EVERY_WAY_IN) {
  const auto pair = connected();
  const timeval limit{0, 10'000};
  REQUIRE(setsockopt(pair.server, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
  for (const auto& way : ways_in()) {
    INFO(way.name);
    char byte;
    const auto begun = std::chrono::steady_clock::now();
    CHECK_FAILS(way.take(pair.server, &byte, 1), EAGAIN);
    CHECK(std::chrono::steady_clock::now() - begun >= 8ms);
  }
}

TEST_CASE("every way to read: the end of the stream, again and again", EVERY_WAY_IN) {
  const auto pair = connected();
  send_all(pair.client, "last");
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  CHECK(receive(pair.server, 4) == "last");
  for (const auto& way : ways_in())
    for (int i = 0; i < 2; ++i) {
      INFO(way.name);
      char buffer[10];
      CHECK(way.take(pair.server, buffer, sizeof buffer) == 0);
    }
}

TEST_CASE("every way to read: errno stays where the call succeeds", EVERY_WAY_IN) {
  const auto pair = connected();
  for (const auto& way : ways_in()) {
    INFO(way.name);
    send_all(pair.client, "x");
    arrived(pair.server, 1);
    char byte;
    errno = ENOTTY;
    CHECK(way.take(pair.server, &byte, 1) == 1);
    CHECK(errno == ENOTTY);
  }
}

TEST_CASE("every way to read: byte by byte", EVERY_WAY_IN) {
  const auto pair = connected();
  const auto text = pattern(200);
  for (const auto& way : ways_in()) {
    INFO(way.name);
    send_all(pair.client, text);
    std::string got;
    for (char byte; got.size() < text.size() && way.take(pair.server, &byte, 1) == 1;) got += byte;
    CHECK(got == text);
  }
}

TEST_CASE("every way to read: EBADF on a descriptor that is none, EISDIR or EINVAL or ENOTSOCK elsewhere",
          "[no-lane]" EVERY_WAY_IN) {
  char byte;
  const Fd memory(memfd_create("no socket", MFD_CLOEXEC));
  for (const auto& way : ways_in()) {
    INFO(way.name);
    CHECK_FAILS(way.take(-1, &byte, 1), EBADF);
    CHECK_FAILS(way.take(1'000'000, &byte, 1), EBADF);
    if (way.like_recv)
      CHECK_FAILS(way.take(memory, &byte, 1), ENOTSOCK);
    else
      CHECK(way.take(memory, &byte, 1) == 0);
  }
}

TEST_CASE("every way to read: ENOTCONN before connect", "[no-lane]" EVERY_WAY_IN) {
  const auto fd = stream_socket();
  const auto listener = listening();
  char byte;
  for (const auto& way : ways_in()) {
    INFO(way.name);
    CHECK_FAILS(way.take(fd, &byte, 1), ENOTCONN);
    CHECK_FAILS(way.take(listener.fd, &byte, 1), ENOTCONN);
  }
}

TEST_CASE("every way to read: a size of nothing", EVERY_WAY_IN) {
  const auto pair = connected({.nonblocking = true});
  char byte = '.';
  for (const auto& way : ways_in()) {
    INFO(way.name);
    if (way.like_recv)
      CHECK_FAILS(way.take(pair.server, &byte, 0), EAGAIN);
    else
      CHECK(way.take(pair.server, &byte, 0) == 0);
  }
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  for (const auto& way : ways_in()) {
    INFO(way.name);
    CHECK(way.take(pair.server, &byte, 0) == 0);
  }
  CHECK(byte == '.');
  CHECK(receive(pair.server, 1) == "x");
}

TEST_CASE("every way to read: at the end of the stream a size of nothing gives 0", EVERY_WAY_IN) {
  const auto pair = connected({.nonblocking = true});
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  REQUIRE(awaited(pair.server, POLLIN) & POLLIN);
  char byte;
  for (const auto& way : ways_in()) {
    INFO(way.name);
    CHECK(way.take(pair.server, &byte, 0) == 0);
  }
}

TEST_CASE("pread and its kin: ESPIPE, and the bytes stay", "[pread][pread64][preadv][preadv64][preadv2][preadv64v2]") {
  const auto pair = connected();
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  char byte;
  const iovec one{&byte, 1};
  CHECK_FAILS(pread(pair.server, &byte, 1, 0), ESPIPE);
  CHECK_FAILS(pread64(pair.server, &byte, 1, 0), ESPIPE);
  CHECK_FAILS(preadv(pair.server, &one, 1, 0), ESPIPE);
  CHECK_FAILS(preadv64(pair.server, &one, 1, 0), ESPIPE);
  CHECK_FAILS(preadv2(pair.server, &one, 1, 0, 0), ESPIPE);
  CHECK_FAILS(preadv64v2(pair.server, &one, 1, 7, 0), ESPIPE);
  CHECK_FAILS(__pread_chk(pair.server, &byte, 1, 0, 1), ESPIPE);
  CHECK_FAILS(__pread64_chk(pair.server, &byte, 1, 0, 1), ESPIPE);
  CHECK_FAILS(pread(pair.server, &byte, 1, -1), EINVAL);
  CHECK_FAILS(preadv(pair.server, &one, 1, -1), EINVAL);
  CHECK_FAILS(preadv2(pair.server, &one, 1, -2, 0), EINVAL);
  CHECK(receive(pair.server, 1) == "x");
}

// Kernels before 6.4 do not know it for sockets of any kind.
TEST_CASE("preadv2: RWF_NOWAIT does not wait", "[preadv2][preadv64v2][tcp]") {
  const auto pair = connected();
  char byte;
  const iovec one{&byte, 1};
  int others[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, others) == 0);
  const Fd of_others[] = {Fd(others[0]), Fd(others[1])};
  REQUIRE(preadv2(others[0], &one, 1, -1, RWF_NOWAIT) == -1);
  if (errno == EOPNOTSUPP) {
    CHECK_FAILS(preadv2(pair.server, &one, 1, -1, RWF_NOWAIT), EOPNOTSUPP);
    return;
  }
  CHECK_FAILS(preadv2(pair.server, &one, 1, -1, RWF_NOWAIT), EAGAIN);
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  CHECK(preadv2(pair.server, &one, 1, -1, RWF_NOWAIT) == 1);
  CHECK(byte == 'x');
  CHECK_FAILS(preadv2(pair.server, &one, 1, -1, 0x40000000), EOPNOTSUPP);
}

TEST_CASE("recv: MSG_DONTWAIT does not wait, on a blocking socket", "[recv][recvfrom][recvmsg]") {
  const auto pair = connected();
  char byte;
  iovec one{&byte, 1};
  msghdr message{};
  message.msg_iov = &one;
  message.msg_iovlen = 1;
  for (const int fd : {+pair.client, +pair.server}) {
    CHECK_FAILS(recv(fd, &byte, 1, MSG_DONTWAIT), EAGAIN);
    CHECK_FAILS(recvfrom(fd, &byte, 1, MSG_DONTWAIT, nullptr, nullptr), EAGAIN);
    CHECK_FAILS(recvmsg(fd, &message, MSG_DONTWAIT), EAGAIN);
    CHECK_FAILS(__recv_chk(fd, &byte, 1, 1, MSG_DONTWAIT), EAGAIN);
    CHECK_FAILS(__recvfrom_chk(fd, &byte, 1, 1, MSG_DONTWAIT, nullptr, nullptr), EAGAIN);
  }
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  CHECK(recv(pair.server, &byte, 1, MSG_DONTWAIT) == 1);
}

TEST_CASE("recv: MSG_TRUNC drops the bytes and does not look at the buffer", "[recv][recvfrom][recvmsg][tcp]") {
  const auto pair = connected();
  send_all(pair.client, "one two");
  arrived(pair.server, 7);
  CHECK(recv(pair.server, nullptr, 4, MSG_TRUNC) == 4);
  CHECK(receive(pair.server, 3) == "two");
  send_all(pair.client, "three");
  arrived(pair.server, 5);
  CHECK(recv(pair.server, nullptr, 1000, MSG_TRUNC | MSG_PEEK) == 5);
  CHECK(recvfrom(pair.server, nullptr, 1000, MSG_TRUNC, nullptr, nullptr) == 5);
  CHECK_FAILS(recv(pair.server, nullptr, 1, MSG_TRUNC | MSG_DONTWAIT), EAGAIN);
}

TEST_CASE("recvfrom: the size of the address is 0, and the address is left alone", "[recvfrom]") {
  const auto pair = connected();
  for (const bool fortified : {false, true}) {
    send_all(pair.client, "x");
    sockaddr_storage address;
    std::memset(&address, 0x55, sizeof address);
    socklen_t size = sizeof address;
    char byte;
    auto* name = reinterpret_cast<sockaddr*>(&address);
    CHECK((fortified ? __recvfrom_chk(pair.server, &byte, 1, 1, 0, name, &size)
                     : recvfrom(pair.server, &byte, 1, 0, name, &size)) == 1);
    CHECK(size == 0);
    CHECK(address.ss_family == 0x5555);
  }
}

TEST_CASE("recvfrom: without an address its size is left alone", "[recvfrom]") {
  const auto pair = connected();
  send_all(pair.client, "x");
  socklen_t size = 77;
  char byte;
  CHECK(recvfrom(pair.server, &byte, 1, 0, nullptr, &size) == 1);
  CHECK(size == 77);
}

TEST_CASE("recv: flags that mean nothing for TCP are let pass", "[recv]") {
  const auto pair = connected();
  for (const int flag :
       {MSG_DONTROUTE, MSG_NOSIGNAL, MSG_CONFIRM, MSG_EOR, MSG_FIN, MSG_SYN, MSG_RST, MSG_MORE, MSG_CMSG_CLOEXEC}) {
    INFO("flag " << flag);
    send_all(pair.client, "x");
    char byte = 0;
    CHECK(recv(pair.server, &byte, 1, flag) == 1);
    CHECK(byte == 'x');
  }
}
