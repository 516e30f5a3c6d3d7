// What programs made from seeds (tests/differential) did otherwise in a lane: each kind of difference that was found
// there, as short as it can be shown.

#include <signal.h>

#include "../pair.hpp"

using namespace conformance;

namespace {

constexpr short kAll = POLLIN | POLLOUT | POLLRDHUP | POLLPRI;

// Waits until `fd` shows all of `events`; what it shows then.
short shown(int fd, short events) {
  REQUIRE(eventually([&] { return (polled(fd, kAll) & events) == events; }));
  return polled(fd, kAll);
}

// Closes `other` with bytes unread, which is a reset; waits until `one` knows.
void reset(Fd& one, Fd& other) {
  send_all(one, "nobody reads this");
  arrived(other, 17);
  other.close();
  shown(one, POLLERR);
}

// The ends, by role.
template <class Proof>
void from_both_sides(Proof proof) {
  for (const bool swapped : {false, true}) {
    auto pair = connected();
    if (swapped) std::swap(pair.client, pair.server);
    proof(pair.client, pair.server);
  }
}

// By a connect(2) that did not wait, which for the kernel is over with the next one only.
Pair connected_without_waiting() {
  const auto listener = listening();
  Pair pair{stream_socket(Family::v4, SOCK_NONBLOCK), {}};
  CHECK_FAILS(connect(pair.client, listener.name(), listener.size), EINPROGRESS);
  pair.server = Fd(accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC));
  awaited(pair.client, POLLOUT);
  enter_lane(pair.client, pair.server);
  return pair;
}

int again(int fd) {
  sockaddr_in nowhere{};
  nowhere.sin_family = AF_INET;
  nowhere.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  nowhere.sin_port = htons(9);
  return connect(fd, reinterpret_cast<sockaddr*>(&nowhere), sizeof nowhere);
}

}  // namespace

TEST_CASE("close: unread bytes reset the connection, and its neighbours notice nothing", "[close]") {
  from_both_sides([](Fd& one, Fd& other) {
    auto neighbour = connected();
    send_all(one, "nobody reads this");
    arrived(other, 17);
    other.close();
    CHECK(shown(one, POLLERR) == (POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP));
    char byte;
    CHECK_FAILS(recv(one, &byte, 1, 0), ECONNRESET);
    CHECK(recv(one, &byte, 1, 0) == 0);
    CHECK_FAILS(send(one, "x", 1, MSG_NOSIGNAL), EPIPE);
    const auto before = received_by_kernel(neighbour.server);
    send_all(neighbour.client, "and this?");
    CHECK(receive(neighbour.server, 9) == "and this?");
    if (in_lane_world()) CHECK(received_by_kernel(neighbour.server) == before);
  });
}

TEST_CASE("close: what arrived before the reset can be read, and then the error comes", "[close][recv]") {
  from_both_sides([](Fd& one, Fd& other) {
    send_all(other, "last words");
    send_all(one, "nobody reads this");
    arrived(other, 17);
    arrived(one, 10);
    other.close();
    shown(one, POLLERR);
    CHECK(receive(one, 10) == "last words");
    char byte;
    CHECK_FAILS(recv(one, &byte, 1, 0), ECONNRESET);
    CHECK(recv(one, &byte, 1, 0) == 0);
  });
}

TEST_CASE("send: to a peer that closed, it succeeds and is answered by a reset", "[send][getsockopt]") {
  from_both_sides([](Fd& one, Fd& other) {
    other.close();
    CHECK(shown(one, POLLRDHUP) == (POLLIN | POLLOUT | POLLRDHUP));
    CHECK(send(one, "x", 1, 0) == 1);
    CHECK(shown(one, POLLHUP) == (POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP));
    char byte;
    CHECK(recv(one, &byte, 1, 0) == 0);  // the end of the stream comes before the error
    CHECK(option(one, SOL_SOCKET, SO_ERROR) == EPIPE);
    CHECK(polled(one, kAll) == (POLLIN | POLLOUT | POLLRDHUP | POLLHUP));
    CHECK_FAILS(send(one, "x", 1, MSG_NOSIGNAL), EPIPE);
  });
}

