// What programs made from seeds (tests/differential) did otherwise in a lane: each kind of difference that was found there, as short
// as it can be shown.

#include "../pair.hpp"

using namespace conformance;

namespace {

constexpr short kAll = POLLIN | POLLOUT | POLLRDHUP | POLLPRI;

// Waits until `fd` shows all of `events`; what it shows then.
short shown(int fd, short events) {
  REQUIRE(eventually([&] { return (polled(fd, kAll) & events) == events; }));
  return polled(fd, kAll);
}

uint64_t kernel_bytes(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  REQUIRE(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
  return info.tcpi_bytes_received;
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
    const auto before = kernel_bytes(neighbour.server);
    send_all(neighbour.client, "and this?");
    CHECK(receive(neighbour.server, 9) == "and this?");
    if (in_lane_world()) CHECK(kernel_bytes(neighbour.server) == before);
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
    send_all(one, "nobody reads this");
    arrived(other, 17);
    other.close();
    shown(one, POLLERR);
    CHECK_FAILS(shutdown(one, SHUT_WR), ENOTCONN);
    CHECK(option(one, SOL_SOCKET, SO_ERROR) == ECONNRESET);
  });
}

TEST_CASE("close: with bytes unread after the peer's end of stream, the peer learns of the reset", "[close][shutdown][recv]") {
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

TEST_CASE("writev: nothing can be written even where no more may be, which a send of nothing may not", "[writev][send][write]") {
  from_both_sides([](Fd& one, Fd&) {
    REQUIRE(shutdown(one, SHUT_WR) == 0);
    char none;
    iovec piece{&none, 0};
    CHECK(writev(one, &piece, 1) == 0);
    CHECK_FAILS(send(one, &none, 0, MSG_NOSIGNAL), EPIPE);
  });
}
