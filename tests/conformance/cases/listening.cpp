// socket, bind, listen, accept, accept4; getsockname and getpeername.

#include "../pair.hpp"

using namespace conformance;

namespace {

sockaddr* generic(sockaddr_in& address) { return reinterpret_cast<sockaddr*>(&address); }
int status_flags(int fd) { return fcntl(fd, F_GETFL); }
bool closes_on_exec(int fd) { return fcntl(fd, F_GETFD) & FD_CLOEXEC; }

// A client that waits to be accepted.
Fd caller(const Listener& listener) {
  auto client = stream_socket();
  REQUIRE(connect(client, listener.name(), listener.size) == 0);
  return client;
}

}  // namespace

TEST_CASE("socket: the lowest number, and its flags", "[socket][no-lane]") {
  const int lowest = dup(0);
  close(lowest);
  const Fd plain(socket(AF_INET, SOCK_STREAM, 0));
  CHECK(plain == lowest);
  CHECK_FALSE(closes_on_exec(plain));
  CHECK((status_flags(plain) & O_NONBLOCK) == 0);
  const Fd flagged(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  CHECK(flagged == lowest + 1);
  CHECK(closes_on_exec(flagged));
  CHECK((status_flags(flagged) & O_NONBLOCK) != 0);
}

// What a lane needs stays when its connection goes, at numbers that programs do not meet.
TEST_CASE("close: a connection that was in its lane leaves the numbers as they were", "[close][socket][accept]") {
  const auto lowest = [] { return +Fd(dup(0)); };
  const int before = lowest();
  { const auto pair = connected(); }
  // For a moment the library's own have the lowest.
  CHECK(eventually([&] { return lowest() == before; }));
}

TEST_CASE("socket: numbers stay the lowest while there are flows in lanes", "[socket][accept][close]") {
  const auto pair = connected();
  const auto in_order = [] {
    const int lowest = dup(0);
    close(lowest);
    const Fd next(socket(AF_INET, SOCK_STREAM, 0));
    const int free = dup(0);
    close(free);
    const Fd file(open("/dev/null", O_RDONLY));
    const Fd again(dup(0));
    return next == lowest && file == free && free < lowest + 10 && again > file;
  };
  CHECK(eventually(in_order));  // for a moment the library's own have the lowest
}

TEST_CASE("socket: what cannot be", "[socket][no-lane]") {
  CHECK_FAILS(socket(77, SOCK_STREAM, 0), EAFNOSUPPORT);
  CHECK_FAILS(socket(AF_INET, 77, 0), EINVAL);
  CHECK_FAILS(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
  CHECK_FAILS(socket(AF_INET, SOCK_STREAM | 0x10000, 0), EINVAL);
}

TEST_CASE("socket, socketpair: UDP and AF_UNIX are as ever beside flows", "[socket][socketpair]") {
  const auto pair = connected();
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Fd one(ends[0]), other(ends[1]);
  send_all(one, "unix");
  CHECK(receive(other, 4) == "unix");
  const Fd udp(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof name;
  REQUIRE(bind(udp, generic(name), size) == 0);
  REQUIRE(getsockname(udp, generic(name), &size) == 0);
  REQUIRE(connect(udp, generic(name), size) == 0);
  REQUIRE(send(udp, "udp", 3, 0) == 3);
  CHECK(receive(udp, 3) == "udp");
  CHECK_FAILS(listen(udp, 1), EOPNOTSUPP);
  send_all(pair.client, "tcp");
  CHECK(receive(pair.server, 3) == "tcp");
}

TEST_CASE("bind: errors", "[bind][no-lane]") {
  const auto listener = listening();
  const auto second = stream_socket();
  CHECK_FAILS(bind(second, listener.name(), listener.size), EADDRINUSE);
  CHECK_FAILS(bind(listener.fd, listener.name(), listener.size), EINVAL);
  CHECK_FAILS(bind(second, listener.name(), 3), EINVAL);
  CHECK_FAILS(bind(second, static_cast<sockaddr*>(bad_pointer()), sizeof(sockaddr_in)), EFAULT);
  sockaddr_in foreign{};
  foreign.sin_family = AF_INET;
  foreign.sin_addr.s_addr = htonl(0xc0000201);  // 192.0.2.1, of nobody
  CHECK_FAILS(bind(second, generic(foreign), sizeof foreign), EADDRNOTAVAIL);
  CHECK_FAILS(bind(-1, listener.name(), listener.size), EBADF);
}

TEST_CASE("bind: EINVAL on a flow in its lane", "[bind]") {
  const auto pair = connected();
  sockaddr_in name{};
  name.sin_family = AF_INET;
  CHECK_FAILS(bind(pair.client, generic(name), sizeof name), EINVAL);
  CHECK_FAILS(bind(pair.server, generic(name), sizeof name), EINVAL);
}

TEST_CASE("listen: EINVAL on a flow in its lane", "[listen]") {
  const auto pair = connected();
  CHECK_FAILS(listen(pair.client, 1), EINVAL);
  CHECK_FAILS(listen(pair.server, 1), EINVAL);
  send_all(pair.client, "on");
  CHECK(receive(pair.server, 2) == "on");
}

TEST_CASE("listen: twice, and without bind", "[listen][no-lane]") {
  const auto fd = stream_socket();
  CHECK(listen(fd, 1) == 0);
  CHECK(listen(fd, 5) == 0);
  CHECK(option(fd, SOL_SOCKET, SO_ACCEPTCONN) == 1);
  sockaddr_in name{};
  socklen_t size = sizeof name;
  CHECK(getsockname(fd, generic(name), &size) == 0);
  CHECK(name.sin_port != 0);
  CHECK_FAILS(listen(-1, 1), EBADF);
  CHECK_FAILS(listen(0, 1), ENOTSOCK);
}

TEST_CASE("accept4: its flags, and none of the listener's", "[accept4][accept]") {
  const auto listener = listening();
  set_nonblocking(listener.fd);
  const auto one = caller(listener), two = caller(listener), three = caller(listener);
  const Fd plain(accept(listener.fd, nullptr, nullptr));
  const Fd nonblocking(accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK));
  const Fd closing(accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC));
  for (const int fd : {+plain, +nonblocking, +closing}) REQUIRE(fd >= 0);
  CHECK((status_flags(plain) & O_NONBLOCK) == 0);
  CHECK_FALSE(closes_on_exec(plain));
  CHECK((status_flags(nonblocking) & O_NONBLOCK) != 0);
  CHECK_FALSE(closes_on_exec(nonblocking));
  CHECK((status_flags(closing) & O_NONBLOCK) == 0);
  CHECK(closes_on_exec(closing));
  enter_lane(two, nonblocking);
  char byte;
  CHECK_FAILS(recv(nonblocking, &byte, 1, 0), EAGAIN);
  CHECK_FAILS(accept4(listener.fd, nullptr, nullptr, 0x40), EINVAL);
}

TEST_CASE("accept: EAGAIN from a non-blocking listener", "[accept][accept4][no-lane]") {
  const auto listener = listening();
  set_nonblocking(listener.fd);
  CHECK_FAILS(accept(listener.fd, nullptr, nullptr), EAGAIN);
  CHECK_FAILS(accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK), EAGAIN);
}