TEST_CASE("shutdown: bytes for a socket that is shut both ways are answered by a reset", "[shutdown][send][recv]") {
  from_both_sides([](Fd& one, Fd& other) {
    REQUIRE(shutdown(other, SHUT_RDWR) == 0);
    CHECK(shown(one, POLLRDHUP) == (POLLIN | POLLOUT | POLLRDHUP));
    CHECK(send(one, "x", 1, 0) == 1);
    CHECK(shown(one, POLLHUP) == (POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP));
    CHECK_FAILS(send(one, "x", 1, MSG_NOSIGNAL), EPIPE);
    shown(other, POLLERR);
    char byte;
    CHECK_FAILS(recv(other, &byte, 1, 0), ECONNRESET);
    CHECK(recv(other, &byte, 1, 0) == 0);
  });
}

TEST_CASE("shutdown(SHUT_RD): what has come, and what comes still, can be read", "[shutdown][recv]") {
  from_both_sides([](Fd& one, Fd& other) {
    send_all(one, "before");
    arrived(other, 6);
    REQUIRE(shutdown(other, SHUT_RD) == 0);
    CHECK(polled(other, kAll) == (POLLIN | POLLOUT | POLLRDHUP));
    CHECK(receive(other, 6) == "before");
    char byte;
    CHECK(recv(other, &byte, 1, 0) == 0);
    send_all(one, "after");
    arrived(other, 5);
    CHECK(receive(other, 5) == "after");
    CHECK(recv(other, &byte, 1, 0) == 0);
  });
}

TEST_CASE("shutdown: ENOTCONN once both streams have ended, and after a reset", "[shutdown]") {
  from_both_sides([](Fd& one, Fd& other) {
    REQUIRE(shutdown(one, SHUT_WR) == 0);
    shown(other, POLLRDHUP);
    REQUIRE(shutdown(other, SHUT_WR) == 0);
    shown(one, POLLHUP);
    CHECK_FAILS(shutdown(one, SHUT_RD), ENOTCONN);
  });
  from_both_sides([](Fd& one, Fd& other) {
    reset(one, other);
    CHECK_FAILS(shutdown(one, SHUT_WR), ENOTCONN);
    CHECK(option(one, SOL_SOCKET, SO_ERROR) == ECONNRESET);
  });
}

TEST_CASE("close: with bytes unread after the peer's end of stream, the peer learns of the reset",
          "[close][shutdown][recv]") {
  from_both_sides([](Fd& one, Fd& other) {
    send_all(one, "nobody reads this");
    arrived(other, 17);
    REQUIRE(shutdown(one, SHUT_WR) == 0);
    shown(other, POLLRDHUP);
    other.close();
    CHECK(shown(one, POLLERR) == (POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP));
    char byte;
    CHECK_FAILS(recv(one, &byte, 1, 0), ECONNRESET);
  });
}

TEST_CASE("close: a reset that follows the end of the stream is EPIPE", "[close][shutdown][getsockopt]") {
  from_both_sides([](Fd& one, Fd& other) {
    send_all(one, "nobody reads this");
    arrived(other, 17);
    REQUIRE(shutdown(other, SHUT_WR) == 0);
    shown(one, POLLRDHUP);
    other.close();
    CHECK(shown(one, POLLERR) == (POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP));
    CHECK(option(one, SOL_SOCKET, SO_ERROR) == EPIPE);
  });
}

