// Echo server: one thread, one level-triggered epoll set, non-blocking sockets.
//
//   echo_server ADDRESS PORT
//
// Prints "listening" when it is, and ends on SIGTERM or SIGINT.
//
// Each client owns at most one buffer of bytes that were read and not yet written back. While there are any,
// the server waits for room and does not read more, so a client that never reads costs one buffer. A client
// that shuts down its sending side still gets everything back, then end of stream.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <unordered_map>

namespace {

struct Client {
  std::array<char, 64 * 1024> bytes;
  size_t begin = 0, end = 0;  // bytes[begin, end) are still to be written
  uint32_t events = EPOLLIN;  // what the epoll set watches for
};

bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK; }

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "echo_server: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

// Writes what is pending, as far as there is room. False when the connection is broken.
bool flush(int fd, Client& client) {
  while (client.begin < client.end) {
    const ssize_t n = send(fd, &client.bytes[client.begin], client.end - client.begin, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return would_block();
    client.begin += static_cast<size_t>(n);
  }
  client.begin = client.end = 0;
  return true;
}

// One turn for one client: one read at most, so that a busy client does not starve the others. False when the
// connection is over. At end of stream nothing is pending, since nothing is read while anything is.
bool serve(int fd, Client& client) {
  if (!flush(fd, client)) return false;
  if (client.end > 0) return true;
  const ssize_t n = recv(fd, client.bytes.data(), client.bytes.size(), 0);
  if (n < 0) return errno == EINTR || would_block();
  client.end = static_cast<size_t>(n);
  return n > 0 && flush(fd, client);
}

void watch(int epoll, int op, int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (epoll_ctl(epoll, op, fd, &event) != 0) die("epoll_ctl");
}

int listen_on(const char* address, const char* port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(port)));
  if (inet_pton(AF_INET, address, &name.sin_addr) != 1) errno = EINVAL, die(address);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
  if (fd < 0) die("socket");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) die("bind");
  if (listen(fd, SOMAXCONN) != 0) die("listen");
  std::puts("listening");
  std::fflush(stdout);
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: echo_server ADDRESS PORT\n"), 2;
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  sigprocmask(SIG_BLOCK, &stop, nullptr);
  const int signals = signalfd(-1, &stop, SFD_NONBLOCK | SFD_CLOEXEC);
  const int listener = listen_on(argv[1], argv[2]);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  watch(epoll, EPOLL_CTL_ADD, signals, EPOLLIN);
  watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN);

  std::unordered_map<int, std::unique_ptr<Client>> clients;
  std::array<epoll_event, 64> ready;
  for (;;) {
    const int count = epoll_wait(epoll, ready.data(), static_cast<int>(ready.size()), -1);
    if (count < 0 && errno != EINTR) die("epoll_wait");
    for (int i = 0; i < count; ++i) {
      const int fd = ready[static_cast<size_t>(i)].data.fd;
      if (fd == signals) return 0;
      if (fd == listener) {
        const int accepted = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
        if (accepted < 0) continue;  // the client gave up, or no descriptor is left: the others go on
        setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        clients[accepted] = std::make_unique<Client>();
        watch(epoll, EPOLL_CTL_ADD, accepted, EPOLLIN);
        continue;
      }
      Client& client = *clients.at(fd);
      if (!serve(fd, client)) {
        clients.erase(fd);
        close(fd);
        continue;
      }
      const uint32_t wanted = client.end > 0 ? EPOLLOUT : EPOLLIN;
      if (wanted != client.events) watch(epoll, EPOLL_CTL_MOD, fd, client.events = wanted);
    }
  }
}
