// Makes one kind of call COUNT times on descriptors that no configuration selects, so that the cost of having
// been preloaded can be counted: call_overhead runs this under callgrind with and without the preload.
//
//   idle_calls CALL COUNT [tcp|socketpair|pipe]
//   idle_calls --list            the kinds, one a line: name and calls made per turn
//
// No call waits: reads find a prefilled buffer, writes are drained every kDrainEvery calls, waits find a
// descriptor that is ready, accept finds none. What filling and draining cost is spread over so many turns
// that it vanishes.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace {

constexpr long kFill = 16 * 1024;
constexpr long kDrainEvery = 128;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "idle_calls: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

struct Fixture {
  int near = -1;      // the descriptor that is read, asked about, and waited for
  int far = -1;       // the one that writes to it
  int listener = -1;  // non-blocking, nobody connects
  int epoll = -1;     // watches near
};

struct Call {
  std::string_view name;
  int calls_per_turn;
  enum { kReads, kWrites, kNeither } moves;
  bool (*turn)(const Fixture&);  // one turn; false when a call did not do what it should
};

std::array<char, kFill> buffer;

iovec one_byte() { return {buffer.data(), 1}; }

msghdr message(iovec& piece) {
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  return header;
}

const Call kCalls[] = {
    {"read", 1, Call::kReads, [](const Fixture& f) { return read(f.near, buffer.data(), 1) == 1; }},
    {"write", 1, Call::kWrites, [](const Fixture& f) { return write(f.far, buffer.data(), 1) == 1; }},
    {"recv", 1, Call::kReads, [](const Fixture& f) { return recv(f.near, buffer.data(), 1, 0) == 1; }},
    {"send", 1, Call::kWrites, [](const Fixture& f) { return send(f.far, buffer.data(), 1, MSG_NOSIGNAL) == 1; }},
    {"recvmsg", 1, Call::kReads,
     [](const Fixture& f) {
       iovec piece = one_byte();
       msghdr header = message(piece);
       return recvmsg(f.near, &header, 0) == 1;
     }},
    {"sendmsg", 1, Call::kWrites,
     [](const Fixture& f) {
       iovec piece = one_byte();
       const msghdr header = message(piece);
       return sendmsg(f.far, &header, MSG_NOSIGNAL) == 1;
     }},
    {"readv", 1, Call::kReads,
     [](const Fixture& f) {
       const iovec piece = one_byte();
       return readv(f.near, &piece, 1) == 1;
     }},
    {"writev", 1, Call::kWrites,
     [](const Fixture& f) {
       const iovec piece = one_byte();
       return writev(f.far, &piece, 1) == 1;
     }},
    {"poll", 1, Call::kNeither,
     [](const Fixture& f) {
       pollfd watched{f.near, POLLIN, 0};
       return poll(&watched, 1, 1000) == 1;
     }},
    {"epoll_wait", 1, Call::kNeither,
     [](const Fixture& f) {
       epoll_event event;
       return epoll_wait(f.epoll, &event, 1, 1000) == 1;
     }},
    {"accept", 1, Call::kNeither,
     [](const Fixture& f) { return accept(f.listener, nullptr, nullptr) == -1 && errno == EAGAIN; }},
    {"dup+close", 2, Call::kNeither,
     [](const Fixture& f) {
       const int copy = dup(f.near);
       return copy >= 0 && close(copy) == 0;
     }},
    {"fcntl", 1, Call::kNeither, [](const Fixture& f) { return fcntl(f.near, F_GETFL) >= 0; }},
    {"getsockopt", 1, Call::kNeither,
     [](const Fixture& f) {
       int type = 0;
       socklen_t size = sizeof type;
       return getsockopt(f.near, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
     }},
};

int listen_on_loopback(sockaddr_in& name) {
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = 0;
  socklen_t size = sizeof name;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&name), size) != 0 || listen(fd, 4) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) != 0)
    die("listener");
  return fd;
}

Fixture make(std::string_view kind) {
  Fixture f;
  sockaddr_in name{};
  f.listener = listen_on_loopback(name);
  int pair[2] = {-1, -1};
  if (kind == "tcp") {
    f.far = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(f.far, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) die("connect");
    f.near = accept(f.listener, nullptr, nullptr);
  } else {
    const bool made = kind == "pipe" ? pipe(pair) == 0 : socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0;
    if (!made) die("pair");
    f.near = pair[0];
    f.far = pair[1];
  }
  f.epoll = epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN;
  if (f.near < 0 || epoll_ctl(f.epoll, EPOLL_CTL_ADD, f.near, &event) != 0) die("fixture");
  return f;
}

void fill(const Fixture& f) {
  if (write(f.far, buffer.data(), kFill) != kFill) die("fill");
}

void drain(const Fixture& f, long bytes) {
  while (bytes > 0) {
    const ssize_t n = read(f.near, buffer.data(), static_cast<size_t>(bytes));
    if (n <= 0) die("drain");
    bytes -= n;
  }
}

void repeat(const Call& call, const Fixture& f, long count) {
  if (call.moves == Call::kNeither) fill(f);  // what is waited for is ready
  for (long i = 0; i < count; ++i) {
    if (call.moves == Call::kReads && i % kFill == 0) fill(f);
    if (!call.turn(f)) die("the call failed");
    if (call.moves == Call::kWrites && (i + 1) % kDrainEvery == 0) drain(f, kDrainEvery);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "--list") {
    for (const Call& call : kCalls) std::printf("%s %d\n", call.name.data(), call.calls_per_turn);
    return 0;
  }
  for (const Call& call : kCalls)
    if (argc >= 3 && call.name == name) {
      const Fixture f = make(argc > 3 ? argv[3] : "tcp");
      repeat(call, f, std::atol(argv[2]));
      return 0;
    }
  return std::fprintf(stderr, "usage: idle_calls CALL COUNT [tcp|socketpair|pipe], or idle_calls --list\n"), 2;
}