TEST_CASE("recvmmsg: an error comes before what can be read", "[recvmmsg]") {
  from_both_sides([](Fd& one, Fd& other) {
    send_all(other, "abc");
    send_all(one, "nobody reads this");
    arrived(other, 17);
    arrived(one, 3);
    other.close();
    shown(one, POLLERR);
    char bytes[8];
    iovec piece{bytes, sizeof bytes};
    mmsghdr message{};
    message.msg_hdr.msg_iov = &piece;
    message.msg_hdr.msg_iovlen = 1;
    CHECK_FAILS(recvmmsg(one, &message, 1, 0, nullptr), ECONNRESET);
    CHECK(recvmmsg(one, &message, 1, 0, nullptr) == 1);
    CHECK(message.msg_len == 3);
  });
}

TEST_CASE("writev: nothing can be written even where no more may be, which a send of nothing may not",
          "[writev][send][write]") {
  from_both_sides([](Fd& one, Fd&) {
    REQUIRE(shutdown(one, SHUT_WR) == 0);
    char none;
    iovec piece{&none, 0};
    CHECK(writev(one, &piece, 1) == 0);
    CHECK_FAILS(send(one, &none, 0, MSG_NOSIGNAL), EPIPE);
  });
}

namespace {

struct Piped {
  int out, in;
  Piped() {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    out = ends[0], in = ends[1];
  }
  ~Piped() { close(out), close(in); }
  Piped(const Piped&) = delete;
  Piped& operator=(const Piped&) = delete;
  std::string taken(size_t size) const {
    std::string bytes(size, '\0');
    REQUIRE(read(out, bytes.data(), size) == static_cast<ssize_t>(size));
    return bytes;
  }
};

}  // namespace

TEST_CASE("splice: what lay unread when the peer closed, and then the end", "[splice][close]") {
  from_both_sides([](Fd& one, Fd& other) {
    Piped pipe;
    send_all(other, "last words");
    arrived(one, 10);
    other.close();
    shown(one, POLLRDHUP);
    CHECK(splice(one, nullptr, pipe.in, nullptr, 4, SPLICE_F_NONBLOCK) == 4);
    CHECK(splice(one, nullptr, pipe.in, nullptr, 100, SPLICE_F_NONBLOCK) == 6);
    CHECK(pipe.taken(10) == "last words");
    CHECK(splice(one, nullptr, pipe.in, nullptr, 100, 0) == 0);
  });
}

TEST_CASE("splice: what lay unread when the peer reset, and then the error", "[splice][close]") {
  from_both_sides([](Fd& one, Fd& other) {
    Piped pipe;
    send_all(other, "last words");
    send_all(one, "nobody reads this");
    arrived(other, 17);
    arrived(one, 10);
    other.close();
    shown(one, POLLERR);
    CHECK(splice(one, nullptr, pipe.in, nullptr, 100, 0) == 10);
    CHECK_FAILS(splice(one, nullptr, pipe.in, nullptr, 100, 0), ECONNRESET);
    CHECK(splice(one, nullptr, pipe.in, nullptr, 100, 0) == 0);
  });
}

TEST_CASE("splice: to a peer that closed, it succeeds, and the next is a broken pipe and leaves the bytes",
          "[splice][close]") {
  static volatile sig_atomic_t pipes = 0;
  signal(SIGPIPE, [](int) { pipes = pipes + 1; });
  from_both_sides([](Fd& one, Fd& other) {
    Piped pipe;
    pipes = 0;
    REQUIRE(write(pipe.in, "too late", 8) == 8);
    other.close();
    shown(one, POLLRDHUP);
    CHECK(splice(pipe.out, nullptr, one, nullptr, 4, 0) == 4);
    shown(one, POLLHUP);
    CHECK_FAILS(splice(pipe.out, nullptr, one, nullptr, 4, 0), EPIPE);
    CHECK(pipes == 1);
    CHECK(pipe.taken(4) == "late");
  });
  signal(SIGPIPE, SIG_DFL);
}

