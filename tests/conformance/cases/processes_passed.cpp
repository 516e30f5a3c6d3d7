// A descriptor that is handed to another process: with SCM_RIGHTS, by posix_spawn.

#include <spawn.h>
extern "C" {  // which glibc 2.36 forgot
#include <sys/pidfd.h>
}
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <thread>

#include "../child.hpp"
#include "tests/parcel.hpp"

using namespace conformance;
using tests::Parcel;

extern char** environ;

namespace {

int received(int socket) {
  Parcel parcel;
  return recvmsg(socket, &parcel.message, MSG_CMSG_CLOEXEC) == 1 ? parcel.unpacked() : -1;
}

bool send_it(int socket, int fd) {
  Parcel parcel(fd);
  return sendmsg(socket, &parcel.message, 0) == 1;
}

// A child that gets a descriptor through a socketpair and answers what it reads there.
struct Receiver {
  Fd socket;
  pid_t child;
};
Receiver receiver_that_answers(size_t bytes) {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  Receiver receiver{Fd(ends[0]), -1};
  receiver.child = child_that([&, end = ends[1]] {
    close(ends[0]);
    const int fd = received(end);
    return fd >= 0 && put(fd, take(fd, bytes)) && close(fd) == 0 ? 7 : 1;
  });
  close(ends[1]);
  return receiver;
}

void go_on_elsewhere(bool unread) {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Fd told(ends[0]), hears(ends[1]);
  const pid_t taker = child_that([&] {
    int theirs = -1;
    if (recv(hears, &theirs, sizeof theirs, 0) != sizeof theirs) return 1;
    const int owner = pidfd_open(getppid(), 0);
    const int fd = pidfd_getfd(owner, theirs, 0);
    return fd >= 0 && put(fd, take(fd, 5)) && close(fd) == 0 ? 7 : 2;
  });
  const auto pair = connected();
  if (unread) {
    send_all(pair.client, "hello");
    arrived(pair.server, 5);
  }
  const int number = pair.server;
  REQUIRE(send(told, &number, sizeof number, 0) == sizeof number);
  if (!unread) send_all(pair.client, "hello");
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(taker) == 7);
  exchange(pair.client, pair.server);
}

}  // namespace

TEST_CASE("sendmsg: SCM_RIGHTS, the receiver goes on with the connection and the sender closes at once",
          "[sendmsg][recvmsg][tcp]") {
  const auto receiver = receiver_that_answers(5);
  auto pair = connected();
  exchange(pair.client, pair.server);
  REQUIRE(send_it(receiver.socket, pair.server));
  pair.server.close();
  send_all(pair.client, "hello");
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(receiver.child) == 7);
  CHECK(receive(pair.client, 1).empty());
}

TEST_CASE("sendmsg: SCM_RIGHTS, bytes that came and nobody read are the receiver's", "[sendmsg][recvmsg][tcp]") {
  const auto receiver = receiver_that_answers(5);
  auto pair = connected();
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  REQUIRE(send_it(receiver.socket, pair.server));
  pair.server.close();
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(receiver.child) == 7);
}

TEST_CASE("sendmsg: SCM_RIGHTS, the sender reads the head of a new connection, and the rest is the receiver's",
          "[sendmsg][recvmsg][tcp]") {
  const auto in_its_lane = connected();
  for (int round = 0; round < 20; ++round) {
    const auto receiver = receiver_that_answers(5);
    auto pair = connected({.enter = false});
    send_all(pair.client, "head");
    send_all(pair.client, "body");
    CHECK(receive(pair.server, 4) == "head");
    arrived(pair.server, 4);
    if (round % 2) std::this_thread::sleep_for(std::chrono::milliseconds(round));  // it may enter its lane meanwhile
    send_all(pair.client, "!");
    REQUIRE(send_it(receiver.socket, pair.server));
    pair.server.close();
    CHECK(receive(pair.client, 5) == "body!");
    CHECK(status_of(receiver.child) == 7);
  }
}

TEST_CASE("sendmsg: SCM_RIGHTS, the sender may go on as well", "[sendmsg][recvmsg][tcp]") {
  const auto receiver = receiver_that_answers(5);
  const auto pair = connected();
  REQUIRE(send_it(receiver.socket, pair.server));
  send_all(pair.client, "hello");
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(receiver.child) == 7);
  exchange(pair.client, pair.server);
}

TEST_CASE("sendmsg: SCM_RIGHTS, of the connecting end", "[sendmsg][recvmsg][tcp]") {
  const auto receiver = receiver_that_answers(5);
  auto pair = connected();
  REQUIRE(send_it(receiver.socket, pair.client));
  pair.client.close();
  send_all(pair.server, "hello");
  CHECK(receive(pair.server, 5) == "hello");
  CHECK(status_of(receiver.child) == 7);
  CHECK(receive(pair.server, 1).empty());
}

