// fcntl and ioctl on flows, and what else works on any descriptor.

#include <asm/ioctls.h>
#include <linux/sockios.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <atomic>
#include <csignal>

#include "../pair.hpp"

using namespace conformance;

namespace {

int asked(int fd, unsigned long request) {
  int value = -1;
  REQUIRE(ioctl(fd, request, &value) == 0);
  return value;
}

void talk(const Pair& pair) {
  send_all(pair.client, "to");
  CHECK(receive(pair.server, 2) == "to");
  send_all(pair.server, "fro");
  CHECK(receive(pair.client, 3) == "fro");
}

std::atomic<int> signals{0};
std::atomic<int> signal_fd{-1};

void count_signal(int, siginfo_t* info, void*) {
  signal_fd = info->si_fd;
  ++signals;
}

// Counts a signal while it lives.
class Counted {
 public:
  explicit Counted(int signal) : signal_(signal) {
    signals = 0;
    struct sigaction action {};
    action.sa_sigaction = count_signal;
    action.sa_flags = SA_SIGINFO | SA_RESTART;
    REQUIRE(sigaction(signal_, &action, &before_) == 0);
  }
  ~Counted() { sigaction(signal_, &before_, nullptr); }

 private:
  int signal_;
  struct sigaction before_ {};
};

}  // namespace

TEST_CASE("fcntl: F_GETFL tells the truth", "[fcntl]") {
  const auto pair = connected();
  for (const int fd : {+pair.client, +pair.server}) {
    CHECK(fcntl(fd, F_GETFL) == O_RDWR);
    CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    CHECK(fcntl(fd, F_GETFL) == (O_RDWR | O_NONBLOCK));
    CHECK(fcntl(fd, F_SETFL, 0) == 0);
    CHECK(fcntl(fd, F_GETFL) == O_RDWR);
  }
}

TEST_CASE("fcntl: F_SETFL: O_NONBLOCK on and off", "[fcntl][recv][send]") {
  const auto pair = connected();
  char byte;
  for (int i = 0; i < 3; ++i) {
    set_nonblocking(pair.server, true);
    CHECK_FAILS(recv(pair.server, &byte, 1, 0), EAGAIN);
    set_nonblocking(pair.server, false);
    std::thread later([&] { send_all(pair.client, "x"); });
    CHECK(recv(pair.server, &byte, 1, 0) == 1);
    later.join();
  }
  set_nonblocking(pair.client);
  fill(pair.client);
  CHECK_FAILS(send(pair.client, "x", 1, MSG_NOSIGNAL), EAGAIN);
}

TEST_CASE("ioctl: FIONBIO is O_NONBLOCK under another name", "[ioctl][fcntl]") {
  const auto pair = connected();
  int on = 1, off = 0;
  char byte;
  CHECK(ioctl(pair.server, FIONBIO, &on) == 0);
  CHECK((fcntl(pair.server, F_GETFL) & O_NONBLOCK) != 0);
  CHECK_FAILS(recv(pair.server, &byte, 1, 0), EAGAIN);
  CHECK(ioctl(pair.server, FIONBIO, &off) == 0);
  CHECK((fcntl(pair.server, F_GETFL) & O_NONBLOCK) == 0);
  CHECK_FAILS(ioctl(pair.server, FIONBIO, bad_pointer()), EFAULT);
  CHECK_FAILS(recv(pair.server, &byte, 1, MSG_DONTWAIT), EAGAIN);
}

TEST_CASE("fcntl, ioctl: set before the lane was entered, they hold in it", "[fcntl][ioctl]") {
  const auto pair = connected({.prepare = [](int fd) {
    int on = 1;
    REQUIRE(ioctl(fd, FIONBIO, &on) == 0);
  }});
  char byte;
  CHECK_FAILS(recv(pair.server, &byte, 1, 0), EAGAIN);
  CHECK_FAILS(recv(pair.client, &byte, 1, 0), EAGAIN);
}

