// connect: how a connection begins, or does not.

#include <sys/time.h>

#include <csignal>

#include "../pair.hpp"

using namespace conformance;

namespace {

// A port of loopback that nobody listens on.
Listener refused_port(Family family = Family::v4) {
  auto gone = listening(family);
  gone.fd.close();
  return gone;
}

int pending_error(int fd) { return option(fd, SOL_SOCKET, SO_ERROR); }

const Family kFamilies[] = {Family::v4, Family::v6, Family::mapped};

}  // namespace

TEST_CASE("connect, accept: a blocking connect is there at once, and bytes go both ways", "[connect][accept]") {
  const auto listener = listening();
  const auto client = stream_socket();
  CHECK(connect(client, listener.name(), listener.size) == 0);
  sockaddr_in from{};
  socklen_t size = sizeof from;
  const Fd server(accept(listener.fd, reinterpret_cast<sockaddr*>(&from), &size));
  REQUIRE(server >= 0);
  CHECK(size == sizeof from);
  enter_lane(client, server);
  sockaddr_in own{};
  size = sizeof own;
  REQUIRE(getsockname(client, reinterpret_cast<sockaddr*>(&own), &size) == 0);
  CHECK(own.sin_port == from.sin_port);
  send_all(client, "to");
  CHECK(receive(server, 2) == "to");
  send_all(server, "fro");
  CHECK(receive(client, 3) == "fro");
}

TEST_CASE("connect: non-blocking, POLLOUT, SO_ERROR 0, then bytes", "[connect][poll][getsockopt]") {
  const auto listener = listening();
  const auto client = stream_socket(Family::v4, SOCK_NONBLOCK);
  const int result = connect(client, listener.name(), listener.size);
  if (result != 0) CHECK(errno == EINPROGRESS);
  CHECK(awaited(client, POLLOUT) == POLLOUT);
  CHECK(pending_error(client) == 0);
  const Fd server(accept(listener.fd, nullptr, nullptr));
  enter_lane(client, server);
  send_all(client, "hello");
  CHECK(receive(server, 5) == "hello");
}

TEST_CASE("connect: EISCONN when connected", "[connect]") {
  const auto listener = listening();
  const auto client = stream_socket();
  REQUIRE(connect(client, listener.name(), listener.size) == 0);
  const Fd server(accept(listener.fd, nullptr, nullptr));
  CHECK_FAILS(connect(client, listener.name(), listener.size), EISCONN);
  enter_lane(client, server);
  CHECK_FAILS(connect(client, listener.name(), listener.size), EISCONN);
  CHECK_FAILS(connect(server, listener.name(), listener.size), EISCONN);
  send_all(client, "still");
  CHECK(receive(server, 5) == "still");
}

TEST_CASE("connect: non-blocking, again when it is done: EISCONN", "[connect]") {
  const auto listener = listening();
  const auto client = stream_socket(Family::v4, SOCK_NONBLOCK);
  connect(client, listener.name(), listener.size);
  REQUIRE(awaited(client, POLLOUT) == POLLOUT);
  // The second call tells that the first one ended well, once, on Linux; the third that it is connected.
  const int second = connect(client, listener.name(), listener.size);
  if (second != 0) CHECK(errno == EISCONN);
  CHECK_FAILS(connect(client, listener.name(), listener.size), EISCONN);
  const Fd server(accept(listener.fd, nullptr, nullptr));
  enter_lane(client, server);
}

TEST_CASE("connect: to a refused port, blocking: ECONNREFUSED, and the socket can be used again",
          "[connect][no-lane]") {
  const auto refused = refused_port();
  const auto client = stream_socket();
  CHECK_FAILS(connect(client, refused.name(), refused.size), ECONNREFUSED);
  CHECK(pending_error(client) == 0);
  char byte;
  CHECK_FAILS(send(client, "x", 1, MSG_NOSIGNAL), EPIPE);
  CHECK(recv(client, &byte, 1, 0) <= 0);
  const auto listener = listening();
  CHECK(connect(client, listener.name(), listener.size) == 0);
  const Fd server(accept(listener.fd, nullptr, nullptr));
  send_all(client, "x");
  CHECK(receive(server, 1) == "x");
  CHECK(sizeof(byte) == 1);
}

