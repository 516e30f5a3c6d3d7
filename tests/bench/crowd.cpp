// Round trips, or silence, of an epoll program among a crowd of idle descriptors.
//
//   crowd server ADDRESS PORT BYTES IDLE
//   crowd client ADDRESS PORT BYTES IDLE FLOWS ROUNDS [QUIET_MS [PROCESSES]]
//
// Each end has IDLE eventfds in its epoll set that are never written to; the client makes FLOWS more connections that
// carry a few messages and then nothing, and so do PROCESSES others, with a connection each. The client plays rounds
// over one connection, each end waiting in epoll_wait before it reads; with QUIET_MS both ends wait that long for
// nothing instead. The server prints "listening" and ends with the first connection. One line of JSON each: the
// client's round-trip times in microseconds, and the CPU time that an end used in the quiet time, in ms.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "round_trips.hpp"

namespace {

constexpr char kQuiet = 'q', kEcho = 'e';

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "crowd: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

// The program's epoll set, with its idle descriptors.
class Set {
 public:
  explicit Set(long idle) : fd_(epoll_create1(EPOLL_CLOEXEC)) {
    if (fd_ < 0) die("epoll_create1");
    for (long i = 0; i < idle; ++i) {
      const int quiet = eventfd(0, EFD_CLOEXEC);
      if (quiet < 0) die("eventfd");
      add(quiet);
    }
  }
  void add(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(fd_, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
  }
  // The descriptor that is ready; -1 after the timeout.
  int wait(int ms = -1) {
    epoll_event event{};
    const int found = epoll_wait(fd_, &event, 1, ms);
    if (found < 0) die("epoll_wait");
    return found == 0 ? -1 : event.data.fd;
  }

 private:
  int fd_;
};

double cpu_ms() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto ms = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3;
  };
  return ms(used.ru_utime) + ms(used.ru_stime);
}

// False at the end of the stream.
bool read_all(int fd, std::vector<char>& message) {
  for (size_t have = 0; have < message.size();) {
    const ssize_t n = read(fd, message.data() + have, message.size() - have);
    if (n < 0) die("read");
    if (n == 0) return false;
    have += static_cast<size_t>(n);
  }
  return true;
}

void write_all(int fd, const std::vector<char>& message) {
  if (write(fd, message.data(), message.size()) != static_cast<ssize_t>(message.size())) die("write");
}

void no_delay(int fd) {
  const int on = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) die("TCP_NODELAY");
}

void serve(const sockaddr_in& name, std::vector<char> message, long idle) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 || listen(listener, 1024) != 0)
    die("listen");
  std::puts("listening");
  std::fflush(stdout);
  Set set(idle);
  set.add(listener);
  for (int first = -1;;) {
    const int ready = set.wait();
    if (ready == listener) {
      const int client = accept(listener, nullptr, nullptr);
      if (client < 0) die("accept");
      no_delay(client);
      set.add(client);
      if (first < 0) first = client;
      continue;
    }
    if (!read_all(ready, message)) {
      if (ready == first) return;
      close(ready);
      continue;
    }
    // What the client says about the quiet time is how long it is: its beginning and its end are messages.
    static double begun = 0;
    if (message[0] == kQuiet && begun == 0)
      begun = cpu_ms();
    else if (message[0] == kQuiet)
      std::printf("{\"cpu_ms\":%.1f}\n", cpu_ms() - begun);
    write_all(ready, message);
  }
}

struct Player {
  Set set;
  std::vector<char> message, answer;

  void round(int fd, char kind) {
    message[0] = kind;
    write_all(fd, message);
    if (set.wait() != fd) errno = EPROTO, die("another descriptor is ready");
    if (!read_all(fd, answer)) errno = EPIPE, die("the server is gone");
  }
};

int connected(const sockaddr_in& name) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) die("connect");
  no_delay(fd);
  return fd;
}

constexpr int kWarmUp = 20;  // for each flow

