#include "core/base/kernel.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "core/base/selection.hpp"

namespace rsock {

constinit Kernel kernel{};

namespace sys {
namespace {

// errno belongs to the program, and is not touched: errors travel as values.
template <class... Arguments>
long call(long number, Arguments... arguments) {
  return system_call(number, arguments...);
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
// The kernel copies what is skipped, too: into one small place, again and again.
Status peek_at(int fd, uint64_t skip, void* buffer, size_t size) {
  constexpr uint64_t kPiece = 64 << 10;
  std::vector<std::byte> aside(std::min(skip, kPiece));
  std::vector<iovec> pieces(skip / kPiece, {aside.data(), kPiece});
  if (skip % kPiece) pieces.push_back({aside.data(), skip % kPiece});
  pieces.push_back({buffer, size});
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  const auto got = recvmsg(fd, message, MSG_PEEK | MSG_DONTWAIT);
  if (!got) return Errno{got.error()};
  return *got == skip + size ? Status(Done{}) : Errno{EAGAIN};
}
Result<size_t> read(int fd, void* buffer, size_t size) { return value<size_t>(call(SYS_read, fd, buffer, size)); }
Result<size_t> write(int fd, const void* buffer, size_t size) {
  return value<size_t>(call(SYS_write, fd, buffer, size));
}
Status close(int fd) { return status(call(SYS_close, fd)); }
Result<int> socket(int domain, int type, int protocol) { return value<int>(call(SYS_socket, domain, type, protocol)); }
Status bind(int fd, const sockaddr* address, socklen_t size) { return status(call(SYS_bind, fd, address, size)); }
Status listen(int fd, int backlog) { return status(call(SYS_listen, fd, backlog)); }
Result<int> accept(int fd, int flags) { return value<int>(call(SYS_accept4, fd, nullptr, nullptr, flags)); }
void dissolve(int fd) {
  const sockaddr nowhere{AF_UNSPEC, {}};
  call(SYS_connect, fd, &nowhere, sizeof nowhere);
}
Status connect(int fd, const sockaddr* address, socklen_t size) { return status(call(SYS_connect, fd, address, size)); }
Status shutdown(int fd, int how) { return status(call(SYS_shutdown, fd, how)); }
Result<int> open(const char* path, int flags, unsigned mode) {
  return value<int>(call(SYS_openat, AT_FDCWD, path, flags, mode));
}
Result<int> fcntl(int fd, int command, long argument) { return value<int>(call(SYS_fcntl, fd, command, argument)); }
Result<int> ioctl(int fd, unsigned long request, void* argument) {
  return value<int>(call(SYS_ioctl, fd, request, argument));
}
Result<int> eventfd(unsigned initial, int flags) { return value<int>(call(SYS_eventfd2, initial, flags)); }
Status socket_pair(int type, int (&ends)[2]) { return status(call(SYS_socketpair, AF_UNIX, type, 0, ends)); }
Result<int> memfd_create(const char* name, unsigned flags) { return value<int>(call(SYS_memfd_create, name, flags)); }
Result<int> pidfd_open(pid_t of, unsigned flags) { return value<int>(call(SYS_pidfd_open, of, flags)); }
Result<int> epoll_create() { return value<int>(call(SYS_epoll_create1, EPOLL_CLOEXEC)); }
Status epoll_ctl(int set, int operation, int fd, epoll_event* event) {
  return status(call(SYS_epoll_ctl, set, operation, fd, event));
}
bool at_urgent_mark(int fd) {
  int mark = 0;
  return ioctl(fd, SIOCATMARK, &mark) && mark;
}
Result<uint8_t> tcp_state(int fd) {
  uint8_t state = 0;  // the first field
  socklen_t size = sizeof state;
  if (const auto told = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, size); !told) return Errno{told.error()};
  return state;
}
bool peer_has_ended(uint8_t state) {
  return state == TCP_CLOSE_WAIT || state == TCP_LAST_ACK || state == TCP_CLOSING || state == TCP_TIME_WAIT ||
         state == TCP_CLOSE;
}

namespace {

// Where the process may have no descriptor any more, poll is refused: select tells of bytes and room, and TCP's state
// of ends.
uint32_t readiness_by_select(int fd) {
  const pollfd asked{fd, POLLIN | POLLOUT | POLLPRI, 0};
  Selection selection({&asked, 1});
  const auto found = selection.select({}, nullptr);
  if (!found) return found.is(EBADF) ? POLLNVAL : 0;
  uint32_t ready = static_cast<uint16_t>(selection.revents(fd));
  if (ready & POLLIN) ready |= POLLRDNORM;
  if (ready & POLLOUT) ready |= POLLWRNORM;
  const auto state = tcp_state(fd);
  if (!state) return ready;
  return ready | (peer_has_ended(*state) ? POLLRDHUP : 0) | (*state == TCP_CLOSE ? POLLHUP : 0);
}

}  // namespace

uint32_t readiness(int fd) {
  constexpr short kAll = POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND;
  pollfd asked{fd, kAll, 0};
  const auto found = poll_now({&asked, 1});
  if (found.is(EINVAL)) return readiness_by_select(fd);
  return found && *found > 0 ? static_cast<uint16_t>(asked.revents) : 0;
}
Result<int> epoll_poll(int set, epoll_event* events, int capacity) { return epoll_sleep(set, events, capacity, 0); }
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
Status stat_of(int fd, struct stat& facts) { return status(call(SYS_fstat, fd, &facts)); }
Status file_system_of(int fd, struct statfs& facts) { return status(call(SYS_fstatfs, fd, &facts)); }
bool is_sealed(int fd) {
  constexpr int kSealed = F_SEAL_SHRINK | F_SEAL_GROW;
  const auto seals = fcntl(fd, F_GET_SEALS, 0);
  return seals && (*seals & kSealed) == kSealed;
}
uid_t effective_user() { return static_cast<uid_t>(call(SYS_geteuid)); }
int process_id() { return static_cast<int>(call(SYS_getpid)); }
int thread_id() { return static_cast<int>(call(SYS_gettid)); }
void futex_sleep(const std::atomic<uint32_t>& word, uint32_t value, Duration most) {
  const timespec time{most / std::chrono::seconds(1), (most % std::chrono::seconds(1)).count()};
  call(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, &time, nullptr, 0);
}
void futex_wake(const std::atomic<uint32_t>& word, int most) {
  call(SYS_futex, &word, FUTEX_WAKE_PRIVATE, most, nullptr, nullptr, 0);
}
void die_by(int signal) {
  const uint64_t action[4] = {};  // the kernel's: SIG_DFL, no flags
  const uint64_t others = ~(1ull << (signal - 1));
  call(SYS_rt_sigaction, signal, action, nullptr, sizeof others);
  call(SYS_rt_sigprocmask, SIG_SETMASK, &others, nullptr, sizeof others);
  for (;;) call(SYS_tgkill, process_id(), thread_id(), signal);
}

Result<void*> map(size_t size, int flags, int fd) {
  const long at = call(SYS_mmap, nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (is_error(at)) return Errno{static_cast<int>(-at)};
  return reinterpret_cast<void*>(at);
}
// What may not be touched is locked without its pages.
Result<void*> map_unlocked(size_t size, int flags, int fd) {
  const long at = call(SYS_mmap, nullptr, size, PROT_NONE, flags, fd, 0);
  if (is_error(at)) return Errno{static_cast<int>(-at)};
  call(SYS_munlock, at, size);
  const auto opened = status(call(SYS_mprotect, at, size, PROT_READ | PROT_WRITE));
  if (!opened) {
    call(SYS_munmap, at, size);
    return Errno{opened.error()};
  }
  return reinterpret_cast<void*>(at);
}
void unmap(void* at, size_t size) { call(SYS_munmap, at, size); }
Status advise(void* at, size_t size, int advice) { return status(call(SYS_madvise, at, size, advice)); }

namespace {

// Calls `take` until the whole span is filled; the first error that is not an interruption.
template <class Take>
Status fill(char* next, size_t size, Take take) {
  while (size > 0) {
    const Result<size_t> got = take(next, size);
    if (got.is(EINTR)) continue;
    if (!got) return Errno{got.error()};
    if (*got == 0) return Errno{EIO};
    next += *got, size -= *got;
  }
  return Done{};
}

}  // namespace

// A sandbox may refuse the call and have the device, or the other way round.
Status random(void* bytes, size_t size) {
  auto* const begin = static_cast<char*>(bytes);
  if (fill(begin, size, [](char* to, size_t room) { return value<size_t>(call(SYS_getrandom, to, room, 0)); }))
    return Done{};
  const auto device = open("/dev/urandom", O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
  if (!device) return Errno{device.error()};
  const auto filled = fill(begin, size, [&](char* to, size_t room) { return read(*device, to, room); });
  (void)close(*device);
  return filled;
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
    if (const auto copy = fcntl(fd, F_DUPFD_CLOEXEC, limit.floor()); copy || limit.floor() <= Raised::kLeast)
      return copy;
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
