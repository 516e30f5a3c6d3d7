#include "core/base/exposed.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstring>

#include "core/base/clock.hpp"

using namespace rsock;

namespace {

constexpr int kLinger = 5;

struct Pair {
  UniqueFd here, there;
  explicit Pair(int type = SOCK_SEQPACKET) {
    int ends[2];
    REQUIRE(sys::socket_pair(type | SOCK_CLOEXEC, ends));
    here = UniqueFd(ends[0]), there = UniqueFd(ends[1]);
  }
};

// A TCP connection whose peer reads nothing, and which makes whoever closes it wait.
struct Lingering {
  UniqueFd fd, peer;
  Lingering() {
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof name;
    REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&name), size) == 0);
    REQUIRE(::listen(listener.get(), 1) == 0);
    REQUIRE(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &size) == 0);
    fd = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), size) == 0);
    peer = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const std::array<char, 65536> bytes{};
    while (::send(fd.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
    }
    const linger time{1, kLinger};
    REQUIRE(::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &time, sizeof time) == 0);
  }
};

// With the descriptor, which is nowhere else then.
void send(int socket, size_t size, UniqueFd passed) {
  char byte = 1;
  iovec piece{&byte, size};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  auto* part = CMSG_FIRSTHDR(&message);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(sizeof(int));
  const int fd = passed.get();
  std::memcpy(CMSG_DATA(part), &fd, sizeof fd);
  REQUIRE(::sendmsg(socket, &message, 0) == static_cast<ssize_t>(size));
}

// No other thread. One that was joined makes no call any more, and may be seen for a moment still.
bool alone() {
  struct stat tasks {};
  for (const auto begun = now(); now() - begun < milliseconds(10'000); usleep(100))
    if (::stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink == 3) return true;
  return false;
}

bool took_no_time(Time since) { return now() - since < milliseconds(kLinger * 1000 / 2); }

}  // namespace

TEST_CASE("A packet is taken if nothing came with it", "[exposed]") {
  const Pair pair;
  std::array<uint8_t, 8> bytes;
  CHECK(receive_bare(pair.here.get(), bytes).is(EAGAIN));
  REQUIRE(::send(pair.there.get(), "abc", 3, 0) == 3);
  CHECK(*receive_bare(pair.here.get(), bytes) == 3);
  CHECK(receive_bare(pair.here.get(), bytes).is(EAGAIN));
  send(pair.there.get(), 1, UniqueFd(::dup(0)));
  CHECK(receive_bare(pair.here.get(), bytes).is(EPROTO));
  CHECK(receive_bare(pair.here.get(), bytes).is(EPROTO));
}

TEST_CASE("Of a stream what there is is taken, up to where something came with it", "[exposed]") {
  const Pair pair(SOCK_STREAM);
  std::array<uint8_t, 8> bytes;
  CHECK(receive_bare(pair.here.get(), bytes).is(EAGAIN));
  for (int i = 0; i < 3; ++i) REQUIRE(::send(pair.there.get(), "a", 1, 0) == 1);
  CHECK(*receive_bare(pair.here.get(), bytes) == 3);
  CHECK(receive_bare(pair.here.get(), bytes).is(EAGAIN));
  REQUIRE(::send(pair.there.get(), "0123456789", 10, 0) == 10);
  CHECK(*receive_bare(pair.here.get(), bytes) == bytes.size());
  send(pair.there.get(), 1, UniqueFd(::dup(0)));
  CHECK(receive_bare(pair.here.get(), bytes).is(EPROTO));
  CHECK(receive_bare(pair.here.get(), bytes).is(EPROTO));
}

TEST_CASE("What is left in an exposed socket holds nobody up", "[exposed]") {
  const auto [type, size] = GENERATE(std::pair(SOCK_SEQPACKET, size_t{0}), std::pair(SOCK_SEQPACKET, size_t{1}),
                                     std::pair(SOCK_STREAM, size_t{1}));
  const bool peer_is_there = GENERATE(true, false);
  Lingering tcp;
  Pair pair(type);
  if (type == SOCK_SEQPACKET) {
    REQUIRE(::send(pair.there.get(), "", 0, 0) == 0);  // looks like an end
  } else {
    const std::array<char, 5000> rings{};
    REQUIRE(::send(pair.there.get(), rings.data(), rings.size(), 0) == static_cast<ssize_t>(rings.size()));
  }
  send(pair.there.get(), size, std::move(tcp.fd));
  if (!peer_is_there) pair.there.reset();
  const auto begun = now();
  { ExposedFd socket(std::move(pair.here)); }
  CHECK(took_no_time(begun));
  CHECK(ExposedFd::held_up() > 0);
  // It is closed all the same, as soon as the peer has heard the rest.
  std::array<char, 65536> bytes;
  while (::read(tcp.peer.get(), bytes.data(), bytes.size()) > 0) {
  }
  while (ExposedFd::held_up() > 0 && took_no_time(begun)) usleep(1000);
  CHECK(ExposedFd::held_up() == 0);
}

TEST_CASE("A listener in which somebody waits with such a thing holds nobody up", "[exposed]") {
  const UniqueFd caller(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  Lingering tcp;
  UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  socklen_t size = sizeof(sa_family_t);  // the kernel finds one
  REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&name), size) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  size = sizeof name;
  REQUIRE(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name), &size) == 0);
  REQUIRE(::connect(caller.get(), reinterpret_cast<sockaddr*>(&name), size) == 0);
  send(caller.get(), 1, std::move(tcp.fd));
  const auto begun = now();
  { ExposedFd socket(std::move(listener)); }
  CHECK(took_no_time(begun));
  CHECK(ExposedFd::held_up() >= 1);
  tcp.peer.reset();
  while (ExposedFd::held_up() > 0 && took_no_time(begun)) usleep(1000);
  CHECK(ExposedFd::held_up() == 0);
}

