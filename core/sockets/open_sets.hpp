#pragma once
// The epoll sets of this process as /proc tells of them. Slow: for the rare question who else has to do with a set.

#include <cstdint>
#include <span>
#include <vector>

namespace rsock::sockets {

struct OpenSet {
  struct Member {
    int fd;  // by which it was added
    uint64_t data;
  };
  int fd;
  std::vector<Member> members;
  bool has_data(uint64_t data) const;
  bool has_member(int fd) const;
};

// Whether the set at `fd` is empty; false where that is not known. Any thread.
bool is_empty_set(int fd);

// All epoll descriptors of this process but those in `except`. Under the engine's lock; empty without /proc.
std::vector<OpenSet> open_sets(std::span<const int> except);

}  // namespace rsock::sockets
