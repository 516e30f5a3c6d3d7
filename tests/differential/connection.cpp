// How connections are made, and how what is under way on them is waited for.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>  // not netinet/tcp.h, whose tcp_info is older
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "program.hpp"

namespace differential {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kEntering = 30s, kSettling = 1s;
constexpr int kFinWait1 = 4, kLastAck = 9, kClosing = 11;  // tcp_info::tcpi_state
enum Family { v4, v6, mapped };

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "differential: %s: %s\n", what, strerror(errno));
  _exit(3);
}

struct Place {
  sockaddr_storage address{};
  socklen_t size = sizeof(sockaddr_storage);
  int listener = -1;
  const sockaddr* name() const { return reinterpret_cast<const sockaddr*>(&address); }
};

// The process's own listeners, far above the numbers of the programs.
Place& place(Family family) {
  static Place places[3];
  auto& made = places[family];
  if (made.listener >= 0) return made;
  const char* chosen = getenv("RSOCK_CONFORMANCE_ADDRESS");
  const std::string v4_text = chosen ? chosen : "127.0.0.1";
  const int low = socket(family == v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  made.listener = fcntl(low, F_DUPFD_CLOEXEC, 800);
  close(low);
  sockaddr_storage name{};
  if (family == v4) {
    auto& in = reinterpret_cast<sockaddr_in&>(name);
    in.sin_family = AF_INET;
    inet_pton(AF_INET, v4_text.c_str(), &in.sin_addr);
  } else {
    auto& in6 = reinterpret_cast<sockaddr_in6&>(name);
    in6.sin6_family = AF_INET6;
    const char* chosen6 = getenv("RSOCK_CONFORMANCE_ADDRESS6");
    const auto text = family == mapped ? "::ffff:" + v4_text : std::string(chosen6 ? chosen6 : "::1");
    inet_pton(AF_INET6, text.c_str(), &in6.sin6_addr);
  }
  if (bind(made.listener, reinterpret_cast<sockaddr*>(&name),
           family == v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6)) != 0 ||
      listen(made.listener, 16) != 0 ||
      getsockname(made.listener, reinterpret_cast<sockaddr*>(&made.address), &made.size) != 0)
    die("listen");
  return made;
}

tcp_info facts(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
  return info;
}

bool is_connected(int fd) {
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  return getpeername(fd, reinterpret_cast<sockaddr*>(&name), &size) == 0;
}

void pass_a_byte(int from, int to) {
  char byte = 'x';
  pollfd wait{to, POLLIN, 0};
  if (send(from, &byte, 1, MSG_NOSIGNAL) != 1 || poll(&wait, 1, 10000) != 1 || recv(to, &byte, 1, 0) != 1)
    die("a byte on its way");
}

// Bytes go to and fro until the kernel sees nothing of them.
void enter_lane(int one, int other) {
  for (const auto deadline = Clock::now() + kEntering;;) {
    const auto before = facts(one).tcpi_bytes_received + facts(other).tcpi_bytes_received;
    pass_a_byte(one, other);
    pass_a_byte(other, one);
    if (!in_lane_world() || before == facts(one).tcpi_bytes_received + facts(other).tcpi_bytes_received) return;
    if (Clock::now() >= deadline) {
      errno = ETIMEDOUT;
      die("the connection did not enter its lane");
    }
    usleep(100);
  }
}

