// Connections of one request each, one after the other.
//
//   short server ADDRESS PORT           prints "listening"; ends when a connection brings no byte
//   short client ADDRESS PORT COUNT
//
// The client connects, sends a byte, reads the answer, and the end behind it. One line of JSON: connections in a
// second.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace {

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "short: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

int stream() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  return fd;
}

int serve(const sockaddr_in& address) {
  const int listener = stream(), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || listen(listener, 128) != 0)
    die("listen");
  std::puts("listening");
  std::fflush(stdout);
  for (bool more = true; more;) {
    const int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) die("accept");
    char byte;
    more = recv(fd, &byte, 1, 0) == 1;
    if (more && send(fd, &byte, 1, MSG_NOSIGNAL) != 1) die("send");
    close(fd);
  }
  return 0;
}

void visit(const sockaddr_in& address, bool asks) {
  const int fd = stream();
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) die("connect");
  char byte = 'x';
  if (asks && (send(fd, &byte, 1, MSG_NOSIGNAL) != 1 || recv(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 0))
    die("no answer");
  close(fd);
}

int ask(const sockaddr_in& address, int count) {
  using Clock = std::chrono::steady_clock;
  const auto begun = Clock::now();
  for (int i = 0; i < count; ++i) visit(address, true);
  const std::chrono::duration<double> took = Clock::now() - begun;
  std::printf("{\"per_second\": %.0f}\n", count / took.count());
  visit(address, false);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view role = argc > 1 ? argv[1] : "";
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (argc > 3) address.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[3])));
  if (argc > 3 && inet_pton(AF_INET, argv[2], &address.sin_addr) == 1) {
    if (role == "server" && argc == 4) return serve(address);
    if (role == "client" && argc == 5) return ask(address, std::atoi(argv[4]));
  }
  return std::fprintf(stderr, "usage: short server ADDRESS PORT | short client ADDRESS PORT COUNT\n"), 2;
}