TEST_CASE("splice: into a full pipe, the socket keeps its bytes", "[splice]") {
  from_both_sides([](Fd& one, Fd& other) {
    Piped pipe;
    set_nonblocking(pipe.in);
    const std::string page(4096, 'p');
    size_t filled = 0;
    while (write(pipe.in, page.data(), page.size()) == static_cast<ssize_t>(page.size())) filled += page.size();
    send_all(other, "stays");
    arrived(one, 5);
    CHECK_FAILS(splice(one, nullptr, pipe.in, nullptr, 100, 0), EAGAIN);
    pipe.taken(filled);
    CHECK(splice(one, nullptr, pipe.in, nullptr, 100, 0) == 5);
    CHECK(pipe.taken(5) == "stays");
  });
}

TEST_CASE("splice: a full socket leaves the rest in the pipe", "[splice]") {
  from_both_sides([](Fd& one, Fd& other) {
    Piped pipe;
    set_nonblocking(one);
    auto before = fill(one);
    const auto put = [&] {
      REQUIRE(write(pipe.in, "waits", 5) == 5);
      return splice(pipe.out, nullptr, one, nullptr, 100, 0);
    };
    ssize_t taken;
    while ((taken = put()) == 5) before += 5;  // TCP's buffers may grow a little later
    const int error = errno;
    CHECK(taken == -1);
    CHECK(error == EAGAIN);
    CHECK(receive(other, before).size() == before);
    awaited(one, POLLOUT);
    CHECK(splice(pipe.out, nullptr, one, nullptr, 100, 0) == 5);
    CHECK(receive(other, 5) == "waits");
  });
}

TEST_CASE("send: MSG_OOB to a peer that closed, it succeeds and is answered by a reset", "[send][tcp]") {
  from_both_sides([](Fd& one, Fd& other) {
    send_all(other, "last words");
    arrived(one, 10);
    other.close();
    shown(one, POLLRDHUP);
    CHECK(send(one, "!", 1, MSG_OOB) == 1);
    CHECK(shown(one, POLLHUP) == (POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP));
    CHECK(receive(one, 10) == "last words");
    CHECK(option(one, SOL_SOCKET, SO_ERROR) == EPIPE);
    CHECK_FAILS(send(one, "!", 1, MSG_OOB | MSG_NOSIGNAL), EPIPE);
  });
}

TEST_CASE("send: MSG_OOB to a peer that is shut both ways and has bytes unread", "[send][shutdown][tcp]") {
  from_both_sides([](Fd& one, Fd& other) {
    send_all(one, "unread");
    arrived(other, 6);
    REQUIRE(shutdown(other, SHUT_RDWR) == 0);
    shown(one, POLLRDHUP);
    CHECK(send(one, "!", 1, MSG_OOB) == 1);
    shown(one, POLLHUP);
    CHECK(receive(other, 6) == "unread");
  });
}

TEST_CASE("getpeername: nobody, once both streams have ended, or after a reset", "[getpeername][getsockname]") {
  const auto named = [](int fd, bool peer) {
    sockaddr_storage name;
    socklen_t size = sizeof name;
    return (peer ? getpeername : getsockname)(fd, reinterpret_cast<sockaddr*>(&name), &size);
  };
  from_both_sides([&](Fd& one, Fd& other) {
    REQUIRE(shutdown(other, SHUT_WR) == 0);
    shown(one, POLLRDHUP);
    CHECK(named(one, true) == 0);
    REQUIRE(shutdown(one, SHUT_WR) == 0);
    shown(one, POLLHUP);
    shown(other, POLLHUP);
    CHECK_FAILS(named(other, true), ENOTCONN);
    CHECK(named(other, false) == 0);
  });
  from_both_sides([&](Fd& one, Fd& other) {
    reset(one, other);
    CHECK_FAILS(named(one, true), ENOTCONN);
    CHECK(named(one, false) == 0);
  });
}

