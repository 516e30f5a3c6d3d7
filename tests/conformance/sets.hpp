#pragma once
// Epoll sets, and what is ready in words: for the cases about waiting.

#include <sys/eventfd.h>

#include <algorithm>
#include <vector>

#include "pair.hpp"

namespace conformance {

// All that poll and epoll can report, as poll's bits: epoll's have the same numbers.
inline constexpr short kAllEvents =
    POLLIN | POLLPRI | POLLOUT | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND | POLLRDHUP;

// "IN OUT": the names of the bits, in this order.
inline std::string names(uint32_t events) {
  constexpr std::pair<uint32_t, const char*> kNames[] = {
      {EPOLLIN, "IN"},         {EPOLLPRI, "PRI"},       {EPOLLOUT, "OUT"},       {EPOLLRDNORM, "RDNORM"},
      {EPOLLRDBAND, "RDBAND"}, {EPOLLWRNORM, "WRNORM"}, {EPOLLWRBAND, "WRBAND"}, {EPOLLMSG, "MSG"},
      {EPOLLRDHUP, "RDHUP"},   {EPOLLERR, "ERR"},       {EPOLLHUP, "HUP"},       {POLLNVAL, "NVAL"},
  };
  std::string said;
  for (const auto& [bit, name] : kNames)
    if (events & bit) said += (said.empty() ? "" : " ") + std::string(name), events &= ~bit;
  if (events) said += " and " + std::to_string(events);
  return said;
}

class EpollSet {
 public:
  EpollSet() : fd_(epoll_create1(EPOLL_CLOEXEC)) { REQUIRE(fd_ >= 0); }
  explicit EpollSet(Fd fd) : fd_(std::move(fd)) {}
  operator int() const { return fd_; }
  void close() { fd_.close(); }

  int control(int operation, int fd, uint32_t events, uint64_t data) const {
    epoll_event event{};
    event.events = events;
    event.data.u64 = data;
    return epoll_ctl(fd_, operation, fd, &event);
  }
  // The data is the number of the descriptor, unless told otherwise.
  void add(int fd, uint32_t events) const { add(fd, events, static_cast<uint64_t>(fd)); }
  void add(int fd, uint32_t events, uint64_t data) const { REQUIRE(control(EPOLL_CTL_ADD, fd, events, data) == 0); }
  void modify(int fd, uint32_t events) const { modify(fd, events, static_cast<uint64_t>(fd)); }
  void modify(int fd, uint32_t events, uint64_t data) const { REQUIRE(control(EPOLL_CTL_MOD, fd, events, data) == 0); }
  void remove(int fd) const { REQUIRE(epoll_ctl(fd_, EPOLL_CTL_DEL, fd, nullptr) == 0); }

  std::vector<epoll_event> wait(std::chrono::milliseconds time = 0ms, int capacity = 16) const {
    std::vector<epoll_event> events(static_cast<size_t>(capacity));
    const int count = epoll_wait(fd_, events.data(), capacity, static_cast<int>(time.count()));
    REQUIRE(count >= 0);
    events.resize(static_cast<size_t>(count));
    return events;
  }
  // What is reported now for the one descriptor that may be: "" if nothing is.
  std::string report(std::chrono::milliseconds time = 0ms) const {
    const auto events = wait(time);
    REQUIRE(events.size() <= 1);
    return events.empty() ? "" : names(events[0].events);
  }
  // The same of what has to come.
  std::string next_report() const { return report(std::chrono::milliseconds(kPatience)); }
  // Nothing is reported, for a while.
  bool quiet(std::chrono::milliseconds time = 20ms) const { return wait(time).empty(); }

 private:
  Fd fd_;
};

struct Pipe {
  Fd out, in;  // out: where bytes come out
};
inline Pipe a_pipe() {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
  return {Fd(ends[0]), Fd(ends[1])};
}

// The peer of `pair.client` resets the connection, and the client has heard of it.
inline void reset_by_peer(Pair& pair) {
  const linger hard{1, 0};
  REQUIRE(setsockopt(pair.server, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
  pair.server.close();
  REQUIRE((awaited(pair.client, POLLIN) & POLLERR) != 0);
}

inline std::chrono::microseconds since(std::chrono::steady_clock::time_point begun) {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begun);
}

// The server sends `bytes`, and they are there for the client to read.
inline void arrive(const Pair& pair, std::string_view bytes) {
  int before = 0;
  REQUIRE(ioctl(pair.client, FIONREAD, &before) == 0);
  send_all(pair.server, bytes);
  arrived(pair.client, before + static_cast<int>(bytes.size()));
}

}  // namespace conformance