TEST_CASE("sendmsg: SCM_RIGHTS, to the process itself", "[sendmsg][recvmsg][tcp]") {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Fd one(ends[0]), other(ends[1]);
  auto pair = connected();
  REQUIRE(send_it(one, pair.server));
  const Fd again(received(other));
  REQUIRE(again >= 0);
  exchange(pair.client, again);
  pair.server.close();
  exchange(again, pair.client);
}

TEST_CASE("sendmsg: SCM_RIGHTS of an epoll set, which tells of its sockets under either number",
          "[sendmsg][recvmsg][epoll_wait][tcp]") {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Fd one(ends[0]), other(ends[1]);
  auto pair = connected();
  const Fd set(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u32 = 7;
  REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, pair.server, &event) == 0);
  REQUIRE(send_it(one, set));
  const Fd again(received(other));
  REQUIRE(again >= 0);
  send_all(pair.client, "x");
  for (const int number : {+set, +again}) {
    event = {};
    CHECK(epoll_wait(number, &event, 1, 5000) == 1);
    CHECK(event.events == EPOLLIN);
    CHECK(event.data.u32 == 7);
  }
  CHECK(receive(pair.server, 1) == "x");
  exchange(pair.client, pair.server);
}

TEST_CASE("sendmsg: SCM_RIGHTS, over a named unix socket", "[sendmsg][recvmsg][tcp]") {
  sockaddr_un name{AF_UNIX, {}};
  snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "conformance-%d", getpid());  // abstract
  const auto* address = reinterpret_cast<const sockaddr*>(&name);
  const Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(bind(listener, address, sizeof name) == 0);
  REQUIRE(listen(listener, 1) == 0);
  const pid_t child = child_that([&] {
    const int socket = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(socket, address, sizeof name) != 0) return 1;
    const int fd = received(socket);
    return put(fd, take(fd, 5)) ? 7 : 2;
  });
  const Fd socket(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(socket >= 0);
  auto pair = connected();
  REQUIRE(send_it(socket, pair.server));
  pair.server.close();
  send_all(pair.client, "hello");
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(child) == 7);
}

// Whoever takes a connection asks all that may have it, and one of those is stopped.
TEST_CASE("pidfd_getfd: another process goes on with the connection, whoever else is stopped", "[pidfd_getfd][tcp]") {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Fd told(ends[0]), hears(ends[1]);
  const pid_t stopped = child_that([&] {
    const auto pair = connected();
    char byte = 's';
    send(told, &byte, 1, 0);
    return recv(told, &byte, 1, 0) == 1 ? 7 : 2;
  });
  CHECK(receive(hears, 1) == "s");
  REQUIRE(kill(stopped, SIGSTOP) == 0);
  siginfo_t info{};
  REQUIRE(waitid(P_PID, static_cast<id_t>(stopped), &info, WSTOPPED | WNOWAIT) == 0);
  go_on_elsewhere(false);
  REQUIRE(kill(stopped, SIGCONT) == 0);
  CHECK(send(hears, "g", 1, 0) == 1);
  CHECK(status_of(stopped) == 7);
}

TEST_CASE("pidfd_getfd: another process goes on with the connection", "[pidfd_getfd][tcp]") {
  for (const bool unread : {false, true}) go_on_elsewhere(unread);
}

TEST_CASE("pidfd_getfd: of the process's own connection", "[pidfd_getfd]") {
  const auto pair = connected();
  const Fd itself(pidfd_open(getpid(), 0));
  Fd copy(pidfd_getfd(itself, pair.server, 0));
  REQUIRE(copy >= 0);
  exchange(pair.client, copy);
  exchange(pair.client, pair.server);
  copy.close();
  exchange(pair.client, pair.server);
}

TEST_CASE("sendmmsg: SCM_RIGHTS, the receiver goes on with the connection", "[sendmmsg][recvmsg][tcp]") {
  const auto receiver = receiver_that_answers(5);
  auto pair = connected();
  Parcel parcel(pair.server);
  mmsghdr messages{parcel.message, 0};
  REQUIRE(sendmmsg(receiver.socket, &messages, 1, 0) == 1);
  pair.server.close();
  send_all(pair.client, "hello");
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(receiver.child) == 7);
}

