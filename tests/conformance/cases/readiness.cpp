// What is ready in each state of a connection, as poll, epoll and select tell it: all bits that the kernel sets, and no
// other.

#include "../sets.hpp"

using namespace conformance;

namespace {

using Prepare =
    Fd (*)(Pair&);  // brings the connection into the state; a descriptor of another connection to look at, if any

Fd fresh(Pair&) { return {}; }

Fd readable(Pair& pair) {
  send_all(pair.server, "x");
  arrived(pair.client, 1);
  return {};
}

Fd full(Pair& pair) {
  fill(pair.client);
  return {};
}

Fd full_and_readable(Pair& pair) {
  fill(pair.client);
  return readable(pair);
}

Fd shut_by_peer(Pair& pair) {
  REQUIRE(shutdown(pair.server, SHUT_WR) == 0);
  REQUIRE(awaited(pair.client, POLLRDHUP) == POLLRDHUP);
  return {};
}

Fd shut_by_peer_with_bytes(Pair& pair) {
  readable(pair);
  return shut_by_peer(pair);
}

Fd closed_by_peer(Pair& pair) {
  pair.server.close();
  REQUIRE(awaited(pair.client, POLLRDHUP) == POLLRDHUP);
  return {};
}

Fd shut_for_writing(Pair& pair) {
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  return {};
}

Fd shut_for_reading(Pair& pair) {
  REQUIRE(shutdown(pair.client, SHUT_RD) == 0);
  return {};
}

Fd shut_for_both(Pair& pair) {
  REQUIRE(shutdown(pair.client, SHUT_RDWR) == 0);
  return {};
}

Fd shut_by_both(Pair& pair) {
  shut_by_peer(pair);
  return shut_for_writing(pair);
}

Fd reset(Pair& pair) {
  reset_by_peer(pair);
  return {};
}

Fd reset_and_known(Pair& pair) {
  reset_by_peer(pair);
  REQUIRE(option(pair.client, SOL_SOCKET, SO_ERROR) == ECONNRESET);
  return {};
}

Fd reset_and_read(Pair& pair) {
  reset_by_peer(pair);
  char byte;
  CHECK_FAILS(recv(pair.client, &byte, 1, 0), ECONNRESET);
  return {};
}

Fd urgent(Pair& pair) {
  REQUIRE(send(pair.server, "!", 1, MSG_OOB) == 1);
  REQUIRE(awaited(pair.client, POLLPRI) == POLLPRI);
  return {};
}

Fd never_connected(Pair&) { return stream_socket(); }

Fd refused(Pair&) {
  auto fd = stream_socket(Family::v4, SOCK_NONBLOCK);
  auto nobody = listening();
  const auto address = nobody.address;
  nobody.fd.close();
  CHECK_FAILS(connect(fd, reinterpret_cast<const sockaddr*>(&address), nobody.size), EINPROGRESS);
  REQUIRE((awaited(fd, POLLOUT) & POLLERR) != 0);
  return fd;
}

short epolled(int fd) {
  const EpollSet set;
  set.add(fd, static_cast<uint32_t>(kAllEvents));
  const auto events = set.wait();
  return static_cast<short>(events.empty() ? 0 : events[0].events);
}

short ppolled(int fd) {
  pollfd one{fd, kAllEvents, 0};
  const timespec none{};
  REQUIRE(ppoll(&one, 1, &none, nullptr) >= 0);
  return one.revents;
}

// By select's own rules: an error makes a descriptor readable and writable, a hang-up readable, and urgent data
// exceptional.
std::string selection_of(const std::string& events) {
  const auto has = [&](const char* name) {
    return (" " + events + " ").find(" " + std::string(name) + " ") != std::string::npos;
  };
  std::string said;
  if (has("IN") || has("HUP") || has("ERR")) said += "r";
  if (has("OUT") || has("ERR")) said += "w";
  if (has("PRI")) said += "e";
  return said;
}

std::string selected(int fd) {
  std::string said;
  for (const bool precise : {false, true}) {
    fd_set reads, writes, excepts;
    for (auto* set : {&reads, &writes, &excepts}) {
      FD_ZERO(set);
      FD_SET(fd, set);
    }
    timeval none{};
    const timespec none_too{};
    const int bits = precise ? pselect(fd + 1, &reads, &writes, &excepts, &none_too, nullptr)
                             : select(fd + 1, &reads, &writes, &excepts, &none);
    std::string found;
    if (FD_ISSET(fd, &reads)) found += "r";
    if (FD_ISSET(fd, &writes)) found += "w";
    if (FD_ISSET(fd, &excepts)) found += "e";
    CHECK(bits == static_cast<int>(found.size()));
    if (precise) CHECK(found == said);
    said = found;
  }
  return said;
}

void check_poll(Prepare prepare, const char* expected) {
  auto pair = connected();
  const auto other = prepare(pair);
  const int fd = other >= 0 ? other : pair.client;
  CHECK(names(static_cast<uint16_t>(polled(fd, kAllEvents))) == expected);
  CHECK(names(static_cast<uint16_t>(ppolled(fd))) == expected);
}

void check_epoll(Prepare prepare, const char* expected) {
  auto pair = connected();
  const auto other = prepare(pair);
  CHECK(names(static_cast<uint16_t>(epolled(other >= 0 ? other : pair.client))) == expected);
}

void check_select(Prepare prepare, const char* expected) {
  auto pair = connected();
  const auto other = prepare(pair);
  CHECK(selected(other >= 0 ? other : pair.client) == selection_of(expected));
}

}  // namespace