TEST_CASE("fcntl: F_GETFD and F_SETFD", "[fcntl]") {
  const auto pair = connected();
  CHECK(fcntl(pair.client, F_GETFD) == FD_CLOEXEC);
  CHECK(fcntl(pair.client, F_SETFD, 0) == 0);
  CHECK(fcntl(pair.client, F_GETFD) == 0);
  CHECK(ioctl(pair.client, FIOCLEX) == 0);
  CHECK(fcntl(pair.client, F_GETFD) == FD_CLOEXEC);
  CHECK(ioctl(pair.client, FIONCLEX) == 0);
  CHECK(fcntl(pair.client, F_GETFD) == 0);
  talk(pair);
}

TEST_CASE("fcntl: commands that there are not, or not for sockets", "[fcntl]") {
  const auto pair = connected();
  CHECK_FAILS(fcntl(pair.client, 9999, 0), EINVAL);
  CHECK_FAILS(fcntl(pair.client, F_SETPIPE_SZ, 4096), EBADF);
  CHECK_FAILS(fcntl(-1, F_GETFL), EBADF);
  CHECK_FAILS(fcntl(pair.client, F_SETSIG, 1000), EINVAL);
  struct flock lock {};
  CHECK_FAILS(fcntl(pair.client, F_GETLK, bad_pointer()), EFAULT);
  lock.l_type = F_RDLCK;
  CHECK(fcntl(pair.client, F_SETLK, &lock) == 0);
  talk(pair);
}

TEST_CASE("fcntl: by number", "[fcntl][ioctl][syscall]") {
  const auto pair = connected();
  CHECK(syscall(SYS_fcntl, +pair.server, F_SETFL, O_NONBLOCK) == 0);
  char byte;
  CHECK_FAILS(recv(pair.server, &byte, 1, 0), EAGAIN);
  send_all(pair.client, "abc");
  arrived(pair.server, 3);
  int count = -1;
  CHECK(syscall(SYS_ioctl, +pair.server, FIONREAD, &count) == 0);
  CHECK(count == 3);
  const Fd copy(static_cast<int>(syscall(SYS_fcntl, +pair.server, F_DUPFD, 50)));
  CHECK(copy == 50);
  CHECK(receive(copy, 3) == "abc");
}

TEST_CASE("fcntl: F_SETOWN and O_ASYNC: SIGIO when bytes come", "[fcntl][tcp]") {
  const Counted counted(SIGIO);
  const auto pair = connected();
  CHECK(fcntl(pair.server, F_SETOWN, getpid()) == 0);
  CHECK(fcntl(pair.server, F_GETOWN) == getpid());
  CHECK(fcntl(pair.server, F_SETFL, O_ASYNC) == 0);
  CHECK(fcntl(pair.server, F_GETFL) == (O_RDWR | O_ASYNC));
  signals = 0;
  send_all(pair.client, "x");
  CHECK(eventually([] { return signals > 0; }));
  CHECK(receive(pair.server, 1) == "x");
  CHECK(fcntl(pair.server, F_SETFL, 0) == 0);
}

TEST_CASE("fcntl: F_SETSIG: a signal that names the descriptor", "[fcntl][tcp]") {
  const int signal = SIGRTMIN + 3;
  const Counted counted(signal);
  const auto pair = connected();
  const f_owner_ex owner{F_OWNER_PID, getpid()};
  CHECK(fcntl(pair.server, F_SETOWN_EX, &owner) == 0);
  f_owner_ex told{};
  CHECK(fcntl(pair.server, F_GETOWN_EX, &told) == 0);
  CHECK(told.type == F_OWNER_PID);
  CHECK(told.pid == getpid());
  CHECK(fcntl(pair.server, F_SETSIG, signal) == 0);
  CHECK(fcntl(pair.server, F_GETSIG) == signal);
  CHECK(fcntl(pair.server, F_SETFL, O_ASYNC | O_NONBLOCK) == 0);
  send_all(pair.client, "x");
  CHECK(eventually([] { return signals > 0; }));
  CHECK(signal_fd == pair.server);
  CHECK(fcntl(pair.server, F_SETFL, 0) == 0);
}

