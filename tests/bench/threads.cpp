// Round trips of many threads, each with a connection of its own.
//
//   threads server ADDRESS PORT WAY THREADS     a thread for each connection; prints "listening", ends with the last of
//   THREADS connections threads client ADDRESS PORT WAY THREADS MS
//
// WAY is how a thread waits: `recv` blocks in recv, `epoll` has an epoll set of its own. Messages are of 64 bytes. The
// client's threads play for a second, in which connections may enter a lane, and then are counted for MS. One line of
// JSON: round trips in a second.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr size_t kMessage = 64;
std::atomic<bool> over{false};

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "threads: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

// One end of a connection, and how its thread waits.
class End {
 public:
  End(int fd, bool with_set) : fd_(fd) {
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!with_set) return;
    set_ = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLIN;
    if (set_ < 0 || epoll_ctl(set_, EPOLL_CTL_ADD, fd_, &event) != 0) die("epoll");
  }
  ~End() {
    close(fd_);
    if (set_ >= 0) close(set_);
  }
  End(const End&) = delete;
  End& operator=(const End&) = delete;

  void send() {
    if (::send(fd_, message_, kMessage, MSG_NOSIGNAL) != static_cast<ssize_t>(kMessage)) die("send");
  }
  // False at the end of the stream.
  bool receive() {
    for (;;) {
      const auto got = recv(fd_, message_, kMessage, set_ >= 0 ? MSG_DONTWAIT : 0);
      if (got == 0) return false;
      if (got == static_cast<ssize_t>(kMessage)) return true;
      if (got > 0 || errno != EAGAIN) die("recv");
      epoll_event event;
      epoll_wait(set_, &event, 1, -1);
    }
  }

 private:
  int fd_, set_ = -1;
  char message_[kMessage] = {};
};

int stream() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  return fd;
}

int serve(const sockaddr_in& address, bool with_sets, int count) {
  const int listener = stream(), on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || listen(listener, 128) != 0)
    die("listen");
  std::puts("listening");
  std::fflush(stdout);
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    const int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) die("accept");
    threads.emplace_back([fd, with_sets] {
      End end(fd, with_sets);
      while (end.receive()) end.send();
    });
  }
  for (auto& thread : threads) thread.join();
  return 0;
}

int play(const sockaddr_in& address, bool with_sets, int count, int ms) {
  std::vector<std::atomic<long>> rounds(static_cast<size_t>(count));
  std::vector<std::thread> threads;
  for (auto& its : rounds)
    threads.emplace_back([&its, &address, with_sets] {
      const int fd = stream();
      if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) die("connect");
      End end(fd, with_sets);
      for (; !over; ++its) {
        end.send();
        if (!end.receive()) die("the end of the stream");
      }
    });
  const auto all = [&] {
    long sum = 0;
    for (const auto& its : rounds) sum += its;
    return sum;
  };
  std::this_thread::sleep_for(std::chrono::seconds(1));
  const auto before = all();
  const auto begun = std::chrono::steady_clock::now();
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  const auto played = all() - before;
  over = true;
  for (auto& thread : threads) thread.join();
  std::printf("{\"per_second\": %.0f}\n", static_cast<double>(played) / took.count());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view role = argc > 1 ? argv[1] : "", way = argc > 4 ? argv[4] : "";
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (argc > 5 && inet_pton(AF_INET, argv[2], &address.sin_addr) == 1 && (way == "recv" || way == "epoll")) {
    address.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[3])));
    if (role == "server" && argc == 6) return serve(address, way == "epoll", std::atoi(argv[5]));
    if (role == "client" && argc == 7) return play(address, way == "epoll", std::atoi(argv[5]), std::atoi(argv[6]));
  }
  return std::fprintf(stderr,
                      "usage: threads server ADDRESS PORT recv|epoll THREADS | threads client ADDRESS PORT recv|epoll "
                      "THREADS MS\n"),
         2;
}
