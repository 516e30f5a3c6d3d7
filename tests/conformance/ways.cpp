#include "ways.hpp"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace conformance {
namespace {

iovec part(const void* buffer, size_t size) { return {const_cast<void*>(buffer), size}; }

// One message of one part.
struct Message {
  iovec one;
  mmsghdr header{};
  Message(const void* buffer, size_t size) : one(part(buffer, size)) {
    header.msg_hdr.msg_iov = &one;
    header.msg_hdr.msg_iovlen = 1;
  }
  ssize_t length(long messages) const { return messages == 1 ? static_cast<ssize_t>(header.msg_len) : messages; }
};

}  // namespace

const std::vector<WayIn>& ways_in() {
  static const std::vector<WayIn> all{
      {"read", [](int fd, void* to, size_t size) { return read(fd, to, size); }, false},
      {"readv",
       [](int fd, void* to, size_t size) {
         const auto one = part(to, size);
         return readv(fd, &one, 1);
       },
       false},
      {"preadv2",
       [](int fd, void* to, size_t size) {
         const auto one = part(to, size);
         return preadv2(fd, &one, 1, -1, 0);
       },
       false},
      {"preadv64v2",
       [](int fd, void* to, size_t size) {
         const auto one = part(to, size);
         return preadv64v2(fd, &one, 1, -1, 0);
       },
       false},
      {"recv", [](int fd, void* to, size_t size) { return recv(fd, to, size, 0); }, true},
      {"recvfrom", [](int fd, void* to, size_t size) { return recvfrom(fd, to, size, 0, nullptr, nullptr); }, true},
      {"recvmsg",
       [](int fd, void* to, size_t size) {
         Message message(to, size);
         return recvmsg(fd, &message.header.msg_hdr, 0);
       },
       true},
      {"recvmmsg",
       [](int fd, void* to, size_t size) {
         Message message(to, size);
         return message.length(recvmmsg(fd, &message.header, 1, 0, nullptr));
       },
       true},
      {"__read", [](int fd, void* to, size_t size) { return __read(fd, to, size); }, false},
      {"__read_chk", [](int fd, void* to, size_t size) { return __read_chk(fd, to, size, size); }, false},
      {"__recv_chk", [](int fd, void* to, size_t size) { return __recv_chk(fd, to, size, size, 0); }, true},
      {"__recvfrom_chk",
       [](int fd, void* to, size_t size) { return __recvfrom_chk(fd, to, size, size, 0, nullptr, nullptr); }, true},
      {"SYS_read", [](int fd, void* to, size_t size) { return syscall(SYS_read, fd, to, size); }, false},
      {"SYS_readv",
       [](int fd, void* to, size_t size) {
         const auto one = part(to, size);
         return syscall(SYS_readv, fd, &one, 1);
       },
       false},
      {"SYS_preadv2",
       [](int fd, void* to, size_t size) {
         const auto one = part(to, size);
         return syscall(SYS_preadv2, fd, &one, 1, -1L, -1L, 0);
       },
       false},
      {"SYS_recvfrom",
       [](int fd, void* to, size_t size) { return syscall(SYS_recvfrom, fd, to, size, 0, nullptr, nullptr); }, true},
      {"SYS_recvmsg",
       [](int fd, void* to, size_t size) {
         Message message(to, size);
         return syscall(SYS_recvmsg, fd, &message.header.msg_hdr, 0);
       },
       true},
      {"SYS_recvmmsg",
       [](int fd, void* to, size_t size) {
         Message message(to, size);
         return message.length(syscall(SYS_recvmmsg, fd, &message.header, 1, 0, nullptr));
       },
       true},
  };
  return all;
}

const std::vector<WayOut>& ways_out() {
  static const std::vector<WayOut> all{
      {"write", [](int fd, const void* from, size_t size) { return write(fd, from, size); }},
      {"writev",
       [](int fd, const void* from, size_t size) {
         const auto one = part(from, size);
         return writev(fd, &one, 1);
       },
       false},
      {"pwritev2",
       [](int fd, const void* from, size_t size) {
         const auto one = part(from, size);
         return pwritev2(fd, &one, 1, -1, 0);
       },
       false},
      {"pwritev64v2",
       [](int fd, const void* from, size_t size) {
         const auto one = part(from, size);
         return pwritev64v2(fd, &one, 1, -1, 0);
       },
       false},
      {"send", [](int fd, const void* from, size_t size) { return send(fd, from, size, 0); }},
      {"sendto", [](int fd, const void* from, size_t size) { return sendto(fd, from, size, 0, nullptr, 0); }},
      {"sendmsg",
       [](int fd, const void* from, size_t size) {
         Message message(from, size);
         return sendmsg(fd, &message.header.msg_hdr, 0);
       }},
      {"sendmmsg",
       [](int fd, const void* from, size_t size) {
         Message message(from, size);
         return message.length(sendmmsg(fd, &message.header, 1, 0));
       }},
      {"__write", [](int fd, const void* from, size_t size) { return __write(fd, from, size); }},
      {"__send", [](int fd, const void* from, size_t size) { return __send(fd, from, size, 0); }},
      {"SYS_write", [](int fd, const void* from, size_t size) { return syscall(SYS_write, fd, from, size); }},
      {"SYS_writev",
       [](int fd, const void* from, size_t size) {
         const auto one = part(from, size);
         return syscall(SYS_writev, fd, &one, 1);
       },
       false},
      {"SYS_pwritev2",
       [](int fd, const void* from, size_t size) {
         const auto one = part(from, size);
         return syscall(SYS_pwritev2, fd, &one, 1, -1L, -1L, 0);
       },
       false},
      {"SYS_sendto",
       [](int fd, const void* from, size_t size) { return syscall(SYS_sendto, fd, from, size, 0, nullptr, 0); }},
      {"SYS_sendmsg",
       [](int fd, const void* from, size_t size) {
         Message message(from, size);
         return syscall(SYS_sendmsg, fd, &message.header.msg_hdr, 0);
       }},
      {"SYS_sendmmsg",
       [](int fd, const void* from, size_t size) {
         Message message(from, size);
         return message.length(syscall(SYS_sendmmsg, fd, &message.header, 1, 0));
       }},
  };
  return all;
}

}  // namespace conformance