TEST_CASE("accept: SO_RCVTIMEO bounds it", "[accept][no-lane]") {
  const auto listener = listening();
  const timeval limit{0, 20'000};
  REQUIRE(setsockopt(listener.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
  CHECK_FAILS(accept(listener.fd, nullptr, nullptr), EAGAIN);
}

TEST_CASE("accept: EINVAL on what does not listen", "[accept][accept4]") {
  const auto pair = connected();
  CHECK_FAILS(accept(pair.client, nullptr, nullptr), EINVAL);
  CHECK_FAILS(accept4(pair.server, nullptr, nullptr, 0), EINVAL);
  CHECK_FAILS(accept(stream_socket(), nullptr, nullptr), EINVAL);
  CHECK_FAILS(accept(-1, nullptr, nullptr), EBADF);
  const Fd file(open("/dev/null", O_RDONLY));
  CHECK_FAILS(accept(file, nullptr, nullptr), ENOTSOCK);
}

TEST_CASE("accept: bad pointers for the address, and short ones", "[accept][no-lane]") {
  const auto listener = listening();
  const auto one = caller(listener), two = caller(listener), three = caller(listener);
  sockaddr_in from;
  memset(&from, 0xee, sizeof from);
  socklen_t size = 4;
  const Fd first(accept(listener.fd, generic(from), &size));
  REQUIRE(first >= 0);
  CHECK(size == sizeof from);
  CHECK(from.sin_family == AF_INET);
  CHECK(from.sin_addr.s_addr == 0xeeeeeeee);
  size = static_cast<socklen_t>(-1);
  CHECK_FAILS(accept(listener.fd, generic(from), &size), EINVAL);
  CHECK_FAILS(accept(listener.fd, static_cast<sockaddr*>(bad_pointer()), static_cast<socklen_t*>(bad_pointer())),
              EFAULT);
}

TEST_CASE("accept: many wait, and come in order", "[accept]") {
  const auto listener = listening();
  std::vector<Fd> clients, servers;
  for (int i = 0; i < 10; ++i) clients.push_back(caller(listener));
  for (int i = 0; i < 10; ++i) servers.push_back(Fd(accept(listener.fd, nullptr, nullptr)));
  for (int i = 0; i < 10; ++i) enter_lane(clients[i], servers[i]);
  for (int i = 0; i < 10; ++i) {
    send_all(clients[i], std::to_string(i));
    CHECK(receive(servers[i], 1) == std::to_string(i));
  }
}

TEST_CASE("close: of a listener with a client in the queue resets the client", "[close][listen][no-lane]") {
  auto listener = listening();
  const auto client = caller(listener);
  listener.fd.close();
  CHECK((awaited(client, POLLIN) & POLLIN) != 0);
  char byte;
  CHECK_FAILS(recv(client, &byte, 1, 0), ECONNRESET);
}

TEST_CASE("shutdown: of a listener ends accept, and listen opens it again", "[shutdown][accept][listen][no-lane]") {
  const auto listener = listening();
  int result = 0, error = 0;
  std::thread waits([&] {
    result = accept(listener.fd, nullptr, nullptr);
    error = errno;
  });
  std::this_thread::sleep_for(10ms);  // either way the call ends so
  CHECK(shutdown(listener.fd, SHUT_RDWR) == 0);
  waits.join();
  CHECK(result == -1);
  CHECK(error == EINVAL);
  CHECK(listen(listener.fd, 4) == 0);
  sockaddr_in name{};  // the port is another one
  socklen_t size = sizeof name;
  REQUIRE(getsockname(listener.fd, generic(name), &size) == 0);
  name.sin_addr = reinterpret_cast<const sockaddr_in&>(listener.address).sin_addr;
  const auto client = stream_socket();
  CHECK(connect(client, generic(name), size) == 0);
  const Fd server(accept(listener.fd, nullptr, nullptr));
  CHECK(server >= 0);
}

TEST_CASE("getsockname, getpeername: of both ends, in the lane", "[getsockname][getpeername]") {
  for (const auto family : {Family::v4, Family::mapped}) {
    const auto pair = connected({.family = family});
    sockaddr_storage names[4] = {};
    socklen_t sizes[4];
    for (auto& size : sizes) size = sizeof(sockaddr_storage);
    CHECK(getsockname(pair.client, reinterpret_cast<sockaddr*>(&names[0]), &sizes[0]) == 0);
    CHECK(getpeername(pair.server, reinterpret_cast<sockaddr*>(&names[1]), &sizes[1]) == 0);
    CHECK(getsockname(pair.server, reinterpret_cast<sockaddr*>(&names[2]), &sizes[2]) == 0);
    CHECK(getpeername(pair.client, reinterpret_cast<sockaddr*>(&names[3]), &sizes[3]) == 0);
    const socklen_t expected = family == Family::v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    for (const auto size : sizes) CHECK(size == expected);
    CHECK(memcmp(&names[0], &names[1], expected) == 0);
    CHECK(memcmp(&names[2], &names[3], expected) == 0);
    CHECK(memcmp(&names[0], &names[2], expected) != 0);
  }
}

TEST_CASE("getsockname, getpeername: bad pointers, short room, and the peer that has gone",
          "[getsockname][getpeername]") {
  auto pair = connected();
  sockaddr_in name{};
  socklen_t size = sizeof name;
  for (const auto ask : {getsockname, getpeername}) {
    CHECK_FAILS(ask(pair.client, static_cast<sockaddr*>(bad_pointer()), &size), EFAULT);
    CHECK_FAILS(ask(pair.client, generic(name), static_cast<socklen_t*>(bad_pointer())), EFAULT);
    size = static_cast<socklen_t>(-1);
    CHECK_FAILS(ask(pair.client, generic(name), &size), EINVAL);
    size = 2;
    CHECK(ask(pair.client, generic(name), &size) == 0);
    CHECK(size == sizeof name);
    CHECK_FAILS(ask(-1, generic(name), &size), EBADF);
    CHECK_FAILS(ask(0, generic(name), &size), ENOTSOCK);
  }
  CHECK_FAILS(getpeername(stream_socket(), generic(name), &size), ENOTCONN);
  pair.server.close();
  char byte;
  CHECK(recv(pair.client, &byte, 1, 0) == 0);
  CHECK(getpeername(pair.client, generic(name), &size) == 0);
}
