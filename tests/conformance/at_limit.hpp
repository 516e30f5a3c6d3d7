#pragma once
// A program that has as many descriptors as it may have, or nearly, with connections in their lanes.

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "child.hpp"

namespace conformance {

inline constexpr int kLimit = 96, kPairs = 4;

inline bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

inline int count_open(int limit) {
  int count = 0;
  for (int fd = 0; fd < limit; ++fd) count += is_open(fd);
  return count;
}

// For children: the connection comes into its lane, where there is one.
inline bool entered(int client, int server) {
  return eventually([=] {
    const auto before = received_by_kernel(client);
    return put(server, ".") && take(client, 1) == "." && (!in_lane_world() || received_by_kernel(client) == before);
  });
}

// A program at its limit, soft and hard: `free` numbers are left to it.
class Program {
 public:
  explicit Program(int limit = kLimit, int pairs = kPairs) : limit_(limit) {
    const rlimit both{static_cast<rlim_t>(limit), static_cast<rlim_t>(limit)};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &both) == 0);
    for (int fd = 0; fd < limit; ++fd)
      if (is_open(fd)) started_with_.push_back(fd);
    for (int i = 0; i < pairs; ++i) pairs_.push_back(connected());
  }
  int free() const {
    return limit_ - static_cast<int>(started_with_.size()) - 2 * static_cast<int>(pairs_.size()) -
           static_cast<int>(files_.size()) - others_;
  }
  // Opened by the case itself, and still open.
  void has(int others) { others_ += others; }
  // Takes numbers until as many as that are free, as far as that can be done without asking for one that may
  // be lacking.
  void fill(int left) {
    files_.emplace_back(open("/dev/null", O_RDWR | O_CLOEXEC));
    const int null = files_.front();
    for (int fd = 0; fd < limit_ && free() > left; ++fd) {
      if (is_open(fd)) continue;
      if (const long copy = syscall(SYS_fcntl, null, F_DUPFD_CLOEXEC, fd); copy >= 0)
        files_.emplace_back(static_cast<int>(copy));
    }
  }
  // By the ordinary way, as far as it goes. `lacking`: a connection is not back on TCP yet.
  void fill_up(int lacking = 0) {
    int fd;
    while ((fd = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0) files_.emplace_back(fd);
    CHECK(errno == EMFILE);
    CHECK(free() >= 0);
    CHECK(free() <= lacking);
  }
  // Neither what the case was started with nor one of a connection's.
  bool may_have(int fd) const {
    return std::find(started_with_.begin(), started_with_.end(), fd) == started_with_.end() &&
           std::none_of(pairs_.begin(), pairs_.end(),
                        [=](const auto& pair) { return fd == pair.client || fd == pair.server; });
  }
  void talk() {
    for (auto& pair : pairs_) exchange(pair.client, pair.server);
  }
  void add(int fd) {
    REQUIRE(fd >= 0);
    files_.emplace_back(fd);
  }
  void empty() { files_.clear(); }
  std::vector<Pair>& pairs() { return pairs_; }

 private:
  const int limit_;
  int others_ = 0;
  std::vector<int> started_with_;
  std::vector<Pair> pairs_;
  std::vector<Fd> files_;
};

}  // namespace conformance
