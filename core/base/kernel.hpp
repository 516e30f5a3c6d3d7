#pragma once
// The operating system as the core sees it. librsock.so redefines most socket calls, so the core must never call one of
// them by name: it would come back to itself. Nor may what it does for itself come by the next library that has taken
// over a name (another preload behind this one): system calls are made by an instruction of our own, and the shell
// hands in libc's own functions for the few that have to be functions. Tests hand in those that they are linked to.
//
// Everything in namespace sys is no cancellation point: a cancelled thread can never unwind out of these calls with one
// of our locks held. Only the two waits are cancellation points.

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>

#include <atomic>
#include <cstdint>

#include "core/base/duration.hpp"
#include "core/base/result.hpp"
#include "core/base/system_call.hpp"

namespace rsock {

struct Kernel {
  // As libc's syscall(2): -1 and errno.
  template <class... Arguments>
  long syscall(long number, Arguments... arguments) const {
    const long answer = system_call(number, arguments...);
    if (!is_error(answer)) return answer;
    errno = static_cast<int>(-answer);
    return -1;
  }

  // Null where libc has none.
  int (*epoll_pwait2)(int, epoll_event*, int, const timespec*, const sigset_t*);
  int (*ppoll)(pollfd*, nfds_t, const timespec*, const sigset_t*);
  int (*clock_gettime)(clockid_t, timespec*);  // a function, since it need not enter the kernel
};

// Set once, before the first flow exists, by whoever links the core.
extern Kernel kernel;

namespace sys {

Result<size_t> recvmsg(int fd, msghdr& message, int flags);
Result<size_t> sendmsg(int fd, const msghdr& message, int flags);
Result<size_t> recv(int fd, void* buffer, size_t size, int flags);
Result<size_t> send(int fd, const void* buffer, size_t size, int flags);
// The `size` bytes behind the first `skip` that a stream has: all of them, or EAGAIN. Takes none, and does not wait.
Status peek_at(int fd, uint64_t skip, void* buffer, size_t size);
Result<size_t> read(int fd, void* buffer, size_t size);
Result<size_t> write(int fd, const void* buffer, size_t size);
Status close(int fd);
Result<int> socket(int domain, int type, int protocol);
Status bind(int fd, const sockaddr* address, socklen_t size);
Status listen(int fd, int backlog);
Result<int> accept(int fd, int flags);
Status connect(int fd, const sockaddr* address, socklen_t size);
// The connection ends by a reset, at once, whoever has the socket.
void dissolve(int fd);
Status shutdown(int fd, int how);
Result<int> open(const char* path, int flags, unsigned mode);
Result<int> fcntl(int fd, int command, long argument);
Result<int> ioctl(int fd, unsigned long request, void* argument);
Result<int> eventfd(unsigned initial, int flags);
Status socket_pair(int type, int (&ends)[2]);
Result<int> epoll_create();
Result<int> memfd_create(const char* name, unsigned flags);
Result<int> pidfd_open(pid_t of, unsigned flags);
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
// TCP's state, of those in <netinet/tcp.h>; and whether the peer's stream has ended in it: one that was shut down here
// as well, or reset, is closed.
Result<uint8_t> tcp_state(int fd);
bool peer_has_ended(uint8_t tcp_state);
Status stat_of(int fd, struct stat& facts);
Status file_system_of(int fd, struct statfs& facts);
// Memory of a size that nobody can change (memfd_create(2)). No file system is asked, which might never answer.
bool is_sealed(int fd);
uid_t effective_user();
int process_id();
int thread_id();
// Sleeps while the word has this value, until somebody wakes or the time is over. Both within one process.
void futex_sleep(const std::atomic<uint32_t>& word, uint32_t value, Duration most);
void futex_wake(const std::atomic<uint32_t>& word, int most = 1);
// The process ends by the default of this signal, whatever its action and the masks of its threads are.
[[noreturn]] void die_by(int signal);
// Unpredictable bytes. An error where the process may have none: whoever needs them does without a lane.
Status random(void* bytes, size_t size);
// Memory anywhere that may be read and written; `flags` as of mmap.
Result<void*> map(size_t size, int flags, int fd = -1);
// The same, but its pages are had when they are touched, also in a process that locks whatever it maps (mlockall with
// MCL_FUTURE).
Result<void*> map_unlocked(size_t size, int flags, int fd);
void unmap(void* at, size_t size);
// madvise(2), for memory that was mapped.
Status advise(void* at, size_t size, int advice);

// A descriptor of the library's own, moved out of the program's way: above the soft limit on descriptors where the
// hard limit leaves room, so that the program neither meets its number nor has one less to use; else from 1024 or half
// the limit on, where few programs come; close-on-exec. EMFILE when there is no room.
Result<int> duplicate_high(int fd);
// The same for `fd` itself: the number that it has from now on. Its own where there is no room.
int move_high(int fd);
// Puts a copy of `fd` at `number`, in place of what is open there. Close-on-exec.
void duplicate_onto(int fd, int number);

}  // namespace sys
}  // namespace rsock
