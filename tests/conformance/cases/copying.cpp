// dup, dup2, dup3 and F_DUPFD: several descriptors of one connection.

#include <sys/resource.h>

#include "../pair.hpp"

using namespace conformance;

namespace {

bool closes_on_exec(int fd) { return fcntl(fd, F_GETFD) & FD_CLOEXEC; }

void talk(int one, int other) {
  send_all(one, "to");
  CHECK(receive(other, 2) == "to");
  send_all(other, "fro");
  CHECK(receive(one, 3) == "fro");
}

bool nothing_there(int fd) {
  char byte;
  return recv(fd, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN;
}

void ended(int fd) {
  char byte;
  CHECK(recv(fd, &byte, 1, 0) == 0);
}

}  // namespace

TEST_CASE("dup: both descriptors name the connection", "[dup]") {
  const auto pair = connected();
  const Fd copy(dup(pair.client));
  REQUIRE(copy >= 0);
  CHECK_FALSE(closes_on_exec(copy));
  talk(copy, pair.server);
  talk(pair.client, pair.server);
  send_all(pair.server, "ab");
  arrived(pair.client, 2);
  CHECK(receive(copy, 1) == "a");
  CHECK(receive(pair.client, 1) == "b");
}

TEST_CASE("dup: the last close ends the connection, and not one before", "[dup][close]") {
  for (const bool original_first : {true, false}) {
    auto pair = connected();
    Fd copy(dup(pair.client)), another(fcntl(pair.client, F_DUPFD_CLOEXEC, 0));
    (original_first ? pair.client : copy).close();
    CHECK(nothing_there(pair.server));
    talk(another, pair.server);
    (original_first ? copy : pair.client).close();
    CHECK(nothing_there(pair.server));
    talk(another, pair.server);
    another.close();
    ended(pair.server);
  }
}

TEST_CASE("dup: unread bytes count at the last close only", "[dup][close]") {
  auto pair = connected();
  Fd copy(dup(pair.server));
  send_all(pair.client, "unread");
  arrived(pair.server, 6);
  pair.server.close();
  CHECK(polled(pair.client, POLLIN) == 0);
  CHECK(receive(copy, 6) == "unread");
  copy.close();
  ended(pair.client);
}

TEST_CASE("dup: O_NONBLOCK is of the connection, FD_CLOEXEC of the descriptor", "[dup][fcntl]") {
  const auto pair = connected();
  const Fd copy(dup(pair.client));
  set_nonblocking(copy);
  char byte;
  CHECK_FAILS(recv(pair.client, &byte, 1, 0), EAGAIN);
  CHECK((fcntl(pair.client, F_GETFL) & O_NONBLOCK) != 0);
  set_nonblocking(pair.client, false);
  CHECK((fcntl(copy, F_GETFL) & O_NONBLOCK) == 0);
  CHECK(closes_on_exec(pair.client));
  CHECK_FALSE(closes_on_exec(copy));
}

TEST_CASE("dup2: to a free number, and of that", "[dup2]") {
  const auto pair = connected();
  const Fd copy(dup2(pair.client, 77));
  REQUIRE(copy == 77);
  talk(copy, pair.server);
  CHECK(dup2(copy, 77) == 77);
  talk(copy, pair.server);
}

TEST_CASE("dup2: onto itself is nothing, dup3 EINVAL", "[dup2][dup3]") {
  const auto pair = connected();
  CHECK(dup2(pair.client, pair.client) == pair.client);
  CHECK(closes_on_exec(pair.client));
  CHECK_FAILS(dup3(pair.client, pair.client, 0), EINVAL);
  CHECK_FAILS(dup3(pair.client, pair.client, O_CLOEXEC), EINVAL);
  talk(pair.client, pair.server);
}

TEST_CASE("dup2, dup3: a file onto a flow ends its connection", "[dup2][dup3]") {
  for (const bool two : {true, false}) {
    const auto pair = connected();
    const Fd file(open("/dev/zero", O_RDWR));
    send_all(pair.client, "last");
    CHECK((two ? dup2(file, pair.client) : dup3(file, pair.client, 0)) == pair.client);
    CHECK(receive(pair.server, 100) == "last");
    ended(pair.server);
    char byte = 1;
    CHECK(read(pair.client, &byte, 1) == 1);
    CHECK(byte == 0);
    CHECK_FAILS(recv(pair.client, &byte, 1, 0), ENOTSOCK);
  }
}

TEST_CASE("dup2, dup3: a flow onto another flow", "[dup2][dup3]") {
  for (const bool two : {true, false}) {
    const auto one = connected(), other = connected();
    CHECK((two ? dup2(one.client, other.client) : dup3(one.client, other.client, O_CLOEXEC)) == other.client);
    ended(other.server);
    CHECK(closes_on_exec(other.client) == !two);
    talk(other.client, one.server);
    talk(one.client, one.server);
    CHECK(nothing_there(one.server));
  }
}

TEST_CASE("dup2: onto a copy of the same flow", "[dup2]") {
  const auto pair = connected();
  const Fd copy(dup(pair.client));
  CHECK(dup2(pair.client, copy) == copy);
  talk(copy, pair.server);
  CHECK(nothing_there(pair.server));
}

TEST_CASE("dup2: onto one of two copies leaves the other", "[dup2]") {
  const auto pair = connected();
  const Fd copy(dup(pair.client));
  CHECK(dup2(0, pair.client) == pair.client);
  CHECK(nothing_there(pair.server));
  talk(copy, pair.server);
}

TEST_CASE("dup2: both ends onto standard input and output", "[dup2][tcp]") {
  auto pair = connected();
  const Fd in(dup(0)), out(dup(1));
  CHECK(dup2(pair.client, 0) == 0);
  pair.client.close();
  send_all(pair.server, "typed");
  const auto typed = receive(0, 5);
  send_all(0, "back");
  const auto back = receive(pair.server, 4);
  CHECK(dup2(in, 0) == 0);
  CHECK(typed == "typed");
  CHECK(back == "back");
  ended(pair.server);
}

TEST_CASE("dup2, dup3: errors, and then nothing is closed", "[dup2][dup3]") {
  const auto pair = connected();
  CHECK_FAILS(dup2(-1, pair.client), EBADF);
  CHECK_FAILS(dup2(999, pair.client), EBADF);
  CHECK_FAILS(dup2(pair.client, -1), EBADF);
  CHECK_FAILS(dup3(999, pair.client, 0), EBADF);
  CHECK_FAILS(dup3(pair.server, pair.client, O_NONBLOCK), EINVAL);
  CHECK_FAILS(dup3(0, pair.client, 0x55), EINVAL);
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const auto end = static_cast<int>(limit.rlim_cur);
  CHECK_FAILS(dup2(pair.client, end), EBADF);
  CHECK_FAILS(dup3(pair.client, end, 0), EBADF);
  CHECK_FAILS(dup2(999, 999), EBADF);
  talk(pair.client, pair.server);
}

// With the library, a number that it uses itself is one beyond the limit: EBADF; EBUSY at the moment when it opens it.
TEST_CASE("dup2: onto every number, those that the program does not have as well", "[dup2]") {
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const auto pair = connected();
  const auto end = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 4096));
  for (int fd = std::max(+pair.client, +pair.server) + 1; fd < end; ++fd)
    REQUIRE((dup2(0, fd) == fd || (getenv("LD_PRELOAD") && (errno == EBADF || errno == EBUSY))));
  talk(pair.client, pair.server);
}