#define READINESS(state, prepare, expected, tags)                                                     \
  TEST_CASE("poll, ppoll: " state, "[poll][ppoll]" tags) { check_poll(prepare, expected); }           \
  TEST_CASE("epoll_wait: " state, "[epoll_ctl][epoll_wait]" tags) { check_epoll(prepare, expected); } \
  TEST_CASE("select, pselect: " state, "[select][pselect]" tags) { check_select(prepare, expected); }

READINESS("a connection without bytes is writable", fresh, "OUT WRNORM", "")
READINESS("bytes make it readable", readable, "IN OUT RDNORM WRNORM", "")
READINESS("nothing is ready when the peer does not read", full, "", "")
READINESS("readable while it takes no bytes", full_and_readable, "IN RDNORM", "")
READINESS("the peer's shutdown shows as RDHUP", shut_by_peer, "IN OUT RDNORM WRNORM RDHUP", "")
READINESS("the peer's shutdown behind its bytes", shut_by_peer_with_bytes, "IN OUT RDNORM WRNORM RDHUP", "")
READINESS("the peer's close shows like its shutdown", closed_by_peer, "IN OUT RDNORM WRNORM RDHUP", "")
READINESS("after our shutdown for writing", shut_for_writing, "OUT WRNORM", "")
READINESS("after our shutdown for reading", shut_for_reading, "IN OUT RDNORM WRNORM RDHUP", "")
READINESS("after our shutdown of both halves", shut_for_both, "IN OUT RDNORM WRNORM RDHUP HUP", "")
READINESS("both ends have shut down", shut_by_both, "IN OUT RDNORM WRNORM RDHUP HUP", "")
READINESS("a reset shows all", reset, "IN OUT RDNORM WRNORM RDHUP ERR HUP", "")
READINESS("a reset that SO_ERROR told is no error any more", reset_and_known, "IN OUT RDNORM WRNORM RDHUP HUP", "")
READINESS("a reset that recv told is no error any more", reset_and_read, "IN OUT RDNORM WRNORM RDHUP HUP", "")
READINESS("an urgent byte shows as PRI", urgent, "PRI OUT WRNORM", "[tcp]")
READINESS("a socket before its connect", never_connected, "OUT WRNORM HUP", "")
READINESS("a refused connect", refused, "IN OUT RDNORM WRNORM RDHUP ERR HUP", "")

TEST_CASE("poll, epoll_wait: a listener is readable when a connection waits", "[poll][epoll_wait]") {
  const auto pair = connected();
  const auto listener = listening();
  CHECK(names(static_cast<uint16_t>(polled(listener.fd, kAllEvents))).empty());
  const auto client = stream_socket();
  REQUIRE(connect(client, listener.name(), listener.size) == 0);
  CHECK(names(static_cast<uint16_t>(awaited(listener.fd, kAllEvents))) == "IN RDNORM");
  CHECK(names(static_cast<uint16_t>(epolled(listener.fd))) == "IN RDNORM");
}

TEST_CASE("poll: only what was asked for is told, and errors and hang-ups", "[poll]") {
  auto pair = connected();
  readable(pair);
  CHECK(polled(pair.client, 0) == 0);
  CHECK(polled(pair.client, POLLOUT) == POLLOUT);
  CHECK(polled(pair.client, POLLRDNORM) == POLLRDNORM);
  CHECK(polled(pair.client, POLLWRNORM) == POLLWRNORM);
  receive(pair.client, 1);
  reset_by_peer(pair);
  CHECK(polled(pair.client, 0) == (POLLERR | POLLHUP));
}

TEST_CASE("epoll_wait: only what was asked for is told, and errors and hang-ups", "[epoll_ctl][epoll_wait]") {
  auto pair = connected();
  const EpollSet set;
  set.add(pair.client, 0);
  send_all(pair.server, "x");
  arrived(pair.client, 1);
  CHECK(set.quiet());
  set.modify(pair.client, EPOLLRDNORM);
  CHECK(set.report() == "RDNORM");
  set.modify(pair.client, EPOLLWRNORM);
  CHECK(set.report() == "WRNORM");
  set.modify(pair.client, EPOLLMSG | EPOLLRDBAND | EPOLLWRBAND | EPOLLPRI);
  CHECK(set.quiet());
  receive(pair.client, 1);
  set.modify(pair.client, 0);
  reset_by_peer(pair);
  CHECK(set.report() == "ERR HUP");
}

TEST_CASE("poll: writable again when the peer has read", "[poll][epoll_wait][select]") {
  const auto pair = connected();
  const auto sent = fill(pair.client);
  const EpollSet set;
  set.add(pair.client, EPOLLOUT);
  CHECK(polled(pair.client, POLLOUT) == 0);
  CHECK(set.report().empty());
  receive(pair.server, sent);
  CHECK(awaited(pair.client, POLLOUT) == POLLOUT);
  CHECK(set.next_report() == "OUT");
}
