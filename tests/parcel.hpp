#pragma once
// A descriptor on its way to another process: one byte and SCM_RIGHTS, for sendmsg and recvmsg. Plain POSIX.

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstring>

namespace tests {

// To send `fd`; without one, to receive into.
struct Parcel {
  explicit Parcel(int fd = -1) {
    message.msg_iov = &piece, message.msg_iovlen = 1;
    message.msg_control = control, message.msg_controllen = sizeof control;
    auto* part = CMSG_FIRSTHDR(&message);
    *part = {CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
    std::memcpy(CMSG_DATA(part), &fd, sizeof fd);
  }
  Parcel(const Parcel&) = delete;
  // What came; -1 if it was no descriptor.
  int unpacked() {
    int fd = -1;
    const auto* part = CMSG_FIRSTHDR(&message);
    if (part && part->cmsg_type == SCM_RIGHTS) std::memcpy(&fd, CMSG_DATA(part), sizeof fd);
    return fd;
  }

  char byte = '#';
  iovec piece{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
};

}  // namespace tests
