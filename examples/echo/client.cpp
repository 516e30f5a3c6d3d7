// Echo client: opens CONNECTIONS connections, sends MESSAGES messages of BYTES bytes on each with up to
// INFLIGHT unanswered at a time, checks every byte that comes back, and ends each connection with a half
// close.
//
//   echo_client ADDRESS PORT [CONNECTIONS [MESSAGES [BYTES [INFLIGHT]]]]
//
// Prints messages per second and the mean round trip of a message. Exits with 1 on the first wrong byte,
// early or missing end of stream, socket error, or when nothing happens for half a minute.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

struct Connection {
  int fd = -1;
  uint64_t id = 0;
  uint64_t sent = 0, received = 0;       // stream offsets
  std::vector<Clock::time_point> begun;  // when message m was begun, at [m % inflight]
  uint32_t events = EPOLLIN | EPOLLOUT;
  bool closed_half = false;
};

struct Plan {
  uint64_t connections = 10, messages = 2000, bytes = 64, inflight = 4;
};

// The byte at one offset of one connection's stream: a lost, repeated, swapped or foreign byte shows.
char pattern(uint64_t id, uint64_t offset) {
  return static_cast<char>(((offset + 1) * 0x9E3779B97F4A7C15u + id * 0xC2B2AE3D27D4EB4Fu) >> 56);
}

[[noreturn]] void die(const char* what, int error) {
  std::fprintf(stderr, "echo_client: %s%s%s\n", what, error ? ": " : "", error ? std::strerror(error) : "");
  std::exit(1);
}

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

uint64_t may_send(const Connection& c, const Plan& plan) {
  const uint64_t allowed = std::min(plan.messages, c.received / plan.bytes + plan.inflight) * plan.bytes;
  return allowed - c.sent;
}

void send_more(Connection& c, const Plan& plan) {
  std::array<char, 16 * 1024> out;
  while (const uint64_t room = may_send(c, plan)) {
    const size_t want = std::min<uint64_t>(room, out.size());
    for (size_t i = 0; i < want; ++i) out[i] = pattern(c.id, c.sent + i);
    const auto now = Clock::now();
    const ssize_t n = send(c.fd, out.data(), want, MSG_NOSIGNAL);
    if (n < 0 && would_block()) return;
    if (n < 0) die("send", errno);
    const uint64_t first = (c.sent + plan.bytes - 1) / plan.bytes;  // the first message that begins in these bytes
    c.sent += static_cast<uint64_t>(n);
    for (uint64_t m = first; m * plan.bytes < c.sent; ++m) c.begun[m % plan.inflight] = now;
  }
  if (c.sent == plan.messages * plan.bytes && !c.closed_half) {
    c.closed_half = true;
    if (shutdown(c.fd, SHUT_WR) != 0) die("shutdown", errno);
  }
}

// Checks what has come. True when the stream ended, and ended where it should.
bool receive(Connection& c, const Plan& plan, double& round_trips_us) {
  std::array<char, 16 * 1024> in;
  for (;;) {
    const ssize_t n = recv(c.fd, in.data(), in.size(), 0);
    if (n < 0 && would_block()) return false;
    if (n < 0) die("recv", errno);
    if (n == 0 && c.received != plan.messages * plan.bytes) die("the stream ended early", 0);
    if (n == 0) return true;
    if (c.received + static_cast<uint64_t>(n) > c.sent) die("more bytes came back than were sent", 0);
    const auto now = Clock::now();
    const uint64_t first = c.received / plan.bytes;
    for (size_t i = 0; i < static_cast<size_t>(n); ++i)
      if (in[i] != pattern(c.id, c.received + i)) die("a wrong byte came back", 0);
    c.received += static_cast<uint64_t>(n);
    for (uint64_t m = first; m < c.received / plan.bytes; ++m)
      round_trips_us += std::chrono::duration<double, std::micro>(now - c.begun[m % plan.inflight]).count();
  }
}

void open(Connection& c, const sockaddr_in& name) {
  const int on = 1;
  c.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c.fd < 0) die("socket", errno);
  setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(c.fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 && errno != EINPROGRESS)
    die("connect", errno);
}

}  // namespace

int main(int argc, char** argv) {
  Plan plan;
  uint64_t* const numbers[] = {&plan.connections, &plan.messages, &plan.bytes, &plan.inflight};
  sockaddr_in name{};
  name.sin_family = AF_INET;
  bool usable = argc >= 3 && argc <= 7 && inet_pton(AF_INET, argv[1], &name.sin_addr) == 1;
  for (int i = 3; usable && i < argc; ++i) usable = (*numbers[i - 3] = std::strtoull(argv[i], nullptr, 10)) > 0;
  if (!usable)
    return std::fprintf(stderr, "usage: echo_client ADDRESS PORT [CONNECTIONS [MESSAGES [BYTES [INFLIGHT]]]]\n"), 2;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[2])));

  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  const auto update = [epoll](int op, Connection& c) {
    epoll_event event{};
    event.events = c.events;
    event.data.ptr = &c;
    if (epoll_ctl(epoll, op, c.fd, &event) != 0) die("epoll_ctl", errno);
  };
  const auto start = Clock::now();
  std::vector<Connection> all(plan.connections);
  for (auto& c : all) {
    c.id = static_cast<uint64_t>(&c - all.data());
    c.begun.resize(plan.inflight);
    open(c, name);
    update(EPOLL_CTL_ADD, c);
  }

  double round_trips_us = 0;
  std::array<epoll_event, 64> ready;
  for (uint64_t open_ones = plan.connections; open_ones > 0;) {
    const int count = epoll_wait(epoll, ready.data(), static_cast<int>(ready.size()), 30'000);
    if (count == 0) die("nothing happened for 30 s", 0);
    if (count < 0 && errno != EINTR) die("epoll_wait", errno);
    for (int i = 0; i < count; ++i) {
      auto& c = *static_cast<Connection*>(ready[static_cast<size_t>(i)].data.ptr);
      if (receive(c, plan, round_trips_us)) {
        close(c.fd);
        --open_ones;
        continue;
      }
      send_more(c, plan);
      const uint32_t wanted = may_send(c, plan) > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN;
      if (wanted != c.events) c.events = wanted, update(EPOLL_CTL_MOD, c);
    }
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const double total = static_cast<double>(plan.connections * plan.messages);
  std::printf("%.0f messages/s, mean round trip %.1f us\n", total / seconds, round_trips_us / total);
}
