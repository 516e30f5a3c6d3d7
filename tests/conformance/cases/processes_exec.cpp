// exec: the new program runs as it should, and who stays behind keeps the connection.

#include <sys/syscall.h>

#include "../child.hpp"

using namespace conformance;

namespace {

char* const kWords[] = {const_cast<char*>("sh"), const_cast<char*>("-c"), const_cast<char*>("exit $STATUS"), nullptr};
char* const kEnvironment[] = {const_cast<char*>("STATUS=7"), const_cast<char*>("PATH=/usr/bin:/bin"), nullptr};

// A child becomes the program by `exec`, which is to come back only if that fails.
template <class Exec>
void becomes(Exec exec) {
  const auto pair = connected();
  exchange(pair.client, pair.server);
  setenv("STATUS", "7", 1);
  const pid_t child = child_that([&] { return exec(), 1; });
  CHECK(status_of(child) == 7);
  exchange(pair.client, pair.server);
}

// It fails in a child that goes on, and the parent's connection as well.
template <class Exec>
void fails(Exec exec) {
  const auto pair = connected();
  exchange(pair.client, pair.server);
  const pid_t child = child_that([&] { return exec() == -1 && errno == ENOENT ? 7 : 1; });
  CHECK(status_of(child) == 7);
  exchange(pair.client, pair.server);
}

}  // namespace

TEST_CASE("execve: in a child, the parent's connection goes on", "[execve]") {
  becomes([] { return execve("/bin/sh", kWords, kEnvironment); });
}
TEST_CASE("execv: in a child, the parent's connection goes on", "[execv]") {
  becomes([] { return execv("/bin/sh", kWords); });
}
TEST_CASE("execvp: in a child, the parent's connection goes on", "[execvp]") {
  becomes([] { return execvp("sh", kWords); });
}
TEST_CASE("execvpe: in a child, the parent's connection goes on", "[execvpe]") {
  becomes([] { return execvpe("sh", kWords, kEnvironment); });
}
TEST_CASE("fexecve: in a child, the parent's connection goes on", "[fexecve]") {
  becomes([] { return fexecve(open("/bin/sh", O_RDONLY | O_CLOEXEC), kWords, kEnvironment); });
}
TEST_CASE("execveat: in a child, the parent's connection goes on", "[execveat]") {
  becomes([] { return execveat(open("/bin", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "sh", kWords, kEnvironment, 0); });
}
TEST_CASE("execl: in a child, the parent's connection goes on", "[execl]") {
  becomes([] { return execl("/bin/sh", "sh", "-c", "exit $STATUS", nullptr); });
}
TEST_CASE("execlp: in a child, the parent's connection goes on", "[execlp]") {
  becomes([] { return execlp("sh", "sh", "-c", "exit $STATUS", nullptr); });
}
TEST_CASE("execle: in a child, the parent's connection goes on", "[execle]") {
  becomes([] { return execle("/bin/sh", "sh", "-c", "exit $STATUS", nullptr, kEnvironment); });
}

TEST_CASE("execve: of what is not there, in a child", "[execve]") {
  fails([] { return execve("/no/such/program", kWords, kEnvironment); });
}
TEST_CASE("execvp: of what is not there, in a child", "[execvp]") {
  fails([] { return execvp("no-such-program", kWords); });
}

TEST_CASE("execve: of what is not there, and the process goes on with its connection", "[execve][tcp]") {
  const auto pair = connected();
  exchange(pair.client, pair.server);
  send_all(pair.client, "before");
  CHECK_FAILS(execve("/no/such/program", kWords, kEnvironment), ENOENT);
  CHECK(receive(pair.server, 6) == "before");
  exchange(pair.client, pair.server);
  exchange(pair.server, pair.client);
}

TEST_CASE("execve: what was written before arrives, then the end that close-on-exec makes", "[execve][tcp]") {
  const auto bytes = pattern(10000);
  auto peer = peer_that([&](int fd) {
    put(fd, bytes);
    execve("/bin/sh", kWords, kEnvironment);
    return 1;
  });
  CHECK(receive(peer.fd, bytes.size()) == bytes);
  CHECK(receive(peer.fd, 1).empty());
  CHECK(status_of(peer.child) == 7);
}

TEST_CASE("execve: the new program goes on with a descriptor that stays open", "[execve][tcp]") {
  auto peer = peer_that([](int fd) {
    put(fd, "one ");
    dup2(fd, 0), dup2(fd, 1);
    execl("/bin/sh", "sh", "-c", "read word; echo two $word", nullptr);
    return 1;
  });
  send_all(peer.fd, "three\n");
  CHECK(receive(peer.fd, 14) == "one two three\n");
  CHECK(receive(peer.fd, 1).empty());
  CHECK(status_of(peer.child) == 0);
}

TEST_CASE("execve: bytes that came and nobody read are the new program's", "[execve][tcp]") {
  const Signal sent;
  auto peer = peer_that([&](int fd) {
    if (!sent.wait()) return 1;
    while (polled(fd, POLLIN) == 0) {
    }
    dup2(fd, 0), dup2(fd, 1);
    execl("/bin/sh", "sh", "-c", "read word; echo $word", nullptr);
    return 1;
  });
  send_all(peer.fd, "early\n");
  sent.give();
  CHECK(receive(peer.fd, 6) == "early\n");
  CHECK(status_of(peer.child) == 0);
}
