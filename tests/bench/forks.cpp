// What it costs a process with many connections to make others.
//
//   forks ADDRESS PORT BYTES FLOWS MIB COUNT
//
// Makes FLOWS connections to `crowd server`, plays messages of BYTES over them until those that enter a lane have had
// the time, and touches MIB of memory, as a database that saves has. Then COUNT times each: fork, whose child ends at
// once, and system. At last a message over each connection. One line of JSON: the medians of the time that fork and
// system took here, in microseconds.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "forks: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

void round_trip(int fd, std::vector<char>& message) {
  std::fill(message.begin(), message.end(), 'e');
  if (write(fd, message.data(), message.size()) != static_cast<ssize_t>(message.size())) die("write");
  for (size_t have = 0; have < message.size();) {
    const ssize_t n = read(fd, message.data() + have, message.size() - have);
    if (n <= 0) die("read");
    have += static_cast<size_t>(n);
  }
}

// The time until the parent goes on.
double fork_us() {
  const auto begun = Clock::now();
  const pid_t child = fork();
  if (child == 0) _exit(0);
  const std::chrono::duration<double, std::micro> took = Clock::now() - begun;
  if (child < 0 || waitpid(child, nullptr, 0) != child) die("fork");
  return took.count();
}

double system_us() {
  const auto begun = Clock::now();
  if (system(":") != 0) die("system");
  return std::chrono::duration<double, std::micro>(Clock::now() - begun).count();
}

double median(double (*measure)(), int count) {
  std::vector<double> all;
  for (int i = 0; i < count; ++i) all.push_back(measure());
  std::nth_element(all.begin(), all.begin() + count / 2, all.end());
  return all[static_cast<size_t>(count) / 2];
}

}  // namespace

int main(int argc, char** argv) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  if (argc != 7 || inet_pton(AF_INET, argv[1], &name.sin_addr) != 1)
    return std::fprintf(stderr, "usage: forks ADDRESS PORT BYTES FLOWS MIB COUNT\n"), 2;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[2])));
  const int flows = std::atoi(argv[4]), count = std::atoi(argv[6]);
  alarm(120);              // a run that hangs is ended
  unsetenv("LD_PRELOAD");  // what is measured is this process, not how a new program starts
  std::vector<char> message(static_cast<size_t>(std::atoi(argv[3])));
  std::vector<int> all;
  for (int i = 0; i < flows; ++i) {
    all.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (connect(all.back(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) die("connect");
    round_trip(all.back(), message);
  }
  constexpr auto kWarmUp = std::chrono::seconds(1);
  for (const auto until = Clock::now() + kWarmUp; Clock::now() < until;)
    for (const int fd : all) round_trip(fd, message);
  std::vector<char> memory(static_cast<size_t>(std::atol(argv[5])) << 20, 'x');
  const double forks = median(fork_us, count), systems = median(system_us, count);
  for (const int fd : all) round_trip(fd, message);
  std::printf("{\"fork_us\":%.1f,\"system_us\":%.1f,\"touched\":%d}\n", forks, systems, memory.back());
}
