#pragma once
// The numbers of the library's own descriptors. Programs close what they do not know: a daemon all numbers up to its limit. For
// them a number that is kept here is one that is not open; the shell asks before it closes anything, or puts anything there.
//
// Any thread, no lock; a child of fork inherits the numbers. Bits in pages that are made when a number of theirs is first kept, and
// stay: a limit on descriptors may be as high as 2^30.

namespace rsock::own {

// UniqueFd does both for what it owns; rdma-core's descriptors are told of by whoever makes and destroys what they belong to.
void keep(int fd);
void forget(int fd);
bool keeps(int fd);
// The first one that is kept, from `fd` on; -1 if there is none.
int next(int fd);

}  // namespace rsock::own
