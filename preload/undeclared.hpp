#pragma once
// What libc exports and the lane shell needs, but no header declares to C++, or none of glibc 2.31, on which
// the library runs. The _chk forms are what programs built with _FORTIFY_SOURCE call; their extra argument is
// the size of the object that the program's pointer points into.

#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/epoll.h>
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

// Of 2.32. Null where libc does not have it.
extern char __libc_single_threaded __attribute__((weak));
// Of 2.34 to 2.36.
pid_t _Fork() noexcept;
int close_range(unsigned first, unsigned last, int flags) noexcept;
void closefrom(int first) noexcept;
int epoll_pwait2(int set, epoll_event* events, int capacity, const timespec* timeout, const sigset_t* mask);
int execveat(int folder, const char* path, char* const* arguments, char* const* environment, int flags) noexcept;
int pidfd_getfd(int process, int theirs, unsigned flags) noexcept;
int pidfd_open(pid_t process, unsigned flags) noexcept;
}
