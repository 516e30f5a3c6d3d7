#include "pair.hpp"

#include <arpa/inet.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdlib>

namespace conformance {
namespace {

void pass_a_byte(int from, int to) {
  char byte = 'x';
  REQUIRE(send(from, &byte, 1, 0) == 1);
  REQUIRE(awaited(to, POLLIN) == POLLIN);
  REQUIRE(recv(to, &byte, 1, 0) == 1);
}

// While it lives, the lowest numbers are taken; then they are free, and below those of all that was opened meanwhile.
// The library takes the lowest number for a moment when it looks for the other end, long after connect and accept; from
// then on that is none of those that a case has closed, and holds to be nobody's.
class LowNumbers {
 public:
  LowNumbers() {
    for (auto& number : numbers_) REQUIRE((number = Fd(fcntl(0, F_DUPFD_CLOEXEC, 0))) >= 0);
  }

 private:
  std::array<Fd, 8> numbers_;
};

}  // namespace

uint64_t received_by_kernel(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  REQUIRE(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
  return info.tcpi_bytes_received;
}

bool in_lane_world() { return getenv("RSOCK_CONFORMANCE_LANE") != nullptr; }
std::chrono::seconds entering() {
  const char* told = getenv("RSOCK_CONFORMANCE_ENTERING");
  return told ? std::chrono::seconds(atoi(told)) : 20s;
}
bool anything_selected() { return getenv("RSOCK_CONFORMANCE_SELECTED") != nullptr; }

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(100us);
  }
  return true;
}

Fd stream_socket(Family family, int flags) {
  Fd fd(socket(family == Family::v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  REQUIRE(fd >= 0);
  return fd;
}

Listener listening(Family family, int backlog) {
  // RSOCK_CONFORMANCE_ADDRESS: an IPv4 address of this host that an RDMA device serves.
  const char* chosen = getenv("RSOCK_CONFORMANCE_ADDRESS");
  const auto v4 = std::string(chosen ? chosen : "127.0.0.1");
  Listener listener{stream_socket(family), {}, sizeof(sockaddr_storage)};
  sockaddr_storage name{};
  if (family == Family::v4) {
    auto& in = reinterpret_cast<sockaddr_in&>(name);
    in.sin_family = AF_INET;
    REQUIRE(inet_pton(AF_INET, v4.c_str(), &in.sin_addr) == 1);
  } else {
    auto& in6 = reinterpret_cast<sockaddr_in6&>(name);
    in6.sin6_family = AF_INET6;
    const char* chosen6 = getenv("RSOCK_CONFORMANCE_ADDRESS6");
    const auto text = family == Family::mapped ? "::ffff:" + v4 : std::string(chosen6 ? chosen6 : "::1");
    REQUIRE(inet_pton(AF_INET6, text.c_str(), &in6.sin6_addr) == 1);
  }
  REQUIRE(bind(listener.fd, reinterpret_cast<sockaddr*>(&name),
               family == Family::v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6)) == 0);
  REQUIRE(listen(listener.fd, backlog) == 0);
  REQUIRE(getsockname(listener.fd, reinterpret_cast<sockaddr*>(&listener.address), &listener.size) == 0);
  return listener;
}

Pair connected(const Options& options) {
  Pair pair;
  {
    const LowNumbers taken;
    const auto listener = listening(options.family);
    pair.client = stream_socket(options.family);
    REQUIRE(connect(pair.client, listener.name(), listener.size) == 0);
    pair.server = Fd(accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC));
    REQUIRE(pair.server >= 0);
  }
  for (const int fd : {+pair.client, +pair.server}) {
    if (options.prepare) options.prepare(fd);
    if (options.nonblocking) set_nonblocking(fd);
  }
  if (options.enter) enter_lane(pair.client, pair.server);
  return pair;
}

void enter_lane(int one, int other) {
  const auto deadline = std::chrono::steady_clock::now() + entering();
  for (;;) {
    const auto before = std::pair(received_by_kernel(one), received_by_kernel(other));
    pass_a_byte(one, other);
    pass_a_byte(other, one);
    if (!in_lane_world() || before == std::pair(received_by_kernel(one), received_by_kernel(other))) return;
    if (std::chrono::steady_clock::now() >= deadline) FAIL("the connection did not enter its lane");
    std::this_thread::sleep_for(200us);
  }
}

short polled(int fd, short events) {
  pollfd one{fd, events, 0};
  REQUIRE(poll(&one, 1, 0) >= 0);
  return one.revents;
}

short awaited(int fd, short events) {
  pollfd one{fd, events, 0};
  REQUIRE(poll(&one, 1, std::chrono::milliseconds(kPatience).count()) >= 0);
  return one.revents;
}

void arrived(int fd, int bytes) {
  int there = -1;
  const bool came = eventually([&] { return ioctl(fd, FIONREAD, &there) == 0 && there >= bytes; });
  INFO(there << " bytes can be read, not " << bytes);
  REQUIRE(came);
}

void send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto sent = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) {
      REQUIRE(awaited(fd, POLLOUT) != 0);
      continue;
    }
    REQUIRE(sent > 0);
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

std::string receive(int fd, size_t bytes) {
  std::string data(bytes, '\0');
  size_t done = 0;
  while (done < bytes) {
    const auto got = recv(fd, data.data() + done, bytes - done, 0);
    if (got < 0 && errno == EAGAIN) {
      REQUIRE(awaited(fd, POLLIN) != 0);
      continue;
    }
    REQUIRE(got >= 0);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  data.resize(done);
  return data;
}

std::string pattern(size_t size, unsigned seed) {
  std::string bytes(size, '\0');
  uint32_t state = seed * 2654435761u + 1;
  for (auto& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

size_t fill(int fd) {
  const auto block = pattern(16384);
  size_t total = 0;
  for (bool waited = false;;) {
    const auto sent = send(fd, block.data(), block.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
      total += static_cast<size_t>(sent);
      waited = false;
      continue;
    }
    REQUIRE(errno == EAGAIN);
    if (waited) return total;
    // What is on its way may still make room: too little for POLLOUT, and enough for a few bytes.
    pollfd one{fd, POLLOUT, 0};
    waited = poll(&one, 1, 20) == 0;
  }
}

void set_nonblocking(int fd, bool on) {
  const int flags = fcntl(fd, F_GETFL);
  REQUIRE(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) == 0);
}

int option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  REQUIRE(getsockopt(fd, level, name, &value, &size) == 0);
  return value;
}

void set_option(int fd, int level, int name, int value) {
  REQUIRE(setsockopt(fd, level, name, &value, sizeof value) == 0);
}

void* bad_pointer() {
  static void* page = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(page != MAP_FAILED);
  return page;
}

}  // namespace conformance