// Processes that say a little over a connection of their own, and are silent from then on, until this is destroyed.
class Others {
 public:
  Others(const sockaddr_in& name, size_t bytes, long count) {
    int ready[2];
    if (pipe(ready) != 0 || pipe(over_) != 0) die("pipe");
    for (long i = 0; i < count; ++i) {
      const auto child = fork();
      if (child < 0) die("fork");
      if (child > 0) continue;
      close(over_[1]);
      one(name, bytes, ready[1]);
    }
    close(over_[0]), close(ready[1]);
    char byte;
    for (long i = 0; i < count; ++i)
      if (read(ready[0], &byte, 1) != 1) errno = ECHILD, die("one of the processes");
    close(ready[0]);
  }
  ~Others() {
    close(over_[1]);
    while (wait(nullptr) > 0) {
    }
  }
  Others(const Others&) = delete;
  Others& operator=(const Others&) = delete;

 private:
  [[noreturn]] void one(const sockaddr_in& name, size_t bytes, int ready) {
    constexpr useconds_t kPause = 5000;  // by which the connection grows old enough for a lane
    Player player{Set(1), std::vector<char>(bytes), std::vector<char>(bytes)};
    const int fd = connected(name);
    player.set.add(fd);
    for (int turn = 0; turn < 5 * kWarmUp; ++turn) player.round(fd, kEcho), usleep(kPause);
    char byte = 0;
    if (write(ready, &byte, 1) != 1) _exit(1);
    (void)!read(over_[0], &byte, 1);
    std::exit(0);
  }

  int over_[2];
};

void play(const sockaddr_in& name, size_t bytes, long idle, long flows, size_t rounds, int quiet_ms, long processes) {
  const Others others(name, bytes, processes);
  Player player{Set(idle), std::vector<char>(bytes), std::vector<char>(bytes)};
  constexpr long kWarmUpMs = 500;  // which a run under the preload needs to enter its lane
  std::vector<int> all;
  for (long i = 0; i <= flows; ++i) {
    all.push_back(connected(name));
    player.set.add(all.back());
  }
  for (int turn = 0; turn < kWarmUp; ++turn)
    for (const int fd : all) player.round(fd, kEcho);
  if (quiet_ms > 0) {
    player.round(all.front(), kQuiet);
    const double begun = cpu_ms();
    if (player.set.wait(quiet_ms) != -1) errno = EPROTO, die("it was not quiet");
    std::printf("{\"cpu_ms\":%.1f}\n", cpu_ms() - begun);
    player.round(all.front(), kQuiet);
    return;
  }
  RoundTrips trips(rounds, kWarmUpMs);
  while (!trips.complete()) {
    trips.begin();
    player.round(all.front(), kEcho);
    trips.end();
  }
  trips.print(bytes);
}

}  // namespace

int main(int argc, char** argv) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  const std::string_view role = argc > 1 ? argv[1] : "";
  const long bytes = argc > 4 ? std::atol(argv[4]) : 0;
  const bool enough = (role == "server" && argc == 6) || (role == "client" && argc >= 8);
  if (!enough || bytes <= 0 || inet_pton(AF_INET, argv[2], &name.sin_addr) != 1)
    return std::fprintf(stderr,
                        "usage: crowd server ADDRESS PORT BYTES IDLE | client ADDRESS PORT BYTES IDLE FLOWS ROUNDS "
                        "[QUIET_MS [PROCESSES]]\n"),
           2;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[3])));
  alarm(120);  // a run that hangs is ended
  if (role == "server")
    serve(name, std::vector<char>(static_cast<size_t>(bytes)), std::atol(argv[5]));
  else
    play(name, static_cast<size_t>(bytes), std::atol(argv[5]), std::atol(argv[6]), std::strtoul(argv[7], nullptr, 10),
         argc > 8 ? std::atoi(argv[8]) : 0, argc > 9 ? std::atol(argv[9]) : 0);
}