TEST_CASE("ioctl: FIOASYNC: SIGIO when bytes come", "[ioctl][tcp]") {
  const Counted counted(SIGIO);
  const auto pair = connected();
  CHECK(fcntl(pair.server, F_SETOWN, getpid()) == 0);
  int on = 1, off = 0;
  CHECK(ioctl(pair.server, FIOASYNC, &on) == 0);
  signals = 0;
  send_all(pair.client, "x");
  CHECK(eventually([] { return signals > 0; }));
  CHECK(ioctl(pair.server, FIOASYNC, &off) == 0);
  CHECK_FAILS(ioctl(pair.server, FIOASYNC, bad_pointer()), EFAULT);
}

TEST_CASE("fcntl: O_ASYNC set before a connection is used: SIGIO", "[fcntl][no-lane]") {
  const Counted counted(SIGIO);
  const auto pair = connected({.enter = false, .prepare = [](int fd) {
                                 REQUIRE(fcntl(fd, F_SETOWN, getpid()) == 0);
                                 REQUIRE(fcntl(fd, F_SETFL, O_ASYNC) == 0);
                               }});
  for (int i = 0; i < 200; ++i) {
    talk(pair);
    signals = 0;
    send_all(pair.client, "x");
    REQUIRE(eventually([] { return signals > 0; }));
    CHECK(receive(pair.server, 1) == "x");
  }
}

TEST_CASE("fcntl: O_ASYNC set on a listener before its connections: those are not", "[fcntl][accept][no-lane]") {
  const Counted counted(SIGIO);
  const auto listener = listening();
  REQUIRE(fcntl(listener.fd, F_SETOWN, getpid()) == 0);
  REQUIRE(fcntl(listener.fd, F_SETFL, O_ASYNC) == 0);
  const auto client = stream_socket();
  REQUIRE(connect(client, listener.name(), listener.size) == 0);
  CHECK(eventually([] { return signals > 0; }));
  const Fd server(accept(listener.fd, nullptr, nullptr));
  CHECK(fcntl(server, F_GETFL) == O_RDWR);
}

TEST_CASE("ioctl: FIONREAD in each state", "[ioctl]") {
  auto pair = connected();
  for (const auto request : {static_cast<unsigned long>(FIONREAD), static_cast<unsigned long>(SIOCINQ)}) {
    CHECK(asked(pair.server, request) == 0);
    send_all(pair.client, "hello");
    arrived(pair.server, 5);
    CHECK(asked(pair.server, request) == 5);
    CHECK(receive(pair.server, 2) == "he");
    CHECK(asked(pair.server, request) == 3);
    CHECK(receive(pair.server, 3) == "llo");
  }
  send_all(pair.client, "last");
  CHECK(shutdown(pair.client, SHUT_WR) == 0);
  REQUIRE(awaited(pair.server, POLLRDHUP) == POLLRDHUP);
  CHECK(asked(pair.server, FIONREAD) == 4);
  CHECK(receive(pair.server, 4) == "last");
  CHECK(asked(pair.server, FIONREAD) == 0);
  CHECK_FAILS(ioctl(pair.server, FIONREAD, bad_pointer()), EFAULT);
  int value;
  const auto listener = listening();
  CHECK_FAILS(ioctl(listener.fd, FIONREAD, &value), EINVAL);
}

