#pragma once
// The operating system as the core sees it. librsock.so redefines most socket calls, so the core must never
// call one of them by name: it would come back to itself. The shell hands in what it needs (the next definitions
// in link order), tests hand in libc's.
//
// Everything in namespace sys goes through libc's syscall(2), which is not a cancellation point: a cancelled
// thread can never unwind out of these calls with one of our locks held. Only the three waits are cancellation points.

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstdint>
#include <type_traits>

#include "core/base/result.hpp"

namespace rsock {

struct Kernel {
  // libc's syscall(2). Its arguments are words: of an int that is given to it as such, half a word is anything.
  template <class... Arguments>
  long syscall(long number, Arguments... arguments) const {
    return words(number, word(arguments)...);
  }

  long (*words)(long number, ...);
  int (*epoll_pwait2)(int, epoll_event*, int, const timespec*, const sigset_t*);
  int (*ppoll)(pollfd*, nfds_t, const timespec*, const sigset_t*);

 private:
  template <class Argument>
  static auto word(Argument argument) {
    if constexpr (std::is_null_pointer_v<Argument>)
      return static_cast<void*>(nullptr);
    else if constexpr (std::is_pointer_v<Argument>)
      return argument;
    else
      return static_cast<long>(argument);
  }
};

// Set once, before the first flow exists, by whoever links the core.
extern Kernel kernel;

namespace sys {

Result<size_t> recvmsg(int fd, msghdr& message, int flags);
Result<size_t> sendmsg(int fd, const msghdr& message, int flags);
Result<size_t> recv(int fd, void* buffer, size_t size, int flags);
Result<size_t> send(int fd, const void* buffer, size_t size, int flags);
Result<size_t> read(int fd, void* buffer, size_t size);
Result<size_t> write(int fd, const void* buffer, size_t size);
Status close(int fd);
Result<int> socket(int domain, int type, int protocol);
Status bind(int fd, const sockaddr* address, socklen_t size);
Status listen(int fd, int backlog);
Result<int> accept(int fd, int flags);
Status connect(int fd, const sockaddr* address, socklen_t size);
Status shutdown(int fd, int how);
Result<int> open(const char* path, int flags, unsigned mode);
Result<int> fcntl(int fd, int command, long argument);
Result<int> ioctl(int fd, unsigned long request, void* argument);
Result<int> eventfd(unsigned initial, int flags);
Result<int> epoll_create();
Status epoll_ctl(int set, int operation, int fd, epoll_event* event);
// A read would begin at, or step over, urgent data.
bool at_urgent_mark(int fd);
// All that poll(2) would report now, as epoll events.
uint32_t readiness(int fd);
// Never blocks.
Result<int> epoll_poll(int set, epoll_event* events, int capacity);
Result<int> epoll_sleep(int set, epoll_event* events, int capacity, int timeout_ms);
Status getsockopt(int fd, int level, int name, void* value, socklen_t& size);
// SO_COOKIE, by which processes that share a socket know it. 0 if it has none.
uint64_t cookie(int fd);
Status setsockopt(int fd, int level, int name, const void* value, socklen_t size);
Status getsockname(int fd, sockaddr_storage& address);
Status getpeername(int fd, sockaddr_storage& address);
int process_id();
int thread_id();
void random(void* bytes, size_t size);
// Memory anywhere that may be read and written; `flags` as of mmap.
Result<void*> map(size_t size, int flags, int fd = -1);
void unmap(void* at, size_t size);

// A descriptor of the library's own, moved out of the program's way: above the soft limit on descriptors where the
// hard limit leaves room, so that the program neither meets its number nor has one less to use; else from 1024 or half the
// limit on, where few programs come; close-on-exec. EMFILE when there is no room.
Result<int> duplicate_high(int fd);
// The same for `fd` itself: the number that it has from now on. Its own where there is no room.
int move_high(int fd);
// Puts a copy of `fd` at `number`, in place of what is open there. Close-on-exec.
void duplicate_onto(int fd, int number);

}  // namespace sys
}  // namespace rsock
