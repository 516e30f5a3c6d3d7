#pragma once
// Whose socket is at the other end of a TCP connection, if that end is on this host. The kernel tells by
// socket diagnosis; where a sandbox forbids that, in /proc/net/tcp, which is slow to read.
//
// A socket counts once a program has it: established, and accepted. Until then it shows as root's. The end
// that asks is looked up too, and has to be the very socket: else the thread that asks is in another network
// namespace, where other sockets may have the same addresses and ports.

#include <sys/types.h>

#include <string_view>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/endpoint.hpp"
#include "core/base/result.hpp"

namespace rsock {

// An end that is ours.
struct TcpEnd {
  Endpoint local, remote;
  uint64_t inode = 0;  // of its socket
};

// 0 if there is no such descriptor.
uint64_t inode_of(int fd);

// By socket diagnosis: any thread, also with a lock held; some microseconds. ENOENT: no program has the other
// end, on this host. ENOSYS: diagnosis is not to be had here, or does not know our own end. EMFILE, ENFILE:
// no descriptor to ask with.
Result<uid_t> diagnosed_owner(const TcpEnd& end);

// The same, and by the kernel's table where there is no diagnosis. One thread's; reads files. What was read
// is kept: while our end is the same socket, so is the other.
class SocketOwners {
 public:
  // Whether anything here tells: without, nobody need be asked. Errors as below. Once it does, it is not
  // looked at again.
  Status can_tell();
  // ENOENT, ENOSYS, EMFILE, ENFILE: as above. EAGAIN: later, since the table takes long to read and was read
  // just now.
  Result<uid_t> peer_of(const TcpEnd& end);

  struct Row {
    Endpoint local, remote;
    uint64_t inode;
    uid_t owner;
  };

 private:
  Result<uid_t> find(const TcpEnd& end) const;
  Status read();

  bool tells_ = false;
  std::vector<Row> rows_;  // by their ends
  Time next_reading_{};
};

// A line of /proc/net/tcp or tcp6, if it is of a socket that counts.
bool parse_tcp_row(std::string_view line, SocketOwners::Row& row);

// False for the number that stands for all users of whom this user namespace does not know. Reads files.
bool is_one_user(uid_t user);

// Whether that is root, or the user of this process, in a number that stands for one. Reads files.
bool is_root_or_own(uid_t user);

// Whether this process shares memory with those of `user`: of the same user, or one of them root. The number
// that stands for all users of whom this user namespace does not know is nobody's.
bool may_share_memory(uid_t user);

}  // namespace rsock
