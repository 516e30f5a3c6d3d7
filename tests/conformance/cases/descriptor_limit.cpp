// A process takes from itself what descriptors it may have, as sandboxes do, while its connection is in its
// lane.

#include <sys/resource.h>

#include <ctime>

#include "../child.hpp"
#include "../sets.hpp"

using namespace conformance;

namespace {

bool limited_to(rlim_t most) {
  const rlimit limit{most, most};
  return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

fd_set only(int fd) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(fd, &set);
  return set;
}

std::chrono::nanoseconds processor_time() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

// Asks for bytes that come a while after, and waits for them with `wait`; without much work.
template <class Wait>
bool waits(int fd, Wait wait) {
  if (!put(fd, "?")) return false;
  const auto before = processor_time();
  const bool right = wait();
  return right && processor_time() - before < 60ms && take(fd, 1) == "!";
}

}  // namespace

TEST_CASE("setrlimit: of descriptors, to few or none: every wait for a connection",
          "[recv][select][poll][epoll_wait][send][close]") {
  for (const rlim_t most : {0, 1, 2, 3, 4}) {
    CAPTURE(most);
    auto peer = peer_that([&](int fd) {
      const int set = epoll_create1(EPOLL_CLOEXEC);
      epoll_event event{EPOLLIN, {}};
      if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0) return 1;
      if (!limited_to(most)) return 2;
      char byte;
      for (int round = 0; round < 3; ++round) {
        if (!waits(fd, [&] { return recv(fd, &byte, 1, MSG_PEEK) == 1; })) return 3;
        if (!waits(fd, [&] { return epoll_wait(set, &event, 1, 5000) == 1; })) return 4;
        if (!waits(fd, [&] {
              auto reads = only(fd);
              timeval time{5, 0};
              return select(fd + 1, &reads, nullptr, nullptr, &time) == 1 && FD_ISSET(fd, &reads);
            }))
          return 5;
        pollfd one{fd, POLLIN, 0};
        if (most > 0 && !waits(fd, [&] { return poll(&one, 1, 5000) == 1; })) return 6;
        const timeval limit{0, 30'000};
        if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0) return 7;
        if (recv(fd, &byte, 1, 0) != -1 || errno != EAGAIN) return 8;
        const timeval none{};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
      }
      if (dup(fd) != -1 || errno != EMFILE) return 9;
      if (!put(fd, ".") || !put(fd, pattern(8 << 20))) return 10;  // waits for room
      return take(fd, 1).empty() ? 7 : 11;
    });
    for (std::string asked = receive(peer.fd, 1); asked == "?"; asked = receive(peer.fd, 1)) {
      std::this_thread::sleep_for(15ms);
      send_all(peer.fd, "!");
    }
    CHECK(receive(peer.fd, 8 << 20) == pattern(8 << 20));
    CHECK(shutdown(peer.fd, SHUT_WR) == 0);
    CHECK(status_of(peer.child) == 7);
  }
}

TEST_CASE("setrlimit: of descriptors, to none: the other end closes, or resets", "[recv][close]") {
  for (const bool resets : {false, true}) {
    auto peer = peer_that([&](int fd) {
      if (!limited_to(0) || !put(fd, "?")) return 1;
      char byte;
      const auto got = recv(fd, &byte, 1, 0);
      return (resets ? got == -1 && errno == ECONNRESET : got == 0) ? 7 : 2;
    });
    CHECK(receive(peer.fd, 1) == "?");
    const linger hard{1, 0};
    if (resets) REQUIRE(setsockopt(peer.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
    peer.fd.close();
    CHECK(status_of(peer.child) == 7);
  }
}

TEST_CASE("setrlimit: of descriptors: poll of as many as there may be, and one more", "[poll][ppoll]") {
  auto peer = peer_that([&](int fd) {
    int ends[2];
    if (pipe(ends) != 0) return 1;
    std::vector<pollfd> list(100, pollfd{ends[0], POLLIN, 0});
    list[50].fd = fd;
    if (!limited_to(99)) return 2;
    if (poll(list.data(), 100, 0) != -1 || errno != EINVAL) return 3;
    if (poll(list.data(), 99, 0) != 0) return 4;
    if (!waits(fd, [&] { return poll(list.data(), 99, 5000) == 1 && list[50].revents == POLLIN; })) return 5;
    list.assign(3, pollfd{ends[0], POLLIN, 0});
    list[1].fd = fd;
    if (!limited_to(2)) return 6;
    if (poll(list.data(), 3, 10) != -1 || errno != EINVAL) return 8;
    if (!waits(fd, [&] { return poll(list.data(), 2, 5000) == 1 && list[1].revents == POLLIN; })) return 9;
    return put(fd, ".") ? 7 : 10;
  });
  for (std::string asked = receive(peer.fd, 1); asked == "?"; asked = receive(peer.fd, 1)) {
    std::this_thread::sleep_for(15ms);
    send_all(peer.fd, "!");
  }
  CHECK(status_of(peer.child) == 7);
}

TEST_CASE("setrlimit: of descriptors: select of many more", "[select]") {
  auto peer = peer_that([&](int fd) {
    int ends[2];
    if (pipe(ends) != 0) return 1;
    fd_set reads = only(fd);
    int last = 0;
    for (int i = 0; i < 100; ++i) {
      last = dup(ends[0]);
      FD_SET(last, &reads);
    }
    if (!limited_to(2)) return 2;
    const auto all = reads;
    if (!waits(fd, [&] {
          timeval time{5, 0};
          reads = all;
          return select(std::max(fd, last) + 1, &reads, nullptr, nullptr, &time) == 1 && FD_ISSET(fd, &reads);
        }))
      return 3;
    return put(fd, ".") ? 7 : 4;
  });
  for (std::string asked = receive(peer.fd, 1); asked == "?"; asked = receive(peer.fd, 1)) {
    std::this_thread::sleep_for(15ms);
    send_all(peer.fd, "!");
  }
  CHECK(status_of(peer.child) == 7);
}