TEST_CASE("An exposed socket in which nothing is left is closed at once", "[exposed]") {
  Pair pair(GENERATE(SOCK_SEQPACKET, SOCK_STREAM));
  const int number = pair.here.get();
  SECTION("the peer is there") {}
  SECTION("the peer has gone, and left a packet unread") {
    REQUIRE(::send(pair.here.get(), "x", 1, 0) == 1);
    pair.there.reset();
  }
  SECTION("there are bytes, and nothing else") { REQUIRE(::send(pair.there.get(), "xyz", 3, 0) == 3); }
  { ExposedFd socket(std::move(pair.here)); }
  CHECK(::fcntl(number, F_GETFD) < 0);
  CHECK(ExposedFd::held_up() == 0);
}

TEST_CASE("What is given up is watched no more, held up or not", "[exposed]") {
  const UniqueFd set(*sys::epoll_create());
  Pair pair;
  Lingering tcp;
  send(pair.there.get(), 1, std::move(tcp.fd));
  epoll_event event;
  {
    ExposedFd socket(std::move(pair.here));
    REQUIRE(socket.watch(set.get(), EPOLLIN, 7));
    CHECK(*sys::epoll_poll(set.get(), &event, 1) == 1);
  }
  CHECK(*sys::epoll_poll(set.get(), &event, 1) == 0);
  tcp.peer.reset();
  while (ExposedFd::held_up() > 0) usleep(1000);
}

// Each in a process of its own: it is for good. What is left of a thread that the kernel still knows of would be killed
// by the filter.
TEST_CASE("Once retired nothing is closed aside, and no thread is left", "[exposed]") {
  int turn = 0;
  for (int status = 0; turn < 100 && status == 0; ++turn) {
    const auto child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      ExposedFd::forked();
      for (int i = 0; i < turn % 7; ++i) ExposedFd::close_aside(UniqueFd(::fcntl(0, F_DUPFD_CLOEXEC, 3)));
      bool right = ExposedFd::retire(milliseconds(10000));
      right = right && alone();
      ExposedFd::close_aside(UniqueFd(::fcntl(0, F_DUPFD_CLOEXEC, 3)));
      right = right && alone() && ExposedFd::held_up() > 0;
      ::_exit(right ? 0 : 1);
    }
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  CHECK(turn == 100);
}

TEST_CASE("Who retires does not wait longer for what is held up", "[exposed]") {
  const auto child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ExposedFd::forked();
    Lingering tcp;
    const int number = tcp.fd.get();
    ExposedFd::close_aside(std::move(tcp.fd));
    const auto begun = now();
    while (::fcntl(number, F_GETFD) >= 0) usleep(1000);  // the thread is in its close
    const bool all = ExposedFd::retire(milliseconds(100));
    ::_exit(!all && took_no_time(begun) ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}
