#pragma once
// Processes of a case. What runs in a child makes no assertions: its exit status tells, 0 that all was right.

#include <signal.h>
#include <sys/wait.h>

#include "pair.hpp"

namespace conformance {

// A status that no case returns: killed, or never ended.
inline constexpr int kLost = 1000;

// The exit status of a child that is to end soon.
inline int status_of(pid_t child) {
  int status = 0;
  const bool ended = eventually([&] { return waitpid(child, &status, WNOHANG) == child; });
  if (!ended) {
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
  }
  return ended && WIFEXITED(status) ? WEXITSTATUS(status) : kLost + (WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

// A child that does `work` and ends with what it returns.
template <class Work>
pid_t child_that(Work work) {
  const pid_t child = fork();
  if (child == 0) _exit(work());
  REQUIRE(child > 0);
  return child;
}

// A pipe: one process waits for what another says.
struct Signal {
  Fd in, out;
  Signal() {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    in = Fd(ends[0]), out = Fd(ends[1]);
  }
  void give() const { (void)!write(out, "!", 1); }
  // False if that never comes.
  bool wait() const {
    char byte;
    pollfd one{in, POLLIN, 0};
    return poll(&one, 1, 10000) == 1 && read(in, &byte, 1) == 1;
  }
};

// Both directions carry a few bytes.
inline void exchange(int one, int other) {
  send_all(one, "to the other");
  CHECK(receive(other, 12) == "to the other");
  send_all(other, "and back");
  CHECK(receive(one, 8) == "and back");
}

// For children: everything is read and written as it is, with no assertion.
inline bool put(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto sent = write(fd, bytes.data(), bytes.size());
    if (sent < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}
inline std::string take(int fd, size_t size) {
  std::string bytes(size, 0);
  size_t done = 0;
  while (done < size) {
    const auto got = read(fd, bytes.data() + done, size - done);
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

// A child that has the connecting end of a connection to this process, in its lane, and then does `work(fd)`.
struct Peer {
  Fd fd;
  pid_t child = -1;
};
template <class Work>
Peer peer_that(Work work) {
  const auto listener = listening();
  Peer peer;
  peer.child = child_that([&] {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, listener.name(), listener.size) != 0) return 101;
    // Says back what it hears, until it hears that the lane is there.
    for (std::string heard = take(fd, 1); heard != "!"; heard = take(fd, 1))
      if (heard.empty() || !put(fd, heard)) return 102;
    return work(fd);
  });
  peer.fd = Fd(accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(peer.fd >= 0);
  const auto received = [&] {
    tcp_info info{};
    socklen_t size = sizeof info;
    REQUIRE(getsockopt(peer.fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
    return info.tcpi_bytes_received;
  };
  const bool entered = eventually([&] {
    const auto before = received();
    send_all(peer.fd, ".");
    REQUIRE(receive(peer.fd, 1) == ".");
    return !in_lane_world() || received() == before;
  });
  REQUIRE(entered);
  send_all(peer.fd, "!");
  return peer;
}

}  // namespace conformance
