#pragma once
// The numbers of the library's own descriptors. Programs close what they do not know: a daemon all numbers up to its
// limit. For them a number that is kept here is one that is not open; the shell asks before it closes anything, or puts
// anything there.
//
// Any thread, no lock; a child of fork inherits the numbers. Bits in pages that are made when a number of theirs is
// first kept, and stay: a limit on descriptors may be as high as 2^30.

#include <atomic>
#include <climits>

namespace rsock::own {

// No number below is kept: most numbers of programs are.
inline constinit std::atomic<int> lowest{INT_MAX};

// UniqueFd does both for what it owns; rdma-core's descriptors are told of by whoever makes and destroys what they
// belong to.
void keep(int fd);
void forget(int fd);
bool keeps(int fd);
// A thread that runs none of the program's code, as the library's own: what it closes through the shell is rdma-core's
// to close.
extern thread_local constinit bool trusted __attribute__((tls_model("initial-exec")));
// What is asked first, by a comparison.
inline bool may_keep(int fd) { return fd >= lowest.load(std::memory_order_relaxed); }
// The library has some.
inline bool any() { return lowest.load(std::memory_order_relaxed) != INT_MAX; }
// The first one that is kept, from `fd` on; -1 if there is none.
int next(int fd);

}  // namespace rsock::own
