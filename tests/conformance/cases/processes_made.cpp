// fork and its kin: a connection does not notice that its process has made another.

#include <pty.h>
#include <sched.h>
#include <spawn.h>

#include <thread>
#include <vector>

#include "../child.hpp"

using namespace conformance;

extern char** environ;

namespace {

// While a child lives that holds the connection, and after it has gone.
void undisturbed(pid_t (*make)()) {
  const auto pair = connected();
  exchange(pair.client, pair.server);
  const Signal go;
  const pid_t child = make();
  if (child == 0) _exit(go.wait() ? 7 : 1);
  REQUIRE(child > 0);
  exchange(pair.client, pair.server);
  exchange(pair.server, pair.client);
  go.give();
  CHECK(status_of(child) == 7);
  exchange(pair.client, pair.server);
}

// While a program runs that `start` started, and after it.
template <class Start>
void undisturbed_by(Start start) {
  const auto pair = connected();
  exchange(pair.client, pair.server);
  CHECK(start() == 7);
  exchange(pair.server, pair.client);
}

int wait_status(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : kLost; }

}  // namespace

TEST_CASE("fork: the parent's connection goes on while a child holds it, and after", "[fork]") { undisturbed(fork); }
TEST_CASE("_Fork: the parent's connection goes on while a child holds it, and after", "[fork]") { undisturbed(_Fork); }

TEST_CASE("clone: the parent's connection goes on while a child holds it, and after", "[clone]") {
  const auto pair = connected();
  exchange(pair.client, pair.server);
  const Signal go;
  std::vector<char> stack(64 << 10);
  const pid_t child = clone([](void* signal) { return static_cast<const Signal*>(signal)->wait() ? 7 : 1; },
                            stack.data() + stack.size(), SIGCHLD, const_cast<Signal*>(&go));
  REQUIRE(child > 0);
  exchange(pair.client, pair.server);
  go.give();
  CHECK(status_of(child) == 7);
  exchange(pair.client, pair.server);
}

TEST_CASE("vfork: a child that closes its descriptors and ends leaves the parent's connection alone", "[vfork]") {
  const auto pair = connected();
  exchange(pair.client, pair.server);
  const int client = pair.client, server = pair.server;
  const pid_t child = vfork();
  if (child == 0) {
    close(client);
    close(server);
    _exit(7);
  }
  REQUIRE(child > 0);
  CHECK(status_of(child) == 7);
  exchange(pair.client, pair.server);
}

TEST_CASE("vfork: a child that becomes another program leaves the parent's connection alone", "[vfork][execve]") {
  const auto pair = connected();
  exchange(pair.client, pair.server);
  char* const words[] = {const_cast<char*>("sh"), const_cast<char*>("-c"), const_cast<char*>("exit 7"), nullptr};
  const pid_t child = vfork();
  if (child == 0) {
    execve("/bin/sh", words, environ);
    _exit(1);
  }
  REQUIRE(child > 0);
  CHECK(status_of(child) == 7);
  exchange(pair.client, pair.server);
}

TEST_CASE("forkpty: the parent's connection goes on while a child holds it, and after", "[forkpty]") {
  const auto pair = connected();
  exchange(pair.client, pair.server);
  const Signal go;
  int master = -1;
  const pid_t child = forkpty(&master, nullptr, nullptr, nullptr);
  if (child < 0) {
    WARN("SKIP: no pseudo-terminals here");
    return;
  }
  if (child == 0) _exit(go.wait() ? 7 : 1);
  const Fd terminal(master);
  exchange(pair.client, pair.server);
  go.give();
  CHECK(status_of(child) == 7);
  exchange(pair.client, pair.server);
}

TEST_CASE("daemon: the connection of the process that made it goes on", "[daemon][tcp]") {
  const auto pair = connected();
  exchange(pair.client, pair.server);
  const Signal go, done;
  const pid_t child = child_that([&] {
    if (daemon(1, 1) != 0) return 1;  // in the daemon from here on
    if (go.wait()) done.give();
    return 0;
  });
  CHECK(status_of(child) == 0);
  exchange(pair.client, pair.server);
  go.give();
  CHECK(done.wait());
  exchange(pair.client, pair.server);
}

