// What a program feels of a connection that enters its lane: how long its bytes are on their way, and how long a write
// takes.
//
//   cutovers server ADDRESS PORT
//   cutovers client ADDRESS PORT CONNECTIONS
//
// One connection after the other, the client writes small messages for 60 ms, one each 100 us, each with the time in
// it; the server reads them, and says at the end how long the slowest was on its way. Both ends are on one machine.
//
// The server prints "listening", and ends with the client's last connection. The client prints one line of JSON: of
// the connections, p50 and p99 of the slowest message and of the longest write. Times are microseconds.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
constexpr int64_t kLast = -1, kLastOfAll = -2;
constexpr auto kGap = std::chrono::microseconds(100), kFor = std::chrono::microseconds(60'000);

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "cutovers: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

int64_t microseconds_now() {
  return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now().time_since_epoch()).count();
}

void say(int fd, int64_t number) {
  if (write(fd, &number, sizeof number) != sizeof number) die("write");
}

int64_t hear(int fd) {
  int64_t number = 0;
  for (size_t have = 0; have < sizeof number;) {
    const auto n = read(fd, reinterpret_cast<char*>(&number) + have, sizeof number - have);
    if (n <= 0) die("read");
    have += static_cast<size_t>(n);
  }
  return number;
}

void no_delay(int fd) {
  const int on = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) die("TCP_NODELAY");
}

void serve(const sockaddr_in& name) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 || listen(listener, 8) != 0)
    die("listen");
  std::puts("listening");
  std::fflush(stdout);
  for (int64_t heard = 0; heard != kLastOfAll;) {
    const int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) die("accept");
    no_delay(fd);
    int64_t slowest = 0;
    while ((heard = hear(fd)) >= 0) slowest = std::max(slowest, microseconds_now() - heard);
    say(fd, slowest);
    close(fd);
  }
}

struct Felt {
  int64_t slowest_message, longest_write;
};

Felt play(const sockaddr_in& name, bool last) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) die("connect");
  no_delay(fd);
  int64_t longest = 0;
  const auto end = Clock::now() + kFor;
  for (auto next = Clock::now(); next < end; next += kGap) {
    while (Clock::now() < next) usleep(20);
    const auto begun = microseconds_now();
    say(fd, begun);
    longest = std::max(longest, microseconds_now() - begun);
  }
  say(fd, last ? kLastOfAll : kLast);
  const auto slowest = hear(fd);
  close(fd);
  return {slowest, longest};
}

int64_t at(std::vector<int64_t>& sorted, double share) {
  return sorted[std::min(sorted.size() - 1, static_cast<size_t>(share * static_cast<double>(sorted.size())))];
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view role = argc > 1 ? argv[1] : "";
  sockaddr_in name{};
  name.sin_family = AF_INET;
  const long connections = argc > 4 ? std::atol(argv[4]) : 0;
  if (argc < 4 || inet_pton(AF_INET, argv[2], &name.sin_addr) != 1 ||
      !(role == "server" ? argc == 4 : role == "client" && connections > 0))
    return std::fprintf(stderr, "usage: cutovers server ADDRESS PORT | client ADDRESS PORT CONNECTIONS\n"), 2;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[3])));
  alarm(120);  // a run that hangs is ended
  if (role == "server") return serve(name), 0;
  std::vector<int64_t> messages, writes;
  for (long i = 1; i <= connections; ++i) {
    const auto felt = play(name, i == connections);
    messages.push_back(felt.slowest_message), writes.push_back(felt.longest_write);
  }
  std::sort(messages.begin(), messages.end());
  std::sort(writes.begin(), writes.end());
  std::printf(
      "{\"connections\":%ld,\"message_p50_us\":%ld,\"message_p99_us\":%ld,\"write_p50_us\":%ld,\"write_p99_us\":%ld}\n",
      connections, at(messages, 0.5), at(messages, 0.99), at(writes, 0.5), at(writes, 0.99));
}
