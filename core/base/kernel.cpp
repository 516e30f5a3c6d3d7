#include "core/base/kernel.hpp"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace rsock {

constinit Kernel kernel{};

namespace sys {
namespace {

// errno belongs to the program: it is put back, and errors travel as values.
template <class... Arguments>
long call(long number, Arguments... arguments) {
  const int saved = errno;
  long result = kernel.syscall(number, arguments...);
  if (result < 0) result = -errno;
  errno = saved;
  return result;
}

template <class T>
Result<T> value(long result) {
  if (result < 0) return Errno{static_cast<int>(-result)};
  return static_cast<T>(result);
}

Status status(long result) {
  if (result < 0) return Errno{static_cast<int>(-result)};
  return Done{};
}

}  // namespace

Result<size_t> recvmsg(int fd, msghdr& message, int flags) {
  return value<size_t>(call(SYS_recvmsg, fd, &message, flags));
}
Result<size_t> sendmsg(int fd, const msghdr& message, int flags) {
  return value<size_t>(call(SYS_sendmsg, fd, &message, flags));
}
Result<size_t> recv(int fd, void* buffer, size_t size, int flags) {
  return value<size_t>(call(SYS_recvfrom, fd, buffer, size, flags, nullptr, nullptr));
}
Result<size_t> send(int fd, const void* buffer, size_t size, int flags) {
  return value<size_t>(call(SYS_sendto, fd, buffer, size, flags, nullptr, 0));
}
Result<size_t> read(int fd, void* buffer, size_t size) {
  return value<size_t>(call(SYS_read, fd, buffer, size));
}
Result<size_t> write(int fd, const void* buffer, size_t size) {
  return value<size_t>(call(SYS_write, fd, buffer, size));
}
Status close(int fd) { return status(call(SYS_close, fd)); }
Result<int> socket(int domain, int type, int protocol) { return value<int>(call(SYS_socket, domain, type, protocol)); }
Status bind(int fd, const sockaddr* address, socklen_t size) { return status(call(SYS_bind, fd, address, size)); }
Status listen(int fd, int backlog) { return status(call(SYS_listen, fd, backlog)); }
Result<int> accept(int fd, int flags) { return value<int>(call(SYS_accept4, fd, nullptr, nullptr, flags)); }
Status connect(int fd, const sockaddr* address, socklen_t size) { return status(call(SYS_connect, fd, address, size)); }
Status shutdown(int fd, int how) { return status(call(SYS_shutdown, fd, how)); }
Result<int> open(const char* path, int flags, unsigned mode) {
  return value<int>(call(SYS_openat, AT_FDCWD, path, flags, mode));
}
Result<int> fcntl(int fd, int command, long argument) {
  return value<int>(call(SYS_fcntl, fd, command, argument));
}
Result<int> ioctl(int fd, unsigned long request, void* argument) {
  return value<int>(call(SYS_ioctl, fd, request, argument));
}
Result<int> eventfd(unsigned initial, int flags) { return value<int>(call(SYS_eventfd2, initial, flags)); }
Result<int> epoll_create() { return value<int>(call(SYS_epoll_create1, EPOLL_CLOEXEC)); }
Status epoll_ctl(int set, int operation, int fd, epoll_event* event) {
  return status(call(SYS_epoll_ctl, set, operation, fd, event));
}
bool at_urgent_mark(int fd) {
  int mark = 0;
  return ioctl(fd, SIOCATMARK, &mark) && mark;
}
uint32_t readiness(int fd) {
  constexpr short kAll = POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND;
  pollfd asked{fd, kAll, 0};
  const timespec none{};
  return call(SYS_ppoll, &asked, 1, &none, nullptr, 0) > 0 ? static_cast<uint16_t>(asked.revents) : 0;
}
Result<int> epoll_poll(int set, epoll_event* events, int capacity) {
  return epoll_sleep(set, events, capacity, 0);
}
Result<int> epoll_sleep(int set, epoll_event* events, int capacity, int timeout_ms) {
  return value<int>(call(SYS_epoll_pwait, set, events, capacity, timeout_ms, nullptr, 0));
}
Status getsockopt(int fd, int level, int name, void* option, socklen_t& size) {
  return status(call(SYS_getsockopt, fd, level, name, option, &size));
}
uint64_t cookie(int fd) {
  uint64_t number = 0;
  socklen_t size = sizeof number;
  return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &number, size) ? number : 0;
}
Status setsockopt(int fd, int level, int name, const void* option, socklen_t size) {
  return status(call(SYS_setsockopt, fd, level, name, option, size));
}
Status getsockname(int fd, sockaddr_storage& address) {
  socklen_t size = sizeof address;
  return status(call(SYS_getsockname, fd, &address, &size));
}
Status getpeername(int fd, sockaddr_storage& address) {
  socklen_t size = sizeof address;
  return status(call(SYS_getpeername, fd, &address, &size));
}
int process_id() { return static_cast<int>(call(SYS_getpid)); }
int thread_id() { return static_cast<int>(call(SYS_gettid)); }

Result<void*> map(size_t size, int flags, int fd) {
  const long at = call(SYS_mmap, nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0L);
  if (at < 0 && at > -4096) return Errno{static_cast<int>(-at)};
  return reinterpret_cast<void*>(at);
}
void unmap(void* at, size_t size) { call(SYS_munmap, at, size); }
void random(void* bytes, size_t size) {
  auto* next = static_cast<char*>(bytes);
  while (size > 0) {
    const long got = call(SYS_getrandom, next, size, 0);
    if (got <= 0) continue;
    next += got;
    size -= static_cast<size_t>(got);
  }
}

namespace {

// While it lives, the soft limit on descriptors is higher, where the hard one leaves room.
class Raised {
 public:
  Raised() {
    constexpr rlim_t kRoom = 1 << 16;
    if (call(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &before_) != 0) return;
    known_ = true;
    if (before_.rlim_max != RLIM_INFINITY && before_.rlim_max <= before_.rlim_cur) return;
    rlimit wide = before_;
    wide.rlim_cur = before_.rlim_max - before_.rlim_cur > kRoom ? before_.rlim_cur + kRoom : before_.rlim_max;
    raised_ = call(SYS_prlimit64, 0, RLIMIT_NOFILE, &wide, nullptr) == 0;
  }
  ~Raised() {
    if (raised_) call(SYS_prlimit64, 0, RLIMIT_NOFILE, &before_, nullptr);
  }
  Raised(const Raised&) = delete;
  Raised& operator=(const Raised&) = delete;
  // The first number that is out of the program's way.
  int floor() const {
    constexpr rlim_t kOrdinary = 1024;
    return !known_ ? kLeast : static_cast<int>(raised_ ? before_.rlim_cur : std::min(before_.rlim_cur / 2, kOrdinary));
  }
  static constexpr int kLeast = 3;

 private:
  rlimit before_{};
  bool known_ = false, raised_ = false;
};

}  // namespace

Result<int> duplicate_high(int fd) {
  {
    const Raised limit;
    if (const auto copy = fcntl(fd, F_DUPFD_CLOEXEC, limit.floor()); copy || limit.floor() <= Raised::kLeast) return copy;
  }
  return fcntl(fd, F_DUPFD_CLOEXEC, Raised::kLeast);
}

int move_high(int fd) {
  const auto copy = duplicate_high(fd);
  if (!copy) return fd;
  (void)close(fd);
  return *copy;
}

void duplicate_onto(int fd, int number) {
  const Raised limit;  // or the kernel takes no number that is out of the program's way
  call(SYS_dup3, fd, number, O_CLOEXEC);
}

}  // namespace sys
}  // namespace rsock
