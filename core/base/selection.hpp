#pragma once
// A list as poll takes it, in the sets of select, which takes any number of descriptors: the kernel's poll
// takes no more than the process may have now (RLIMIT_NOFILE), which may be none.

#include <poll.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <span>
#include <vector>

#include "core/base/result.hpp"

namespace rsock {

class Selection {
 public:
  explicit Selection(std::span<const pollfd> list) {
    for (const auto& one : list) count_ = std::max(count_, one.fd + 1);
    const auto words = (static_cast<size_t>(count_) + kBits - 1) / kBits;
    for (auto* set : {&in_, &out_, &urgent_}) set->resize(words);
    for (const auto& one : list) {
      if (one.fd < 0) continue;
      if (one.events & (POLLIN | POLLRDNORM | POLLRDBAND | POLLRDHUP)) put(in_, one.fd);
      if (one.events & (POLLOUT | POLLWRNORM | POLLWRBAND)) put(out_, one.fd);
      if (one.events & POLLPRI) put(urgent_, one.fd);
    }
  }
  // select(2), in which no thread is cancelled: how many are ready, or an errno. It is done once.
  Result<int> select(const timespec& time, const sigset_t* mask);
  // What select has left, in poll's terms.
  short revents(int fd) const {
    if (fd < 0 || fd >= count_) return 0;
    return static_cast<short>((has(in_, fd) ? POLLIN : 0) | (has(out_, fd) ? POLLOUT : 0) |
                              (has(urgent_, fd) ? POLLPRI : 0));
  }

 private:
  using Words = std::vector<unsigned long>;
  static constexpr size_t kBits = 8 * sizeof(unsigned long);
  static unsigned long bit(int fd) { return 1ul << static_cast<size_t>(fd) % kBits; }
  static void put(Words& words, int fd) { words[static_cast<size_t>(fd) / kBits] |= bit(fd); }
  static bool has(const Words& words, int fd) { return words[static_cast<size_t>(fd) / kBits] & bit(fd); }

  int count_ = 0;
  Words in_, out_, urgent_;
};

// poll(2) without waiting. EINVAL: these are more than the process may have descriptors.
Result<int> poll_now(std::span<pollfd> fds);

}  // namespace rsock
