// Round-trip time of an ordinary blocking program: read and write, nothing else.
//
//   pingpong server ADDRESS PORT BYTES
//   pingpong client ADDRESS PORT BYTES [ROUNDS [WARMUP_MS]]
//
// ADDRESS is an IPv4 address; or a path, of a unix socket, and then the port is of no account.
//
// The server prints "listening", serves one connection and ends. The client plays rounds for WARMUP_MS, which
// a run under the preload needs to enter its lane, then measures ROUNDS of them, and prints one line of JSON.
// Times are microseconds.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "round_trips.hpp"

namespace {

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "pingpong: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

// False at end of stream before the first byte; a stream that ends within a message is an error.
bool read_all(int fd, std::vector<char>& message) {
  for (size_t have = 0; have < message.size();) {
    const ssize_t n = read(fd, message.data() + have, message.size() - have);
    if (n < 0) die("read");
    if (n == 0 && have == 0) return false;
    if (n == 0) errno = EPIPE, die("the stream ended within a message");
    have += static_cast<size_t>(n);
  }
  return true;
}

void write_all(int fd, const std::vector<char>& message) {
  for (size_t done = 0; done < message.size();) {
    const ssize_t n = write(fd, message.data() + done, message.size() - done);
    if (n < 0) die("write");
    done += static_cast<size_t>(n);
  }
}

void no_delay(int fd) {
  const int on = 1;
  int domain = 0;
  socklen_t size = sizeof domain;
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX) return;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) die("TCP_NODELAY");
}

// Where the two meet.
struct Name {
  sockaddr_storage address{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
};

bool parse(const char* text, int port, Name& name) {
  if (text[0] == '/') {
    auto& path = reinterpret_cast<sockaddr_un&>(name.address);
    path.sun_family = AF_UNIX;
    name.size = sizeof path;
    return std::snprintf(path.sun_path, sizeof path.sun_path, "%s", text) < static_cast<int>(sizeof path.sun_path);
  }
  auto& in = reinterpret_cast<sockaddr_in&>(name.address);
  in.sin_family = AF_INET;
  in.sin_port = htons(static_cast<uint16_t>(port));
  name.size = sizeof in;
  return inet_pton(AF_INET, text, &in.sin_addr) == 1;
}

void serve(int fd, const Name& name, std::vector<char> message) {
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, name.get(), name.size) != 0) die("bind");
  if (listen(fd, 1) != 0) die("listen");
  std::puts("listening");
  std::fflush(stdout);
  const int client = accept(fd, nullptr, nullptr);
  if (client < 0) die("accept");
  no_delay(client);
  while (read_all(client, message)) write_all(client, message);
  close(client);
}

void play(int fd, const Name& name, std::vector<char> message, size_t rounds, long warmup_ms) {
  if (connect(fd, name.get(), name.size) != 0) die("connect");
  no_delay(fd);
  RoundTrips trips(rounds, warmup_ms);
  std::vector<char> answer(message.size());
  for (uint8_t round = 0; !trips.complete(); ++round) {
    std::memset(message.data(), round, message.size());
    trips.begin();
    write_all(fd, message);
    if (!read_all(fd, answer)) errno = EPIPE, die("the server is gone");
    trips.end();
    if (answer != message) errno = EBADMSG, die("a wrong byte came back");
  }
  trips.print(message.size());
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view role = argc > 1 ? argv[1] : "";
  const long bytes = argc > 4 ? std::atol(argv[4]) : 0;
  Name name;
  if ((role != "server" && role != "client") || bytes <= 0 || !parse(argv[2], std::atoi(argv[3]), name))
    return std::fprintf(stderr, "usage: pingpong server|client ADDRESS PORT BYTES [ROUNDS [WARMUP_MS]]\n"), 2;
  alarm(120);  // a run that hangs is ended

  const int fd = socket(name.address.ss_family, SOCK_STREAM, 0);
  if (fd < 0) die("socket");
  std::vector<char> message(static_cast<size_t>(bytes));
  if (role == "server")
    serve(fd, name, std::move(message));
  else
    play(fd, name, std::move(message), argc > 5 ? std::strtoul(argv[5], nullptr, 10) : 2000,
         argc > 6 ? std::atol(argv[6]) : 500);
  close(fd);
}