// What is still to come to `end`, or to happen to it; "" when nothing is. `peer`: a descriptor of its peer's, or -1.
std::string missing(int fd, int peer, const End& end) {
  pollfd look{fd, POLLIN | POLLOUT | POLLRDHUP | POLLPRI, 0};
  poll(&look, 1, 0);
  const auto connection = facts(fd);
  const auto state = connection.tcpi_state;
  // What comes behind urgent data cannot be counted, and on a busy machine is not there at once: who sent it knows.
  const bool under_way = end.peer->urgent && (connection.tcpi_unacked > 0 || connection.tcpi_notsent_bytes > 0);
  if (under_way || state == kFinWait1 || state == kLastAck || state == kClosing) return "an acknowledgement";
  const bool both = end.shut_out && end.peer->shut_out;
  if ((end.reset || both) && !(look.revents & POLLHUP)) return "POLLHUP";
  // Which an end that was shut both ways shows before.
  if ((end.reset || both) && is_connected(fd)) return "its end";
  if (end.peer->shut_out && !(look.revents & POLLRDHUP)) return "POLLRDHUP";
  // All has room for what programs send here, but a flow is not writable while it leaves its lane for TCP.
  if (!(look.revents & (POLLOUT | POLLHUP))) return "POLLOUT";
  int there = -1;
  // How many bytes there are before an urgent one, and whether it counts, is not known here.
  if (end.urgent && !end.reset && peer >= 0 && ioctl(peer, SIOCOUTQ, &there) == 0 && there > 0)
    return "what is on its way";
  if (end.reset || end.urgent || end.unsure) return "";
  if (ioctl(fd, FIONREAD, &there) == 0 && static_cast<size_t>(there) != end.unread)
    return std::to_string(end.unread) + " bytes, not " + std::to_string(there);
  return "";
}

}  // namespace

int entered = 0;

int Program::descriptor_of(const End& end) const {
  for (const auto& handle : handles)
    if (handle.end.get() == &end) return handle.fd;
  return -1;
}

void Program::connect(Numbers& random) {
  const bool six = !getenv("RSOCK_CONFORMANCE_ADDRESS") || getenv("RSOCK_CONFORMANCE_ADDRESS6");
  const auto family = random.one_in(4) ? mapped : random.one_in(4) && six ? v6 : v4;
  const bool hasty = random.one_in(5), nonblocking = random.one_in(3);
  auto& where = place(family);
  const int type = SOCK_STREAM | (random.one_in(2) ? SOCK_CLOEXEC : 0) | (nonblocking ? SOCK_NONBLOCK : 0);
  const int client = socket(where.name()->sa_family, type, 0);
  trace.add("connect %s%s", family == v4 ? "v4" : family == v6 ? "v6" : "mapped", nonblocking ? " nonblocking" : "");
  if (trace.result(::connect(client, where.name(), where.size)) != 0) {
    pollfd wait{client, POLLOUT, 0};
    poll(&wait, 1, 10000);
    int error = -1;
    socklen_t size = sizeof error;
    getsockopt(client, SOL_SOCKET, SO_ERROR, &error, &size);
    trace.add(" then %d", error);
  }
  const int server = accept4(where.listener, nullptr, nullptr,
                             (random.one_in(2) ? SOCK_CLOEXEC : 0) | (nonblocking ? SOCK_NONBLOCK : 0));
  if (client < 0 || server < 0) die("connect");
  trace.add(" fds %d %d", client, server);
  const int on = 1;
  for (const int fd : {client, server}) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (!hasty) {
    enter_lane(client, server);
    entered += in_lane_world();
  }
  std::shared_ptr<End> ends[2] = {std::make_shared<End>(), std::make_shared<End>()};
  for (int side = 0; side < 2; ++side) {
    ends[side]->connection = connections;
    ends[side]->side = side;
    ends[side]->family = where.name()->sa_family;
    ends[side]->nonblocking = nonblocking;
    ends[side]->hasty = hasty;
    ends[side]->peer = ends[1 - side].get();
  }
  pairs_.emplace_back(ends[0], ends[1]);
  add({Handle::Kind::socket, client, ends[0]});
  add({Handle::Kind::socket, server, ends[1]});
  ++connections;
}

void Program::settle() {
  if (!unsettled_) return;
  unsettled_ = false;
  const auto deadline = Clock::now() + kSettling;
  for (const auto& [one, other] : pairs_)
    for (auto* end : {one.get(), other.get()}) {
      const int fd = descriptor_of(*end);
      if (fd < 0) continue;
      for (;;) {
        const auto what = missing(fd, descriptor_of(*end->peer), *end);
        if (what.empty()) break;
        if (Clock::now() >= deadline) {
          trace.add("! connection %d side %d waits for %s", end->connection, end->side, what.c_str());
          trace.end();
          given_up_ = true;
          return;
        }
        usleep(20);
      }
    }
}

}  // namespace differential
