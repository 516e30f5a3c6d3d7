// A connection that more than one process holds: each may use it, close it, or only hold it.

#include <algorithm>
#include <vector>

#include "../child.hpp"

using namespace conformance;

extern char** environ;

namespace {

bool open_still(int fd) {
  pollfd one{fd, POLLIN, 0};
  return poll(&one, 1, 50) == 0;
}

// Says back what it hears, up to the end or a '!'.
int echo(int fd) {
  for (auto heard = take(fd, 1); !heard.empty() && heard != "!"; heard = take(fd, 1))
    if (!put(fd, heard)) return 1;
  return 7;
}

}  // namespace

TEST_CASE("fork: a child uses the connection, and then its parent again", "[fork][read][write][tcp]") {
  const auto pair = connected();
  exchange(pair.client, pair.server);
  const pid_t child = child_that([&] { return answer(pair.server, 5) ? 7 : 1; });
  send_all(pair.client, "hello");
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(child) == 7);
  exchange(pair.client, pair.server);
  exchange(pair.server, pair.client);
}

TEST_CASE("fork: a child sends first", "[fork][send][tcp]") {
  const auto pair = connected();
  exchange(pair.client, pair.server);
  const pid_t child = child_that([&] { return send(pair.server, "hello", 5, 0) == 5 ? 7 : 1; });
  CHECK(status_of(child) == 7);
  CHECK(receive(pair.client, 5) == "hello");
  exchange(pair.client, pair.server);
}

TEST_CASE("fork: a child finds what came before and nobody read", "[fork][recv][tcp]") {
  const auto pair = connected();
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  const pid_t child = child_that([&] {
    char bytes[10];
    return recv(pair.server, bytes, sizeof bytes, 0) == 5 && memcmp(bytes, "hello", 5) == 0 ? 7 : 1;
  });
  CHECK(status_of(child) == 7);
}

TEST_CASE("fork: child and parent take turns, and no byte is lost or said twice", "[fork][tcp]") {
  const auto pair = connected();
  const auto first = pattern(30000, 1), second = pattern(30000, 2);
  std::string heard;
  const Signal parent_wrote;
  std::thread reader([&] { heard = take(pair.client, 60000); });
  send_all(pair.server, first);
  const pid_t child = child_that([&] { return put(pair.server, second) ? 7 : 1; });
  CHECK(status_of(child) == 7);
  reader.join();
  CHECK(heard == first + second);
}

TEST_CASE("fork: each end is used by a child", "[fork][tcp]") {
  const auto pair = connected();
  const pid_t one = child_that([&] { return answer(pair.server, 5) ? 7 : 1; });
  const pid_t other = child_that([&] { return put(pair.client, "hello") && take(pair.client, 5) == "hello" ? 7 : 1; });
  CHECK(status_of(one) == 7);
  CHECK(status_of(other) == 7);
  exchange(pair.client, pair.server);
}

TEST_CASE("fork: a child waits with poll for the connection", "[fork][poll][tcp]") {
  const auto pair = connected();
  const Signal waits;
  const pid_t child = child_that([&] {
    pollfd one{pair.server, POLLIN, 0};
    if (poll(&one, 1, 0) != 0) return 1;
    waits.give();
    return poll(&one, 1, 10000) == 1 && answer(pair.server, 5) ? 7 : 2;
  });
  REQUIRE(waits.wait());
  send_all(pair.client, "hello");
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(child) == 7);
}

TEST_CASE("fork: a child waits with epoll for the connection", "[fork][epoll_wait][epoll_ctl][tcp]") {
  const auto pair = connected();
  const Signal waits;
  const pid_t child = child_that([&] {
    const int set = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{EPOLLIN, {.u64 = 77}};
    if (epoll_ctl(set, EPOLL_CTL_ADD, pair.server, &event) != 0) return 1;
    waits.give();
    return epoll_wait(set, &event, 1, 10000) == 1 && event.data.u64 == 77 && answer(pair.server, 5) ? 7 : 2;
  });
  REQUIRE(waits.wait());
  send_all(pair.client, "hello");
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(child) == 7);
}

TEST_CASE("fork: a child that shuts the connection down ends it for its parent", "[fork][shutdown][tcp]") {
  const auto pair = connected();
  exchange(pair.client, pair.server);
  const pid_t child = child_that([&] { return shutdown(pair.server, SHUT_WR) == 0 ? 7 : 1; });
  CHECK(status_of(child) == 7);
  CHECK(ended(pair.client));
  CHECK_FAILS(send(pair.server, "x", 1, MSG_NOSIGNAL), EPIPE);
  send_all(pair.client, "hello");
  CHECK(receive(pair.server, 5) == "hello");
}

TEST_CASE("close: in the parent, and the child goes on", "[close][fork][tcp]") {
  auto pair = connected();
  exchange(pair.client, pair.server);
  const pid_t child = child_that([&] { return answer(pair.server, 5) ? 7 : 1; });
  pair.server.close();
  CHECK(open_still(pair.client));
  answers_and_ends(pair.client);
  CHECK(status_of(child) == 7);
}