TEST_CASE("connect: again, after a connect that did not wait and a shutdown or a reset", "[connect][shutdown][tcp]") {
  auto waiting = connected_without_waiting();
  CHECK(again(waiting.client) == 0);
  CHECK_FAILS(again(waiting.client), EISCONN);
  auto shut = connected_without_waiting();
  REQUIRE(shutdown(shut.client, SHUT_WR) == 0);
  CHECK_FAILS(again(shut.client), EISCONN);
  auto cut_off = connected_without_waiting();
  reset(cut_off.client, cut_off.server);
  CHECK_FAILS(again(cut_off.client), ECONNRESET);
}

TEST_CASE("recv: of nothing, the end of a wait is 0, whatever ended it", "[recv]") {
  from_both_sides([](Fd& one, Fd&) {
    const timeval limit{0, 5000};
    REQUIRE(setsockopt(one, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0);
    char none;
    CHECK(recv(one, &none, 0, 0) == 0);
    CHECK(recv(one, &none, 0, MSG_PEEK | MSG_WAITALL) == 0);
    CHECK_FAILS(recv(one, &none, 0, MSG_DONTWAIT), EAGAIN);
    CHECK_FAILS(recv(one, &none, 1, 0), EAGAIN);
  });
}

TEST_CASE("recv: behind what a lane left unread, at once what TCP has", "[recv][send][tcp]") {
  from_both_sides([](Fd& one, Fd& other) {
    const auto text = pattern(3000);
    send_all(other, text);
    arrived(one, 3000);
    CHECK(send(other, "!", 1, MSG_OOB) == 1);
    shown(one, POLLPRI);
    std::string got(4000, '\0');
    CHECK(recv(one, got.data(), got.size(), MSG_PEEK) == 3000);
    CHECK(recv(one, got.data(), got.size(), 0) == 3000);
    CHECK(got.substr(0, 3000) == text);
  });
}

TEST_CASE("recv: MSG_WAITALL leaves the error behind what it took to the next call", "[recv][close]") {
  from_both_sides([](Fd& one, Fd& other) {
    send_all(other, "last words");
    send_all(one, "nobody reads this");
    arrived(other, 17);
    arrived(one, 10);
    other.close();
    shown(one, POLLERR);
    char buffer[100];
    CHECK(recv(one, buffer, sizeof buffer, MSG_WAITALL) == 10);
    CHECK((polled(one, kAll) & POLLERR) != 0);
    CHECK_FAILS(send(one, "x", 1, MSG_NOSIGNAL), ECONNRESET);
  });
}

TEST_CASE("epoll: an edge comes again with the end of the stream, a shutdown after it, and a lower SO_RCVLOWAT",
          "[epoll_wait][shutdown]") {
  from_both_sides([](Fd& one, Fd& other) {
    const Fd set(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{EPOLLIN | EPOLLOUT | EPOLLET, {.u32 = 7}};
    REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, one, &event) == 0);
    REQUIRE(shutdown(one, SHUT_RDWR) == 0);
    CHECK(epoll_wait(set, &event, 1, 1000) == 1);
    CHECK(epoll_wait(set, &event, 1, 0) == 0);
    other.close();
    CHECK(epoll_wait(set, &event, 1, 1000) == 1);
    CHECK(event.events == (EPOLLIN | EPOLLOUT | EPOLLHUP));
    CHECK_FAILS(shutdown(one, SHUT_WR), ENOTCONN);
    CHECK(epoll_wait(set, &event, 1, 1000) == 1);
  });
  from_both_sides([](Fd& one, Fd& other) {
    const Fd set(epoll_create1(EPOLL_CLOEXEC));
    send_all(other, "abc");
    arrived(one, 3);
    epoll_event event{EPOLLIN | EPOLLET, {.u32 = 7}};
    REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, one, &event) == 0);
    CHECK(epoll_wait(set, &event, 1, 1000) == 1);
    set_option(one, SOL_SOCKET, SO_RCVLOWAT, 2);
    CHECK(epoll_wait(set, &event, 1, 1000) == 1);
    set_option(one, SOL_SOCKET, SO_RCVLOWAT, 5);
    CHECK(epoll_wait(set, &event, 1, 0) == 0);
    CHECK(option(one, SOL_SOCKET, SO_RCVLOWAT) == 5);
  });
}