TEST_CASE("ioctl: FIONREAD after a reset", "[ioctl]") {
  auto pair = connected();
  send_all(pair.client, "left");
  arrived(pair.server, 4);
  const linger hard{1, 0};
  REQUIRE(setsockopt(pair.client, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
  pair.client.close();
  REQUIRE((awaited(pair.server, 0) & POLLERR) != 0);
  CHECK(asked(pair.server, FIONREAD) == 4);
}

TEST_CASE("ioctl: SIOCOUTQ and SIOCOUTQNSD come down to 0 once all was taken", "[ioctl]") {
  const auto pair = connected();
  const auto bytes = pattern(50'000);
  std::string got;
  std::thread reads([&] { got = receive(pair.server, bytes.size()); });
  send_all(pair.client, bytes);
  reads.join();
  CHECK(got == bytes);
  CHECK(eventually([&] { return asked(pair.client, SIOCOUTQ) == 0; }));
  CHECK(eventually([&] { return asked(pair.client, SIOCOUTQNSD) == 0; }));
  CHECK_FAILS(ioctl(pair.client, SIOCOUTQ, bad_pointer()), EFAULT);
}

TEST_CASE("ioctl: SIOCOUTQ counts what a full socket still holds", "[ioctl]") {
  const auto pair = connected();
  set_nonblocking(pair.client);
  const auto size = fill(pair.client);
  const auto unread = static_cast<size_t>(asked(pair.server, FIONREAD));
  // What is not at the other end is still here.
  CHECK(static_cast<size_t>(asked(pair.client, SIOCOUTQ)) + unread >= size);
  CHECK(receive(pair.server, size).size() == size);
  CHECK(eventually([&] { return asked(pair.client, SIOCOUTQ) == 0; }));
}

TEST_CASE("ioctl: SIOCATMARK without urgent data", "[ioctl][sockatmark]") {
  const auto pair = connected();
  CHECK(asked(pair.client, SIOCATMARK) == 0);
  CHECK(sockatmark(pair.client) == 0);
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  CHECK(sockatmark(pair.server) == 0);
}

TEST_CASE("ioctl: requests that there are not, or not for sockets", "[ioctl]") {
  const auto pair = connected();
  int value = 0;
  CHECK_FAILS(ioctl(pair.client, 0x12345678, &value), ENOTTY);
  CHECK_FAILS(ioctl(pair.client, TCGETS, bad_pointer()), ENOTTY);
  CHECK_FAILS(ioctl(-1, FIONREAD, &value), EBADF);
  talk(pair);
}

TEST_CASE("fstat, isatty, lseek, ftruncate, fsync: a socket, whatever its lane", "[fstat][isatty][lseek]") {
  const auto pair = connected();
  for (const int fd : {+pair.client, +pair.server}) {
    struct stat facts {};
    CHECK(fstat(fd, &facts) == 0);
    CHECK(S_ISSOCK(facts.st_mode));
    CHECK_FAILS(fstat(fd, static_cast<struct stat*>(bad_pointer())), EFAULT);
    errno = 0;
    CHECK(isatty(fd) == 0);
    CHECK(errno == ENOTTY);
    CHECK_FAILS(lseek(fd, 0, SEEK_SET), ESPIPE);
    CHECK_FAILS(lseek(fd, 0, SEEK_CUR), ESPIPE);
    CHECK_FAILS(ftruncate(fd, 0), EINVAL);
    CHECK_FAILS(fsync(fd), EINVAL);
    CHECK_FAILS(fchdir(fd), ENOTDIR);
  }
  struct stat one {
  }, other{};
  const Fd copy(dup(pair.client));
  CHECK(fstat(pair.client, &one) == 0);
  CHECK(fstat(copy, &other) == 0);
  CHECK(one.st_ino == other.st_ino);
  CHECK(fstat(pair.server, &other) == 0);
  CHECK(one.st_ino != other.st_ino);
}

TEST_CASE("isfdtype: a socket", "[isfdtype]") {
  const auto pair = connected();
  CHECK(isfdtype(pair.client, S_IFSOCK) == 1);
  CHECK(isfdtype(pair.client, S_IFREG) == 0);
}
