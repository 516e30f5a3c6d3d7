// Calls whose answer is the shadow socket's own, whatever lane the flow is in: its names are real, an offset on it is
// ESPIPE, and a set concerns us from the first flow that is added to it. They are taken over so that the list is whole.
// Only whether it has a peer, and a name, depends on whether the connection has ended, of which the kernel may not know
// yet.

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "preload/shell.hpp"

namespace real = rsock::real;
namespace sockets = rsock::preload::sockets;
using rsock::preload::find, rsock::preload::with_room;

RSOCK_EXPORT int bind(int fd, const sockaddr* address, socklen_t size) noexcept {
  if (find(fd)) {
    rsock::preload::Uncancellable here;
    sockets::end_known(fd);
  }
  return real::bind(fd, address, size);
}
RSOCK_EXPORT int getsockname(int fd, sockaddr* address, socklen_t* size) noexcept {
  return real::getsockname(fd, address, size);
}
RSOCK_EXPORT int getpeername(int fd, sockaddr* address, socklen_t* size) noexcept {
  if (find(fd) && sockets::disconnected(fd)) return rsock::preload::fail(ENOTCONN);
  return real::getpeername(fd, address, size);
}

RSOCK_EXPORT ssize_t pread(int fd, void* to, size_t size, off_t at) { return real::pread(fd, to, size, at); }
RSOCK_EXPORT ssize_t pread64(int fd, void* to, size_t size, off64_t at) { return real::pread64(fd, to, size, at); }
RSOCK_EXPORT ssize_t preadv(int fd, const iovec* to, int count, off_t at) { return real::preadv(fd, to, count, at); }
RSOCK_EXPORT ssize_t preadv64(int fd, const iovec* to, int count, off64_t at) {
  return real::preadv64(fd, to, count, at);
}
RSOCK_EXPORT ssize_t pwrite(int fd, const void* from, size_t size, off_t at) {
  return real::pwrite(fd, from, size, at);
}
RSOCK_EXPORT ssize_t pwrite64(int fd, const void* from, size_t size, off64_t at) {
  return real::pwrite64(fd, from, size, at);
}
RSOCK_EXPORT ssize_t pwritev(int fd, const iovec* from, int count, off_t at) {
  return real::pwritev(fd, from, count, at);
}
RSOCK_EXPORT ssize_t pwritev64(int fd, const iovec* from, int count, off64_t at) {
  return real::pwritev64(fd, from, count, at);
}
RSOCK_EXPORT ssize_t __pread_chk(int fd, void* to, size_t size, off_t at, size_t object) {
  return real::__pread_chk(fd, to, size, at, object);
}
RSOCK_EXPORT ssize_t __pread64_chk(int fd, void* to, size_t size, off64_t at, size_t object) {
  return real::__pread64_chk(fd, to, size, at, object);
}

RSOCK_EXPORT ssize_t tee(int in, int out, size_t size, unsigned flags) { return real::tee(in, out, size, flags); }
RSOCK_EXPORT ssize_t vmsplice(int fd, const iovec* pieces, size_t count, unsigned flags) {
  return real::vmsplice(fd, pieces, count, flags);
}
RSOCK_EXPORT ssize_t copy_file_range(int in, off64_t* in_at, int out, off64_t* out_at, size_t size, unsigned flags) {
  return real::copy_file_range(in, in_at, out, out_at, size, flags);
}

RSOCK_EXPORT int epoll_create(int size) noexcept { return with_room<real::epoll_create>(size); }
RSOCK_EXPORT int epoll_create1(int flags) noexcept { return with_room<real::epoll_create1>(flags); }
