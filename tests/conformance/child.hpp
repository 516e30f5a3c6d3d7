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

// Says back so many bytes.
inline bool answer(int fd, size_t bytes) { return put(fd, take(fd, bytes)); }
// The bytes that go in until the peer takes no more; the descriptor does not block from now on.
inline size_t stuffed(int fd) {
  set_nonblocking(fd);
  const std::string part(10000, 'x');
  size_t sent = 0;
  for (ssize_t n; (n = write(fd, part.data(), part.size())) > 0;) sent += static_cast<size_t>(n);
  return sent;
}

// Whether the stream ends with what comes next.
inline bool ended(int fd) { return awaited(fd, POLLIN) != 0 && receive(fd, 1).empty(); }

// The process at the other end says back what it is told, and then the stream ends.
inline void answers_and_ends(int fd) {
  send_all(fd, "hello");
  CHECK(receive(fd, 5) == "hello");
  CHECK(ended(fd));
}

// Bytes go to a process that says them back, until the lane carries them.
inline bool enters_lane(int fd) {
  for (const auto deadline = std::chrono::steady_clock::now() + entering();;) {
    const auto before = received_by_kernel(fd);
    send_all(fd, ".");
    REQUIRE(receive(fd, 1) == ".");
    if (!in_lane_world() || received_by_kernel(fd) == before) return true;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(100us);
  }
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
  REQUIRE(enters_lane(peer.fd));
  send_all(peer.fd, "!");
  return peer;
}

}  // namespace conformance
