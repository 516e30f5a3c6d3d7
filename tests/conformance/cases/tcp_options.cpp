// Options of TCP, and of IP, on flows.

#include <linux/sockios.h>

#include "../pair.hpp"

using namespace conformance;

namespace {

void talk(const Pair& pair) {
  send_all(pair.client, "to");
  CHECK(receive(pair.server, 2) == "to");
  send_all(pair.server, "fro");
  CHECK(receive(pair.client, 3) == "fro");
}

tcp_info facts(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  REQUIRE(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
  return info;
}

int unread(int fd) {
  int count = -1;
  REQUIRE(ioctl(fd, FIONREAD, &count) == 0);
  return count;
}

}  // namespace

TEST_CASE("setsockopt: TCP_NODELAY: off at first, told as it was set, and small writes leave at once",
          "[setsockopt][getsockopt]") {
  const auto pair = connected();
  CHECK(option(pair.client, IPPROTO_TCP, TCP_NODELAY) == 0);
  set_option(pair.client, IPPROTO_TCP, TCP_NODELAY, 1);
  CHECK(option(pair.client, IPPROTO_TCP, TCP_NODELAY) == 1);
  for (int i = 1; i <= 10; ++i) {
    send_all(pair.client, "x");
    arrived(pair.server, i);
  }
}

TEST_CASE("send: without TCP_NODELAY, several small writes arrive without more", "[send]") {
  const auto pair = connected();
  for (int i = 0; i < 10; ++i) send_all(pair.client, "x");
  arrived(pair.server, 10);
}

TEST_CASE("setsockopt: TCP_CORK holds bytes, uncorking lets them go", "[setsockopt][send]") {
  const auto pair = connected();
  set_option(pair.client, IPPROTO_TCP, TCP_CORK, 1);
  CHECK(option(pair.client, IPPROTO_TCP, TCP_CORK) == 1);
  send_all(pair.client, "held");
  std::this_thread::sleep_for(20ms);
  CHECK(unread(pair.server) == 0);
  send_all(pair.client, " back");
  set_option(pair.client, IPPROTO_TCP, TCP_CORK, 0);
  arrived(pair.server, 9);
  CHECK(receive(pair.server, 9) == "held back");
}

TEST_CASE("setsockopt: TCP_CORK holds bytes for 200 ms at most", "[setsockopt][send]") {
  const auto pair = connected();
  set_option(pair.client, IPPROTO_TCP, TCP_CORK, 1);
  const auto begun = std::chrono::steady_clock::now();
  send_all(pair.client, "held");
  arrived(pair.server, 4);
  const auto lasted = std::chrono::steady_clock::now() - begun;
  CHECK(lasted > 100ms);
  CHECK(lasted < 1s);
}

TEST_CASE("setsockopt: TCP_CORK lets whole packets go", "[setsockopt][send]") {
  const auto pair = connected();
  set_option(pair.client, IPPROTO_TCP, TCP_CORK, 1);
  send_all(pair.client, pattern(200'000).substr(0, 150'000));
  arrived(pair.server, 65'000);
}

TEST_CASE("setsockopt: TCP_CORK, then the end of the stream: all is delivered", "[setsockopt][close][shutdown]") {
  for (const bool closes : {true, false}) {
    auto pair = connected();
    set_option(pair.client, IPPROTO_TCP, TCP_CORK, 1);
    send_all(pair.client, "held");
    if (closes)
      pair.client.close();
    else
      CHECK(shutdown(pair.client, SHUT_WR) == 0);
    CHECK(receive(pair.server, 100) == "held");
  }
}

TEST_CASE("setsockopt: TCP_CORK through TCP_NODELAY: set while corked, it lets go", "[setsockopt][send]") {
  const auto pair = connected();
  set_option(pair.client, IPPROTO_TCP, TCP_CORK, 1);
  send_all(pair.client, "held");
  const auto begun = std::chrono::steady_clock::now();
  set_option(pair.client, IPPROTO_TCP, TCP_NODELAY, 1);
  arrived(pair.server, 4);
  CHECK(std::chrono::steady_clock::now() - begun < 150ms);
}

TEST_CASE("getsockopt: TCP_INFO: the state, as the connection goes through its life", "[getsockopt]") {
  constexpr int kEstablished = 1, kCloseWait = 8, kFinWait2 = 5;
  const auto pair = connected();
  CHECK(facts(pair.client).tcpi_state == kEstablished);
  CHECK(facts(pair.server).tcpi_state == kEstablished);
  CHECK(shutdown(pair.client, SHUT_WR) == 0);
  char byte;
  CHECK(recv(pair.server, &byte, 1, 0) == 0);
  // In a lane the kernel's connection stays whole until both ends are done: the end of the stream is the lane's.
  if (in_lane_world()) return;
  CHECK(eventually([&] { return facts(pair.client).tcpi_state == kFinWait2; }));
  CHECK(facts(pair.server).tcpi_state == kCloseWait);
}

TEST_CASE("getsockopt: TCP_INFO: short room", "[getsockopt]") {
  const auto pair = connected();
  tcp_info info{};
  for (socklen_t room : {0u, 1u, 8u, 104u}) {
    socklen_t size = room;
    CHECK(getsockopt(pair.client, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
    CHECK(size == room);
  }
  socklen_t size = sizeof info;
  CHECK_FAILS(getsockopt(pair.client, IPPROTO_TCP, TCP_INFO, bad_pointer(), &size), EFAULT);
}

TEST_CASE("setsockopt: options of TCP that programs set, told as they were set", "[setsockopt][getsockopt]") {
  const auto pair = connected();
  const std::pair<int, int> settings[] = {
      {TCP_USER_TIMEOUT, 12345}, {TCP_QUICKACK, 1}, {TCP_NOTSENT_LOWAT, 16384}, {TCP_KEEPIDLE, 100},
      {TCP_LINGER2, 10},         {TCP_SYNCNT, 5},   {TCP_WINDOW_CLAMP, 65536},  {TCP_THIN_LINEAR_TIMEOUTS, 1}};
  for (const auto& [name, value] : settings) {
    INFO(name);
    CHECK(setsockopt(pair.client, IPPROTO_TCP, name, &value, sizeof value) == 0);
    if (name != TCP_WINDOW_CLAMP) CHECK(option(pair.client, IPPROTO_TCP, name) == value);
  }
  talk(pair);
}

TEST_CASE("setsockopt: TCP_QUICKACK off and on changes nothing for the bytes", "[setsockopt]") {
  const auto pair = connected();
  for (const int on : {0, 1, 0}) {
    set_option(pair.server, IPPROTO_TCP, TCP_QUICKACK, on);
    talk(pair);
  }
}

TEST_CASE("setsockopt: TCP_NOTSENT_LOWAT and TCP_USER_TIMEOUT: writable as before", "[setsockopt][poll]") {
  const auto pair = connected();
  set_option(pair.client, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 1024);
  set_option(pair.client, IPPROTO_TCP, TCP_USER_TIMEOUT, 30'000);
  CHECK(polled(pair.client, POLLOUT) == POLLOUT);
  talk(pair);
  CHECK(awaited(pair.client, POLLOUT) == POLLOUT);
}

TEST_CASE("setsockopt: TCP_DEFER_ACCEPT: accepted once there are bytes", "[setsockopt][accept]") {
  const auto listener = listening();
  set_option(listener.fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
  CHECK(option(listener.fd, IPPROTO_TCP, TCP_DEFER_ACCEPT) >= 5);
  set_nonblocking(listener.fd);
  const auto client = stream_socket();
  REQUIRE(connect(client, listener.name(), listener.size) == 0);
  CHECK_FAILS(accept(listener.fd, nullptr, nullptr), EAGAIN);
  send_all(client, "first");
  REQUIRE(awaited(listener.fd, POLLIN) == POLLIN);
  const Fd server(accept(listener.fd, nullptr, nullptr));
  CHECK(receive(server, 5) == "first");
  enter_lane(client, server);
}

TEST_CASE("setsockopt: TCP_ULP: unknown protocols are refused, as are known ones unless connected",
          "[setsockopt][tcp]") {
  const auto pair = connected();
  CHECK_FAILS(setsockopt(pair.client, IPPROTO_TCP, TCP_ULP, "nothing", 7), ENOENT);
  talk(pair);
}

TEST_CASE("setsockopt: IPV6_V6ONLY: after bind it is too late", "[setsockopt][getsockopt]") {
  const auto pair = connected({.family = Family::mapped});
  CHECK(option(pair.client, IPPROTO_IPV6, IPV6_V6ONLY) == 0);
  const int on = 1;
  CHECK_FAILS(setsockopt(pair.client, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on), EINVAL);
  const auto fresh = stream_socket(Family::v6);
  set_option(fresh, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  CHECK(option(fresh, IPPROTO_IPV6, IPV6_V6ONLY) == 1);
  const auto v4 = connected();
  CHECK_FAILS(setsockopt(v4.client, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on), ENOPROTOOPT);
  talk(pair);
}

TEST_CASE("setsockopt: IP_TOS and IP_TTL, told as they were set", "[setsockopt][getsockopt]") {
  const auto pair = connected();
  set_option(pair.client, IPPROTO_IP, IP_TOS, 0x10);
  set_option(pair.client, IPPROTO_IP, IP_TTL, 17);
  CHECK(option(pair.client, IPPROTO_IP, IP_TOS) == 0x10);
  CHECK(option(pair.client, IPPROTO_IP, IP_TTL) == 17);
  talk(pair);
}

TEST_CASE("getsockopt: TCP_CONGESTION and TCP_MAXSEG are the kernel's", "[getsockopt]") {
  const auto pair = connected();
  char name[16] = {};
  socklen_t size = sizeof name;
  CHECK(getsockopt(pair.client, IPPROTO_TCP, TCP_CONGESTION, name, &size) == 0);
  CHECK(name[0] != 0);
  CHECK(option(pair.client, IPPROTO_TCP, TCP_MAXSEG) > 500);
}