TEST_CASE("connect: to a refused port, non-blocking: POLLERR, SO_ERROR once", "[connect][getsockopt][poll][no-lane]") {
  const auto refused = refused_port();
  const auto client = stream_socket(Family::v4, SOCK_NONBLOCK);
  if (connect(client, refused.name(), refused.size) != 0 && errno == ECONNREFUSED) return;
  CHECK(errno == EINPROGRESS);
  CHECK(awaited(client, POLLOUT | POLLIN) == (POLLOUT | POLLIN | POLLERR | POLLHUP));
  CHECK(pending_error(client) == ECONNREFUSED);
  CHECK(pending_error(client) == 0);
}

TEST_CASE("connect: to a refused port, the error comes with the next call", "[connect][send][recv][no-lane]") {
  const auto refused = refused_port();
  const auto client = stream_socket(Family::v4, SOCK_NONBLOCK);
  if (connect(client, refused.name(), refused.size) != 0 && errno == ECONNREFUSED) return;
  REQUIRE(awaited(client, POLLOUT) != 0);
  char byte;
  SECTION("recv") {
    CHECK_FAILS(recv(client, &byte, 1, 0), ECONNREFUSED);
    CHECK(recv(client, &byte, 1, 0) == 0);
  }
  SECTION("send") {
    CHECK_FAILS(send(client, "x", 1, MSG_NOSIGNAL), ECONNREFUSED);
    CHECK_FAILS(send(client, "x", 1, MSG_NOSIGNAL), EPIPE);
  }
  SECTION("connect") { CHECK_FAILS(connect(client, refused.name(), refused.size), ECONNREFUSED); }
}

TEST_CASE("connect: refused over IPv6 and IPv4-mapped", "[connect][no-lane]") {
  for (const auto family : {Family::v6, Family::mapped}) {
    const auto refused = refused_port(family);
    const auto client = stream_socket(family);
    CHECK_FAILS(connect(client, refused.name(), refused.size), ECONNREFUSED);
  }
}

TEST_CASE("connect: to a listener whose backlog is full: EINPROGRESS, then EALREADY", "[connect][no-lane]") {
  const auto listener = listening(Family::v4, 0);
  std::vector<Fd> clients;
  // So many are let in; the next one's SYN is dropped.
  int waits = -1;
  for (int i = 0; i < 8 && waits < 0; ++i) {
    clients.push_back(stream_socket(Family::v4, SOCK_NONBLOCK));
    if (connect(clients.back(), listener.name(), listener.size) == 0) continue;
    REQUIRE(errno == EINPROGRESS);
    pollfd one{clients.back(), POLLOUT, 0};
    if (poll(&one, 1, 50) == 0) waits = clients.back();
  }
  REQUIRE(waits >= 0);
  CHECK_FAILS(connect(waits, listener.name(), listener.size), EALREADY);
  char byte;
  CHECK_FAILS(recv(waits, &byte, 1, 0), EAGAIN);
  CHECK_FAILS(send(waits, &byte, 1, MSG_NOSIGNAL), EAGAIN);
  CHECK(pending_error(waits) == 0);
}