TEST_CASE("epoll: an edge of a connection that is no more comes once, and again with a shutdown",
          "[epoll_wait][bind][shutdown][tcp]") {
  from_both_sides([](Fd& one, Fd& other) {
    const Fd set(epoll_create1(EPOLL_CLOEXEC));
    reset(one, other);
    epoll_event event{EPOLLIN | EPOLLET, {.u32 = 7}};
    REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, one, &event) == 0);
    CHECK(epoll_wait(set, &event, 1, 1000) == 1);
    sockaddr_in name{};
    name.sin_family = AF_INET;
    (void)bind(one, reinterpret_cast<sockaddr*>(&name), sizeof name);
    CHECK(polled(set, POLLIN) == 0);
    CHECK(epoll_wait(set, &event, 1, 0) == 0);
    CHECK_FAILS(shutdown(one, SHUT_WR), ENOTCONN);
    CHECK(epoll_wait(set, &event, 1, 0) == 1);
    event = {EPOLLIN | EPOLLET, {.u32 = 7}};
    REQUIRE(epoll_ctl(set, EPOLL_CTL_MOD, one, &event) == 0);
    CHECK(epoll_wait(set, &event, 1, 0) == 1);
  });
}

TEST_CASE("getsockopt: SO_RCVLOWAT does not take the error, which connect shows", "[getsockopt][connect][tcp]") {
  auto pair = connected_without_waiting();
  pair.server.close();
  shown(pair.client, POLLRDHUP);
  CHECK(send(pair.client, "x", 1, 0) == 1);
  shown(pair.client, POLLHUP);
  CHECK(option(pair.client, SOL_SOCKET, SO_RCVLOWAT) == 1);
  CHECK_FAILS(again(pair.client), EPIPE);
}

TEST_CASE("connect: on a connection that was reset, it forgets what was unread", "[connect][recv][tcp]") {
  auto pair = connected_without_waiting();
  send_all(pair.server, "unread");
  arrived(pair.client, 6);
  reset(pair.client, pair.server);
  CHECK(option(pair.client, SOL_SOCKET, SO_ERROR) == ECONNRESET);
  CHECK_FAILS(again(pair.client), ECONNABORTED);
  char byte;
  CHECK_FAILS(recv(pair.client, &byte, 1, 0), ENOTCONN);
}

TEST_CASE("close: a reset behind bytes that came while the connection was new loses none of them", "[close][recv]") {
  const auto in_its_lane = connected();
  for (int round = 0; round < 50; ++round) {
    auto pair = connected({.enter = false});
    send_all(pair.client, "nobody reads this");
    send_all(pair.server, "last words");
    arrived(pair.server, 17);
    arrived(pair.client, 10);
    pair.server.close();
    CHECK(receive(pair.client, 10) == "last words");
    char byte;
    CHECK_FAILS(recv(pair.client, &byte, 1, 0), ECONNRESET);
  }
}

TEST_CASE("send: to a peer that closed while the connection was new loses none of what it sent",
          "[send][recv][close]") {
  const auto in_its_lane = connected();
  for (int round = 0; round < 50; ++round) {
    auto pair = connected({.enter = false});
    send_all(pair.server, "last ");
    send_all(pair.server, "words");
    pair.server.close();
    arrived(pair.client, 10);
    CHECK(send(pair.client, "too late", 8, MSG_NOSIGNAL) == 8);
    CHECK(receive(pair.client, 10) == "last words");
  }
}