TEST_CASE("daemon: a process that became one makes connections as any other", "[daemon]") {
  const auto listener = listening();
  const Signal done;
  const pid_t child = child_that([&] {
    if (daemon(1, 1) != 0) return 1;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, listener.name(), listener.size) != 0) return 1;
    for (auto heard = take(fd, 1); heard != "!"; heard = take(fd, 1))
      if (heard.empty() || !put(fd, heard)) return 1;
    done.give();
    return 0;
  });
  const Fd server(accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(server >= 0);
  tcp_info info{};
  socklen_t size = sizeof info;
  uint64_t before = 0;
  CHECK(eventually([&] {
    send_all(server, ".");
    if (receive(server, 1) != ".") return false;
    REQUIRE(getsockopt(server, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
    return std::exchange(before, info.tcpi_bytes_received) == info.tcpi_bytes_received || !in_lane_world();
  }));
  send_all(server, "!");
  CHECK(done.wait());
  CHECK(status_of(child) == 0);
}

TEST_CASE("fork: twice over, and the grandchild outlives the child", "[fork][tcp]") {
  const auto pair = connected();
  const Signal go, done;
  const pid_t child = child_that([&] {
    if (fork() > 0) return 0;
    if (go.wait()) done.give();
    return 0;
  });
  CHECK(status_of(child) == 0);
  exchange(pair.client, pair.server);
  go.give();
  CHECK(done.wait());
  exchange(pair.client, pair.server);
}

TEST_CASE("fork: by a thread other than main, while others are in their calls", "[fork]") {
  const auto pair = connected();
  // Answers until the end of the stream; in recv most of the time.
  std::thread echo([fd = +pair.server] {
    for (auto heard = take(fd, 1); !heard.empty(); heard = take(fd, 1)) put(fd, heard);
  });
  std::vector<int> statuses;
  std::thread forker([&] {
    for (int i = 0; i < 10; ++i)
      if (const pid_t child = fork(); child == 0)
        _exit(7);
      else
        statuses.push_back(child > 0 ? status_of(child) : kLost);
  });
  bool right = true;
  for (int i = 0; i < 500; ++i) right = right && put(pair.client, "a") && take(pair.client, 1) == "a";
  forker.join();
  for (int i = 0; i < 10; ++i) right = right && put(pair.client, "b") && take(pair.client, 1) == "b";
  CHECK(right);
  CHECK(statuses == std::vector<int>(10, 7));
  shutdown(pair.client, SHUT_WR);
  echo.join();
}

TEST_CASE("fork: a child that closes the connection does not end it", "[fork][close]") {
  const auto pair = connected();
  const pid_t child = child_that([&] { return close(pair.client) || close(pair.server); });
  CHECK(status_of(child) == 0);
  exchange(pair.client, pair.server);
}

TEST_CASE("fork: a connection of a child's own does not touch the parent's", "[fork]") {
  const auto pair = connected();
  auto peer = peer_that([](int fd) { return take(fd, 5) == "hello" && put(fd, "there") ? 7 : 1; });
  exchange(pair.client, pair.server);
  send_all(peer.fd, "hello");
  CHECK(receive(peer.fd, 5) == "there");
  CHECK(receive(peer.fd, 1).empty());
  CHECK(status_of(peer.child) == 7);
  exchange(pair.server, pair.client);
}

TEST_CASE("fork: child and grandchild make connections of their own", "[fork]") {
  const auto pair = connected();
  const auto child = child_that([] {
    const auto own = connected();
    const auto grandchild = child_that([] {
      const auto its_own = connected();
      exchange(its_own.client, its_own.server);
      return 7;
    });
    const int status = status_of(grandchild);
    exchange(own.client, own.server);
    return status;
  });
  CHECK(status_of(child) == 7);
  exchange(pair.client, pair.server);
}

TEST_CASE("posix_spawn: the connection goes on", "[posix_spawn]") {
  char* const words[] = {const_cast<char*>("sh"), const_cast<char*>("-c"), const_cast<char*>("exit 7"), nullptr};
  undisturbed_by([&] {
    pid_t child = -1;
    return posix_spawn(&child, "/bin/sh", nullptr, nullptr, words, environ) == 0 ? status_of(child) : kLost;
  });
}

TEST_CASE("posix_spawnp: the connection goes on", "[posix_spawnp]") {
  char* const words[] = {const_cast<char*>("sh"), const_cast<char*>("-c"), const_cast<char*>("exit 7"), nullptr};
  undisturbed_by([&] {
    pid_t child = -1;
    return posix_spawnp(&child, "sh", nullptr, nullptr, words, environ) == 0 ? status_of(child) : kLost;
  });
}

TEST_CASE("system: the connection goes on", "[system]") {
  undisturbed_by([] { return wait_status(system("exit 7")); });
}

TEST_CASE("popen: the connection goes on", "[popen]") {
  undisturbed_by([] {
    FILE* stream = popen("echo hello; exit 7", "r");
    char line[10] = {};
    const bool heard = stream && fgets(line, sizeof line, stream) && line == "hello\n"s;
    return stream ? wait_status(pclose(stream)) + (heard ? 0 : kLost) : kLost;
  });
}