TEST_CASE("fcntl: F_DUPFD and F_DUPFD_CLOEXEC, from a number on", "[fcntl][dup]") {
  const auto pair = connected();
  const Fd plain(fcntl(pair.client, F_DUPFD, 100)), closing(fcntl(pair.client, F_DUPFD_CLOEXEC, 100));
  CHECK(plain == 100);
  CHECK(closing == 101);
  CHECK_FALSE(closes_on_exec(plain));
  CHECK(closes_on_exec(closing));
  talk(plain, pair.server);
  talk(closing, pair.server);
  CHECK_FAILS(fcntl(pair.client, F_DUPFD, -1), EINVAL);
  CHECK_FAILS(fcntl(pair.client, F_DUPFD, 1 << 30), EINVAL);
}

TEST_CASE("dup: of every kind of end", "[dup][shutdown]") {
  auto pair = connected();
  CHECK(shutdown(pair.client, SHUT_WR) == 0);
  const Fd copy(dup(pair.client));
  CHECK_FAILS(send(copy, "x", 1, MSG_NOSIGNAL), EPIPE);
  send_all(pair.server, "half");
  CHECK(receive(copy, 4) == "half");
  pair.server.close();
  ended(copy);
  const Fd again(dup(copy));
  ended(again);
}

TEST_CASE("dup: EMFILE where there is no number left", "[dup][fcntl][socket]") {
  rlimit limit{}, low{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const auto pair = connected();
  low = limit;
  low.rlim_cur = 40;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
  std::vector<Fd> copies;
  int fd;
  while ((fd = dup(pair.client)) >= 0) copies.emplace_back(fd);
  CHECK(errno == EMFILE);
  CHECK_FAILS(fcntl(pair.client, F_DUPFD, 0), EMFILE);
  CHECK_FAILS(socket(AF_INET, SOCK_STREAM, 0), EMFILE);
  talk(copies.back(), pair.server);
  copies.clear();
  REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  talk(pair.client, pair.server);
}

TEST_CASE("dup: copies in poll are both ready", "[dup][poll]") {
  const auto pair = connected();
  const Fd copy(dup(pair.client));
  send_all(pair.server, "x");
  arrived(pair.client, 1);
  pollfd both[] = {{pair.client, POLLIN, 0}, {copy, POLLIN, 0}};
  CHECK(poll(both, 2, 1000) == 2);
  CHECK(receive(copy, 1) == "x");
  CHECK(poll(both, 2, 0) == 0);
}

TEST_CASE("dup: 500 copies, closed one by one", "[dup][close]") {
  const auto pair = connected();
  std::vector<Fd> copies;
  for (int i = 0; i < 500; ++i) copies.emplace_back(dup(pair.client));
  for (auto& copy : copies) {
    REQUIRE(copy >= 0);
    copy.close();
  }
  talk(pair.client, pair.server);
}