TEST_CASE("getsockopt: SO_ERROR takes the error also where there is no place for it", "[getsockopt][poll]") {
  from_both_sides([](Fd& one, Fd& other) {
    reset(one, other);
    socklen_t size = sizeof(int);
    CHECK((polled(one, kAll) & POLLERR) != 0);
    CHECK_FAILS(getsockopt(one, SOL_SOCKET, SO_ERROR, bad_pointer(), &size), EFAULT);
    CHECK((polled(one, kAll) & POLLERR) == 0);
  });
}

TEST_CASE("epoll: fewer bytes than SO_RCVLOWAT are no edge", "[epoll_wait][setsockopt]") {
  from_both_sides([](Fd& one, Fd& other) {
    const Fd set(epoll_create1(EPOLL_CLOEXEC));
    set_option(one, SOL_SOCKET, SO_RCVLOWAT, 10);
    epoll_event event{EPOLLIN | EPOLLOUT | EPOLLET, {.u32 = 7}};
    REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, one, &event) == 0);
    CHECK(epoll_wait(set, &event, 1, 1000) == 1);
    send_all(other, "few");
    arrived(one, 3);
    CHECK(epoll_wait(set, &event, 1, 0) == 0);
    send_all(other, "enough");
    arrived(one, 9);
    CHECK(epoll_wait(set, &event, 1, 0) == 0);
    send_all(other, "!");
    CHECK(epoll_wait(set, &event, 1, 1000) == 1);
    CHECK(event.events == (EPOLLIN | EPOLLOUT));
  });
}

TEST_CASE("epoll: what is ready still is no news to the set around, once it was asked for", "[epoll_wait]") {
  from_both_sides([](Fd& one, Fd& other) {
    const Fd inner(epoll_create1(EPOLL_CLOEXEC)), outer(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{EPOLLIN, {.u32 = 7}};
    REQUIRE(epoll_ctl(inner, EPOLL_CTL_ADD, one, &event) == 0);
    event = {EPOLLIN | EPOLLET, {.u32 = 8}};
    REQUIRE(epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event) == 0);
    for (int round = 0; round < 2; ++round) {
      send_all(other, "x");
      CHECK(epoll_wait(outer, &event, 1, 1000) == 1);
      CHECK(epoll_wait(inner, &event, 1, 1000) == 1);
      CHECK(epoll_wait(inner, &event, 1, 0) == 1);
      CHECK(epoll_wait(outer, &event, 1, 0) == 0);
      CHECK(receive(one, 1) == "x");
      CHECK(epoll_wait(inner, &event, 1, 0) == 0);
      CHECK(polled(inner, POLLIN) == 0);
    }
  });
}

TEST_CASE("epoll: connect on what has ended is no edge, and a shutdown is, also where bytes are unread",
          "[epoll_wait][connect][shutdown][tcp]") {
  for (const bool reads : {false, true}) {
    auto pair = connected();
    const Fd set(epoll_create1(EPOLL_CLOEXEC));
    send_all(pair.server, "unread");
    arrived(pair.client, 6);
    pair.server.close();
    shown(pair.client, POLLRDHUP);
    CHECK(send(pair.client, "x", 1, 0) == 1);
    shown(pair.client, POLLHUP);
    CHECK(option(pair.client, SOL_SOCKET, SO_ERROR) == EPIPE);
    epoll_event event{EPOLLIN | EPOLLET, {.u32 = 7}};
    REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, pair.client, &event) == 0);
    CHECK(epoll_wait(set, &event, 1, 1000) == 1);
    CHECK_FAILS(again(pair.client), EISCONN);
    CHECK(epoll_wait(set, &event, 1, 10) == 0);
    if (reads) CHECK(receive(pair.client, 6) == "unread");
    CHECK_FAILS(shutdown(pair.client, SHUT_RD), ENOTCONN);
    CHECK(epoll_wait(set, &event, 1, 1000) == 1);
  }
}