TEST_CASE("close: the stream ends when the last who holds it closes, used or not", "[close][fork][tcp]") {
  auto pair = connected();
  exchange(pair.client, pair.server);
  const Signal go;
  const pid_t child = child_that([&] { return go.wait() && close(pair.server) == 0 ? 7 : 1; });
  pair.server.close();
  CHECK(open_still(pair.client));
  go.give();
  CHECK(ended(pair.client));
  CHECK(status_of(child) == 7);
}

TEST_CASE("close: after a child that held the connection was killed", "[close][fork][tcp]") {
  auto pair = connected();
  exchange(pair.client, pair.server);
  const pid_t child = child_that([] { return pause(); });
  kill(child, SIGKILL);
  CHECK(status_of(child) == kLost + SIGKILL);
  exchange(pair.client, pair.server);
  pair.server.close();
  CHECK(ended(pair.client));
}

TEST_CASE("close: what was written before arrives, though a child holds the connection", "[close][fork][tcp]") {
  auto pair = connected();
  const auto bytes = pattern(20000);
  const Signal go;
  const pid_t child = child_that([&] { return go.wait() ? 7 : 1; });
  std::string heard;
  std::thread reader([&] { heard = take(pair.client, bytes.size()); });
  send_all(pair.server, bytes);
  pair.server.close();
  reader.join();
  CHECK(heard == bytes);
  go.give();
  CHECK(ended(pair.client));
  CHECK(status_of(child) == 7);
}

TEST_CASE("exit: of a process whose child goes on with the connection", "[exit][fork][tcp]") {
  auto peer = peer_that([](int fd) {
    if (fork() > 0) return 7;
    return answer(fd, 5) ? 7 : 1;
  });
  CHECK(status_of(peer.child) == 7);
  CHECK(open_still(peer.fd));
  answers_and_ends(peer.fd);
}

TEST_CASE("daemon: a connection goes on in the daemon", "[daemon][tcp]") {
  auto peer = peer_that([](int fd) {
    if (daemon(1, 1) != 0) return 1;
    return answer(fd, 5) ? 7 : 1;
  });
  CHECK(status_of(peer.child) == 0);
  answers_and_ends(peer.fd);
}

TEST_CASE("fork: a grandchild uses the connection after the child has gone", "[fork][tcp]") {
  const auto pair = connected();
  const Signal go;
  const pid_t child = child_that([&] {
    if (fork() > 0) return 7;
    return go.wait() && answer(pair.server, 5) ? 7 : 1;
  });
  CHECK(status_of(child) == 7);
  exchange(pair.client, pair.server);
  go.give();
  send_all(pair.client, "hello");
  CHECK(receive(pair.client, 5) == "hello");
}

TEST_CASE("fork: while other threads use the connection, children use it too", "[fork][tcp]") {
  const auto pair = connected();
  std::string heard;
  std::thread reader([&] { heard = take(pair.client, 1000 + 5); });
  bool written = true;
  std::thread writer([&] {
    for (int i = 0; i < 1000; ++i) written = written && put(pair.server, "p");
  });
  const pid_t child = child_that([&] { return put(pair.server, "ccccc") ? 7 : 1; });
  writer.join();
  CHECK(status_of(child) == 7);
  reader.join();
  CHECK(written);
  CHECK(std::count(heard.begin(), heard.end(), 'p') == 1000);
  CHECK(std::count(heard.begin(), heard.end(), 'c') == 5);
}

TEST_CASE("dup: a child uses a copy that its parent made", "[dup][fork][tcp]") {
  const auto pair = connected();
  const Fd copy(dup(pair.server));
  const pid_t child = child_that([&] { return close(pair.server) == 0 && answer(copy, 5) ? 7 : 1; });
  send_all(pair.client, "hello");
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(child) == 7);
  exchange(pair.client, copy);
}

// ---- the process that uses a connection carries it

TEST_CASE("accept: a forked child carries the connection that it was made for", "[accept][fork]") {
  const auto listener = listening();
  const Fd client = stream_socket();
  REQUIRE(connect(client, listener.name(), listener.size) == 0);
  Fd server(accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(server >= 0);
  const pid_t child = child_that([&] { return close(client), echo(server); });
  server.close();
  CHECK(enters_lane(client));
  send_all(client, "!");
  CHECK(status_of(child) == 7);
  CHECK(ended(client));
}

TEST_CASE("accept: children that accept carry their connections", "[accept][fork]") {
  const auto listener = listening();
  std::vector<pid_t> children;
  for (int i = 0; i < 3; ++i)
    children.push_back(child_that([&] { return echo(accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC)); }));
  std::vector<Fd> clients;
  for (size_t i = 0; i < children.size(); ++i) {
    clients.push_back(stream_socket());
    REQUIRE(connect(clients.back(), listener.name(), listener.size) == 0);
  }
  for (const auto& client : clients) CHECK(enters_lane(client));
  for (const auto& client : clients) send_all(client, "!");
  for (const pid_t child : children) CHECK(status_of(child) == 7);
}