TEST_CASE("connect: blocking, SO_SNDTIMEO bounds it: EINPROGRESS", "[connect][setsockopt][no-lane]") {
  const auto listener = listening(Family::v4, 0);
  std::vector<Fd> clients;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(stream_socket());
    const timeval limit{0, 50'000};
    REQUIRE(setsockopt(clients.back(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
    if (connect(clients.back(), listener.name(), listener.size) == 0) continue;
    CHECK(errno == EINPROGRESS);
    return;
  }
  FAIL("the backlog did not fill");
}

TEST_CASE("connect: interrupted by a signal: EINTR, and it goes on", "[connect][no-lane]") {
  struct sigaction action {
  }, before{};
  action.sa_handler = [](int) {};
  REQUIRE(sigaction(SIGALRM, &action, &before) == 0);
  const auto listener = listening(Family::v4, 0);
  std::vector<Fd> clients;
  bool interrupted = false;
  for (int i = 0; i < 8 && !interrupted; ++i) {
    clients.push_back(stream_socket());
    const itimerval soon{{0, 20'000}, {0, 20'000}}, never{};  // again and again: it may come before the call
    REQUIRE(setitimer(ITIMER_REAL, &soon, nullptr) == 0);
    const int result = connect(clients.back(), listener.name(), listener.size);
    const int error = errno;
    setitimer(ITIMER_REAL, &never, nullptr);
    if (result == 0) continue;
    CHECK(error == EINTR);
    interrupted = true;
  }
  CHECK(interrupted);
  set_nonblocking(clients.back());
  CHECK_FAILS(connect(clients.back(), listener.name(), listener.size), EALREADY);
  sigaction(SIGALRM, &before, nullptr);
}

TEST_CASE("connect: AF_UNSPEC dissolves a connection, and the socket can connect anew", "[connect][tcp]") {
  const auto listener = listening();
  const auto pair = connected();
  sockaddr nothing{};
  nothing.sa_family = AF_UNSPEC;
  CHECK(connect(pair.client, &nothing, sizeof nothing) == 0);
  sockaddr_storage name;
  socklen_t size = sizeof name;
  CHECK_FAILS(getpeername(pair.client, reinterpret_cast<sockaddr*>(&name), &size), ENOTCONN);
  char byte;
  CHECK_FAILS(recv(pair.client, &byte, 1, MSG_DONTWAIT), ECONNRESET);
  CHECK_FAILS(recv(pair.client, &byte, 1, MSG_DONTWAIT), ENOTCONN);
  CHECK_FAILS(send(pair.client, &byte, 1, MSG_NOSIGNAL), EPIPE);
  // The other end is reset.
  CHECK((awaited(pair.server, POLLIN) & POLLERR) == POLLERR);
  CHECK_FAILS(recv(pair.server, &byte, 1, 0), ECONNRESET);
  REQUIRE(connect(pair.client, listener.name(), listener.size) == 0);
  const Fd server(accept(listener.fd, nullptr, nullptr));
  send_all(pair.client, "anew");
  CHECK(receive(server, 4) == "anew");
}

TEST_CASE("connect: bad pointers and sizes", "[connect][no-lane]") {
  const auto listener = listening();
  const auto client = stream_socket();
  CHECK_FAILS(connect(client, static_cast<sockaddr*>(bad_pointer()), sizeof(sockaddr_in)), EFAULT);
  CHECK_FAILS(connect(client, nullptr, sizeof(sockaddr_in)), EFAULT);
  CHECK_FAILS(connect(client, listener.name(), sizeof(sockaddr_in) - 1), EINVAL);
  CHECK_FAILS(connect(client, listener.name(), 1), EINVAL);
  CHECK_FAILS(connect(client, listener.name(), sizeof(sockaddr_storage) + 1), EINVAL);
  CHECK_FAILS(connect(client, listener.name(), static_cast<socklen_t>(-1)), EINVAL);
  auto unknown = listener.address;
  unknown.ss_family = 77;
  CHECK_FAILS(connect(client, reinterpret_cast<sockaddr*>(&unknown), sizeof(sockaddr_in)), EAFNOSUPPORT);
  CHECK(connect(client, listener.name(), listener.size) == 0);
}

TEST_CASE("connect: descriptors that are none, and no sockets", "[connect][no-lane]") {
  const auto listener = listening();
  CHECK_FAILS(connect(-1, listener.name(), listener.size), EBADF);
  CHECK_FAILS(connect(1 << 29, listener.name(), listener.size), EBADF);
  const Fd file(open("/dev/null", O_RDWR));
  CHECK_FAILS(connect(file, listener.name(), listener.size), ENOTSOCK);
  CHECK_FAILS(connect(listener.fd, listener.name(), listener.size), EISCONN);
}

TEST_CASE("connect: to oneself: what is sent comes back", "[connect][no-lane]") {
  const auto self = stream_socket();
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof name;
  REQUIRE(bind(self, reinterpret_cast<sockaddr*>(&name), size) == 0);
  REQUIRE(getsockname(self, reinterpret_cast<sockaddr*>(&name), &size) == 0);
  REQUIRE(connect(self, reinterpret_cast<sockaddr*>(&name), size) == 0);
  for (int i = 0; i < 20; ++i) {
    send_all(self, "echo");
    CHECK(receive(self, 4) == "echo");
  }
  CHECK(shutdown(self, SHUT_WR) == 0);
  char byte;
  CHECK(recv(self, &byte, 1, 0) == 0);
}

TEST_CASE("connect: in every family the lane carries bytes", "[connect][accept]") {
  for (const auto family : kFamilies) {
    if (family == Family::v6 && in_lane_world() && getenv("RSOCK_CONFORMANCE_LANE") == "rdma"s &&
        !getenv("RSOCK_CONFORMANCE_ADDRESS6"))
      continue;  // the device has no such address
    const auto pair = connected({.family = family});
    send_all(pair.client, "to");
    CHECK(receive(pair.server, 2) == "to");
    send_all(pair.server, "fro");
    CHECK(receive(pair.client, 3) == "fro");
    CHECK(shutdown(pair.client, SHUT_WR) == 0);
    char byte;
    CHECK(recv(pair.server, &byte, 1, 0) == 0);
  }
}

TEST_CASE("connect: a client that binds first", "[connect][bind]") {
  const auto listener = listening();
  const auto client = stream_socket();
  sockaddr_in own = reinterpret_cast<const sockaddr_in&>(listener.address);
  own.sin_port = 0;
  REQUIRE(bind(client, reinterpret_cast<sockaddr*>(&own), sizeof own) == 0);
  socklen_t size = sizeof own;
  REQUIRE(getsockname(client, reinterpret_cast<sockaddr*>(&own), &size) == 0);
  REQUIRE(connect(client, listener.name(), listener.size) == 0);
  sockaddr_in from{};
  size = sizeof from;
  const Fd server(accept(listener.fd, reinterpret_cast<sockaddr*>(&from), &size));
  CHECK(from.sin_port == own.sin_port);
  enter_lane(client, server);
}

// A local port may be shared by connections to different peers; what names one of them does not name the others. The
// first is left alone by whoever accepts it, so that it goes on waiting for its lane.
TEST_CASE("connect: from one address and port to two listeners", "[connect][bind]") {
  const Listener listeners[] = {listening(), listening()};
  sockaddr_storage from = listeners[0].address;
  reinterpret_cast<sockaddr_in&>(from).sin_port = 0;
  Fd clients[2], servers[2];
  for (int i = 0; i < 2; ++i) {
    clients[i] = stream_socket();
    set_option(clients[i], SOL_SOCKET, SO_REUSEADDR, 1);
    REQUIRE(bind(clients[i], reinterpret_cast<sockaddr*>(&from), sizeof(sockaddr_in)) == 0);
    socklen_t size = sizeof from;
    REQUIRE(getsockname(clients[i], reinterpret_cast<sockaddr*>(&from), &size) == 0);
  }
  for (int i = 0; i < 2; ++i) {
    REQUIRE(connect(clients[i], listeners[i].name(), listeners[i].size) == 0);
    servers[i] = Fd(accept(listeners[i].fd, nullptr, nullptr));
    REQUIRE(servers[i] >= 0);
  }
  enter_lane(clients[1], servers[1]);
  for (int i = 0; i < 2; ++i) {
    send_all(clients[i], "to "s + std::to_string(i));
    CHECK(receive(servers[i], 4) == "to "s + std::to_string(i));
  }
}

TEST_CASE("connect: to the unspecified address, which is this host", "[connect]") {
  const auto listener = listening();
  auto to = reinterpret_cast<const sockaddr_in&>(listener.address), from = to;
  to.sin_addr.s_addr = INADDR_ANY;
  from.sin_port = 0;
  for (const bool bound : {true, false}) {
    if (!bound && from.sin_addr.s_addr != htonl(INADDR_LOOPBACK))
      continue;  // it would be from loopback, where nobody listens
    const auto client = stream_socket();
    if (bound) REQUIRE(bind(client, reinterpret_cast<sockaddr*>(&from), sizeof from) == 0);
    REQUIRE(connect(client, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0);
    sockaddr_in peer{};
    socklen_t size = sizeof peer;
    REQUIRE(getpeername(client, reinterpret_cast<sockaddr*>(&peer), &size) == 0);
    CHECK(peer.sin_addr.s_addr == from.sin_addr.s_addr);
    const Fd server(accept(listener.fd, nullptr, nullptr));
    REQUIRE(server >= 0);
    enter_lane(client, server);
    send_all(client, "hello");
    CHECK(receive(server, 5) == "hello");
  }
}
