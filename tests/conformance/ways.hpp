#pragma once
// All the ways to read bytes from a socket and to write them, as if each were read(2) or write(2): for rules that hold
// for every one of them. By libc's names, the names of fortified programs, and by number.

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#define EVERY_WAY_IN "[read][readv][preadv2][preadv64v2][recv][recvfrom][recvmsg][recvmmsg][syscall]"
#define EVERY_WAY_OUT "[write][writev][pwritev2][pwritev64v2][send][sendto][sendmsg][sendmmsg][syscall]"

namespace conformance {

struct WayIn {
  std::string name;
  std::function<ssize_t(int fd, void* buffer, size_t size)> take;
  bool like_recv;  // of nothing it waits, as recv does; read gives 0 at once
};
struct WayOut {
  std::string name;
  std::function<ssize_t(int fd, const void* buffer, size_t size)> give;
  bool like_send = true;  // of nothing, too, it fails when the stream is over; writev gives 0 at once
};

const std::vector<WayIn>& ways_in();
const std::vector<WayOut>& ways_out();

}  // namespace conformance

// What programs call that were built with _FORTIFY_SOURCE, and libc's second names.
extern "C" {
ssize_t __read_chk(int fd, void* buffer, size_t size, size_t object);
ssize_t __recv_chk(int fd, void* buffer, size_t size, size_t object, int flags);
ssize_t __recvfrom_chk(int fd, void* buffer, size_t size, size_t object, int flags, struct sockaddr* address,
                       unsigned* address_size);
ssize_t __pread_chk(int fd, void* buffer, size_t size, off_t offset, size_t object);
ssize_t __pread64_chk(int fd, void* buffer, size_t size, off64_t offset, size_t object);
ssize_t __read(int fd, void* buffer, size_t size);
ssize_t __write(int fd, const void* buffer, size_t size);
ssize_t __send(int fd, const void* buffer, size_t size, int flags);
int __dprintf_chk(int fd, int flag, const char* format, ...);
}