TEST_CASE("accept: a connection that child and parent both hold works for both", "[accept][fork][no-lane]") {
  const auto pair = connected({.enter = false});
  const pid_t child = child_that([&] { return answer(pair.server, 5) ? 7 : 1; });
  send_all(pair.client, "hello");
  CHECK(receive(pair.client, 5) == "hello");
  CHECK(status_of(child) == 7);
  exchange(pair.client, pair.server);
  exchange(pair.server, pair.client);
}

TEST_CASE("accept: the parent uses the connection that a child only holds", "[accept][fork]") {
  const auto pair = connected({.enter = false});
  const Signal go;
  const pid_t child = child_that([&] { return go.wait() ? 7 : 1; });
  enter_lane(pair.client, pair.server);
  exchange(pair.client, pair.server);
  go.give();
  CHECK(status_of(child) == 7);
}

// ---- the next program

TEST_CASE("execl: the connection on its standard streams is the program's", "[execl][dup2][fork][tcp]") {
  auto pair = connected();
  send_all(pair.client, "early ");
  arrived(pair.server, 6);
  const pid_t child = child_that([&] {
    dup2(pair.server, 0), dup2(pair.server, 1), dup2(pair.server, 2);
    execl("/bin/sh", "sh", "-c", "read line; echo $line", nullptr);
    return 1;
  });
  pair.server.close();
  send_all(pair.client, "late\n");
  CHECK(receive(pair.client, 11) == "early late\n");
  CHECK(ended(pair.client));
  CHECK(status_of(child) == 0);
}

TEST_CASE("execl: a connection that nobody used yet, on the program's standard streams",
          "[execl][dup2][fork][no-lane]") {
  auto pair = connected({.enter = false});
  const pid_t child = child_that([&] {
    dup2(pair.server, 0), dup2(pair.server, 1);
    execl("/bin/sh", "sh", "-c", "read line; echo $line", nullptr);
    return 1;
  });
  pair.server.close();
  send_all(pair.client, "hello\n");
  CHECK(receive(pair.client, 6) == "hello\n");
  CHECK(ended(pair.client));
  CHECK(status_of(child) == 0);
}

TEST_CASE("execl: a connection whose close-on-exec a child took off, by its number",
          "[execl][fcntl][ioctl][fork][tcp]") {
  for (const bool by_ioctl : {false, true}) {
    auto pair = connected();
    send_all(pair.client, "early ");
    arrived(pair.server, 6);
    const pid_t child = child_that([&] {
      if ((by_ioctl ? ioctl(pair.server, FIONCLEX) : fcntl(pair.server, F_SETFD, 0)) != 0) return 1;
      const auto script =
          "read line <&" + std::to_string(pair.server) + "; echo $line >&" + std::to_string(pair.server);
      execl("/bin/bash", "bash", "-c", script.c_str(), nullptr);
      return 1;
    });
    pair.server.close();
    send_all(pair.client, "late\n");
    CHECK(receive(pair.client, 11) == "early late\n");
    CHECK(ended(pair.client));
    CHECK(status_of(child) == 0);
  }
}

TEST_CASE("execl: the parent goes on with the connection that a program had", "[execl][dup2][fork][tcp]") {
  const auto pair = connected();
  const pid_t child = child_that([&] {
    dup2(pair.server, 1);
    execl("/bin/sh", "sh", "-c", "echo hello", nullptr);
    return 1;
  });
  CHECK(receive(pair.client, 6) == "hello\n");
  CHECK(status_of(child) == 0);
  exchange(pair.client, pair.server);
}

TEST_CASE("vfork: the connection on the next program's standard streams", "[vfork][execve][dup2][tcp]") {
  auto pair = connected();
  char* const words[] = {const_cast<char*>("sh"), const_cast<char*>("-c"), const_cast<char*>("read line; echo $line"),
                         nullptr};
  const int server = pair.server;
  const pid_t child = vfork();
  if (child == 0) {
    dup2(server, 0);
    dup2(server, 1);
    execve("/bin/sh", words, environ);
    _exit(1);
  }
  REQUIRE(child > 0);
  pair.server.close();
  send_all(pair.client, "hello\n");
  CHECK(receive(pair.client, 6) == "hello\n");
  CHECK(ended(pair.client));
  CHECK(status_of(child) == 0);
}

TEST_CASE("system: a connection on standard output is the program's too", "[system][dup2][tcp]") {
  const auto pair = connected();
  const pid_t child = child_that([&] {
    dup2(pair.server, 1);
    return WEXITSTATUS(system("echo hello; exit 7"));
  });
  CHECK(receive(pair.client, 6) == "hello\n");
  CHECK(status_of(child) == 7);
}
