// A connection of this process to itself, which sends and receives: what that costs in user space is counted
// by callgrind in exchange() alone, and nobody waits there, since what is sent is there.
//
//   lane_calls ADDRESS PORT BYTES COUNT WARMUP_MS
//
// It exchanges for WARMUP_MS, which a run under the preload needs to enter its lane, and then COUNT times.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "lane_calls: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

}  // namespace

extern "C" [[gnu::noinline]] void exchange(int from, int to, char* bytes, size_t size, int count) {
  for (int i = 0; i < count; ++i) {
    if (send(from, bytes, size, 0) != static_cast<ssize_t>(size)) die("send");
    if (recv(to, bytes, size, MSG_WAITALL) != static_cast<ssize_t>(size)) die("recv");
  }
}

int main(int argc, char** argv) {
  if (argc != 6) return std::fprintf(stderr, "usage: lane_calls ADDRESS PORT BYTES COUNT WARMUP_MS\n"), 2;
  using Clock = std::chrono::steady_clock;
  alarm(120);  // a run that hangs is ended
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[2])));
  if (inet_pton(AF_INET, argv[1], &name.sin_addr) != 1)
    return std::fprintf(stderr, "lane_calls: no address: %s\n", argv[1]), 2;
  const auto* address = reinterpret_cast<const sockaddr*>(&name);
  const int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, address, sizeof name) != 0 || listen(listener, 1) != 0) die("listen");
  const int near = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(near, address, sizeof name) != 0) die("connect");
  const int far = accept(listener, nullptr, nullptr);
  if (far < 0) die("accept");
  std::vector<char> bytes(static_cast<size_t>(std::atol(argv[3])));
  const auto warm = Clock::now() + std::chrono::milliseconds(std::atol(argv[5]));
  size_t warmup = 0;
  for (; Clock::now() < warm; ++warmup) {
    if (send(near, bytes.data(), bytes.size(), 0) < 0) die("send");
    if (recv(far, bytes.data(), bytes.size(), MSG_WAITALL) < 0) die("recv");
  }
  exchange(near, far, bytes.data(), bytes.size(), std::atoi(argv[4]));
  std::printf("{\"warmup_bytes\":%zu}\n", warmup * bytes.size());
}