TEST_CASE("posix_spawn_file_actions_adddup2: the connection is the new program's standard stream",
          "[posix_spawn_file_actions_adddup2][posix_spawn][tcp]") {
  auto pair = connected();
  send_all(pair.client, "early ");
  arrived(pair.server, 6);
  posix_spawn_file_actions_t actions;
  REQUIRE(posix_spawn_file_actions_init(&actions) == 0);
  REQUIRE(posix_spawn_file_actions_adddup2(&actions, pair.server, 0) == 0);
  REQUIRE(posix_spawn_file_actions_adddup2(&actions, pair.server, 1) == 0);
  char* const words[] = {const_cast<char*>("sh"), const_cast<char*>("-c"), const_cast<char*>("read line; echo $line"),
                         nullptr};
  pid_t child = -1;
  REQUIRE(posix_spawn(&child, "/bin/sh", &actions, nullptr, words, environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  pair.server.close();
  send_all(pair.client, "late\n");
  CHECK(receive(pair.client, 11) == "early late\n");
  CHECK(status_of(child) == 0);
  CHECK(receive(pair.client, 1).empty());
}

namespace {

// A child that is there before `make` makes a listener; it gets that in one of the ways, and says back to whoever
// connects what it hears.
enum class Way { recvmsg, recvmmsg, by_number, pidfd_getfd };

int received_by(Way way, int socket) {
  if (way == Way::pidfd_getfd) {
    int theirs = -1;
    if (recv(socket, &theirs, sizeof theirs, 0) != sizeof theirs) return -1;
    return pidfd_getfd(pidfd_open(getppid(), 0), theirs, 0);
  }
  Parcel parcel;
  if (way == Way::recvmmsg) {
    mmsghdr messages[2] = {{parcel.message, 0}, {}};
    if (recvmmsg(socket, messages, 1, 0, nullptr) != 1) return -1;
    parcel.message = messages[0].msg_hdr;
  } else if ((way == Way::recvmsg ? recvmsg(socket, &parcel.message, 0)
                                  : syscall(SYS_recvmsg, socket, &parcel.message, 0)) != 1) {
    return -1;
  }
  return parcel.unpacked();
}

template <class Make>
void accepts_from_received(Way way, Make make) {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Fd here(ends[0]);
  const pid_t child = child_that([&] {
    const int listener = received_by(way, ends[1]);
    if (listener < 0 || send(ends[1], "!", 1, 0) != 1 || take(ends[1], 1) != "?") return 1;
    const int fd = accept(listener, nullptr, nullptr);
    for (std::string heard = take(fd, 1); !heard.empty(); heard = take(fd, 1))
      if (!put(fd, heard)) return 2;
    return 7;
  });
  close(ends[1]);
  auto listener = make();
  if (way == Way::pidfd_getfd) {
    const int number = listener.fd;
    REQUIRE(send(here, &number, sizeof number, 0) == sizeof number);
  } else {
    REQUIRE(send_it(here, listener.fd));
  }
  REQUIRE(receive(here, 1) == "!");
  if (option(listener.fd, SOL_SOCKET, SO_ACCEPTCONN) == 0) REQUIRE(listen(listener.fd, 4) == 0);  // only now
  listener.fd.close();
  send_all(here, "?");
  auto client = stream_socket();
  REQUIRE(connect(client, listener.name(), listener.size) == 0);
  CHECK(enters_lane(client));
  client.close();
  CHECK(status_of(child) == 7);
}

}  // namespace

TEST_CASE("recvmsg, recvmmsg: a listener by SCM_RIGHTS: what is accepted there enters its lane",
          "[recvmsg][recvmmsg][accept][syscall]") {
  for (const auto way : {Way::recvmsg, Way::recvmmsg, Way::by_number})
    accepts_from_received(way, [] { return listening(); });
}

TEST_CASE("pidfd_getfd: a listener: what is accepted there enters its lane", "[pidfd_getfd][accept]") {
  accepts_from_received(Way::pidfd_getfd, [] { return listening(); });
}

TEST_CASE("recvmsg: a socket by SCM_RIGHTS that its sender makes a listener later", "[recvmsg][listen][accept]") {
  accepts_from_received(Way::recvmsg, [] {
    const auto model = listening();
    Listener bound{stream_socket(), model.address, model.size};
    reinterpret_cast<sockaddr_in&>(bound.address).sin_port = 0;
    REQUIRE(bind(bound.fd, bound.name(), bound.size) == 0);
    REQUIRE(getsockname(bound.fd, reinterpret_cast<sockaddr*>(&bound.address), &bound.size) == 0);
    return bound;
  });
}

TEST_CASE("recvmsg: several descriptors by SCM_RIGHTS, and no room for all", "[recvmsg][no-lane]") {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Fd one(ends[0]), other(ends[1]);
  const auto listener = listening();
  const int three[] = {listener.fd, one, listener.fd};
  for (const size_t room : {CMSG_SPACE(sizeof three), CMSG_SPACE(sizeof three[0]), CMSG_LEN(0), size_t{0}}) {
    char byte = 'x';
    iovec piece{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof three)] = {};
    msghdr message{};
    message.msg_iov = &piece, message.msg_iovlen = 1;
    message.msg_control = control, message.msg_controllen = sizeof control;
    auto* part = CMSG_FIRSTHDR(&message);
    *part = {CMSG_LEN(sizeof three), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(part), three, sizeof three);
    REQUIRE(sendmsg(one, &message, 0) == 1);
    message.msg_controllen = room;
    errno = 0;
    CHECK(recvmsg(other, &message, MSG_CMSG_CLOEXEC) == 1);
    CHECK(errno == 0);
    CHECK(((message.msg_flags & MSG_CTRUNC) != 0) == (room < CMSG_SPACE(sizeof three)));
    const auto* came = CMSG_FIRSTHDR(&message);
    if (!came) continue;
    for (size_t i = 0; i < (came->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(came) + i * sizeof fd, sizeof fd);
      close(fd);
    }
  }
}
