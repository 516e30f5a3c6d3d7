#pragma once
// What libc exports and the lane shell needs, but no header declares to C++. The _chk forms are what programs
// built with _FORTIFY_SOURCE call; their extra argument is the size of the object that the program's pointer
// points into.

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>

#include <cstddef>

extern "C" {
[[noreturn]] void __chk_fail();
ssize_t __read_chk(int fd, void* buffer, size_t size, size_t object);
ssize_t __pread_chk(int fd, void* buffer, size_t size, off_t offset, size_t object);
ssize_t __pread64_chk(int fd, void* buffer, size_t size, off64_t offset, size_t object);
ssize_t __recv_chk(int fd, void* buffer, size_t size, size_t object, int flags);
ssize_t __recvfrom_chk(int fd, void* buffer, size_t size, size_t object, int flags, sockaddr* address,
                       socklen_t* address_size);
int __poll_chk(pollfd* fds, nfds_t count, int timeout, size_t object);
int __ppoll_chk(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask, size_t object);
int __vdprintf_chk(int fd, int flag, const char* format, va_list arguments);
int __dprintf_chk(int fd, int flag, const char* format, ...);
// Registered with a null `library`, a handler runs in exit(3) itself and not when one library is finalised.
int __cxa_atexit(void (*handler)(void*), void* argument, void* library) noexcept;
}
