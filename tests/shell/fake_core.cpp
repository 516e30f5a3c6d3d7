// A core for testing the shell by itself. Every TCP socket is of concern, and so is every epoll set that gets
// one.
//
// It writes down what the shell announces, and gives the text to getsockopt(fd, kTraceLevel, 0, …), which
// empties it. receive: fills everything with 'r'; EAGAIN for MSG_DONTWAIT. transmit: takes everything; EPIPE
// after shutdown, until a socket is made. Both pass for flags with MSG_PEEK or MSG_MORE.

#include <fcntl.h>
#include <stdarg.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>

#include "config/config.hpp"
#include "core/sockets/sockets.hpp"

namespace rsock::sockets {

TableSlot table[kTableSize];
std::atomic<bool> selecting{false};
constinit std::atomic<int> Unaware::counts[kTableSize]{};
constinit std::atomic<uint64_t> met_listeners[kTableSize / kMetBits];
const bool all_are_met = [] {
  for (auto& bits : met_listeners) bits = ~uint64_t{0};
  return true;
}();
std::atomic<int> concerned{1};  // as if there were always something to look for

bool make_room() { return false; }
void make_room_soon() {}

namespace {

constexpr int kTraceLevel = 0x7273;

std::mutex lock;
std::string trace;
bool shut_down = false;
int process = 0;

[[gnu::format(printf, 1, 2)]] void tell(const char* format, ...) {
  char line[200];
  va_list parts;
  va_start(parts, format);
  std::vsnprintf(line, sizeof line, format, parts);
  va_end(parts);
  const std::lock_guard held(lock);
  trace += line;
  trace += ' ';
}

void concern(int fd, bool is = true) {
  static int something;
  table[fd].store(is ? reinterpret_cast<Entry*>(&something) : nullptr, std::memory_order_release);
}

size_t total(std::span<const iovec> parts) {
  size_t sum = 0;
  for (const iovec& part : parts) sum += part.iov_len;
  return sum;
}

}  // namespace

void start(const config::Config&, std::string_view, std::string_view, const Again&) { process = sys::process_id(); }
void finish() {
  // Where a test waits for it.
  if (const char* path = std::getenv("RSOCK_FAKE_FINISHED"))
    if (const auto file = sys::open(path, O_WRONLY | O_CREAT | O_APPEND, 0600))
      (void)sys::write(*file, "finished\n", 9);
}
bool in_borrowed_memory() { return sys::process_id() != process; }
void before_fork() { tell("before_fork"); }
void after_fork_in_parent() { tell("in_parent"); }
void after_fork_in_child() {
  process = sys::process_id();
  tell("in_child");
}
void exec_failed() {}
void before_daemon() {}
void became_daemon() {}
void before_exec() { tell("before_exec"); }
bool idle() { return false; }
Still::Still() {}
Still::~Still() {}
bool only_thread() { return true; }
void finish_in_handler() {}
void end_in_time(int) {}
void thread_ends(int) {}
void meant_for_next_program(int) {}
void taken(int, int) {}
void before_filter() { tell("before_filter"); }
bool before_ring() {
  tell("before_ring");
  return false;
}
void before_unshare() { tell("before_unshare"); }

void socket_made(int fd, int domain, int type) {
  concern(fd, domain == AF_INET && (type & 0xf) == SOCK_STREAM);
  shut_down = false;
  tell("made(%d)", fd);
}
void listening(int fd) { tell("listening(%d)", fd); }
void accepted(int listener, int fd, int flags) {
  concern(fd);
  tell("accepted(%d,%d,%d)", listener, fd, flags);
}
bool connecting(int fd, const sockaddr* address, socklen_t) {
  tell("connecting(%d)", fd);
  return address->sa_family == AF_INET;
}
void connected(int fd, int error) { tell("connected(%d,%d)", fd, error); }
void duplicated(int from, int to) {
  concern(to);
  tell("duplicated(%d,%d)", from, to);
}
void before_close(int fd) {
  concern(fd, false);
  tell("closing(%d)", fd);
}

size_t readable_bytes(int) { return 0; }
Answer<size_t> receive(int, Buffers to, int flags, std::optional<int>*) {
  if (flags & MSG_PEEK) return Answer<size_t>::pass();
  if (flags & MSG_DONTWAIT) return Errno{EAGAIN};
  for (const iovec& part : to.parts)
    if (part.iov_len) std::memset(part.iov_base, 'r', part.iov_len);
  if (to.cut && total(to.parts) == 0) return Errno{EFAULT};
  return total(to.parts);
}
Answer<size_t> transmit(int, Buffers from, int flags, const msghdr*) {
  if (flags & MSG_MORE) return Answer<size_t>::pass();
  if (shut_down) return Errno{EPIPE};
  if (from.cut && total(from.parts) == 0) return Errno{EFAULT};
  return total(from.parts);
}
Answer<size_t> transmit_file(int, int, off64_t*, size_t count) { return count; }
Answer<size_t> splice_in(int, int, size_t, unsigned, const Pipes&) { return Answer<size_t>::pass(); }
Answer<size_t> splice_out(int, int, size_t, unsigned, const Pipes&) { return Answer<size_t>::pass(); }
void passed_in(int fd, size_t bytes) { tell("passed_in(%d,%zu)", fd, bytes); }
void passed_out(int fd, size_t bytes) { tell("passed_out(%d,%zu)", fd, bytes); }

Answer<int> shutdown(int, int) {
  shut_down = true;
  return 0;
}
Answer<int> getsockopt(int, int level, int, void* value, socklen_t* size) {
  if (level != kTraceLevel) return Answer<int>::pass();
  const std::lock_guard held(lock);
  *size = static_cast<socklen_t>(std::min<size_t>(*size, trace.size()));
  std::memcpy(value, trace.data(), *size);
  trace.clear();
  return 0;
}
Answer<int> setsockopt(int, int, int, const void*, socklen_t) { return Answer<int>::pass(); }
void option_set(int fd, int, int name, const void*, socklen_t) { tell("option(%d,%d)", fd, name); }
Answer<Unread> unread(int) { return Answer<Unread>::pass(); }
Answer<int> ioctl(int, unsigned long, void*) { return Answer<int>::pass(); }
void nonblocking_set(int fd, bool nonblocking) { tell("nonblocking(%d,%d)", fd, nonblocking); }
void unhonoured(int fd) { tell("unhonoured(%d)", fd); }
void unserved(int fd, Reason reason) { tell("unserved(%d,%s)", fd, key(reason).data()); }
bool disconnected(int) { return false; }
void end_known(int) {}

Answer<int> epoll_ctl(int set, int, int fd, const epoll_event*) {
  concern(set);
  tell("epoll_ctl(%d,%d)", set, fd);
  return 0;
}
// One event, of which the data are the timeout in ms.
Answer<int> epoll_wait(int, epoll_event* events, int, const timespec* timeout, const sigset_t*) {
  events->data.fd = timeout ? static_cast<int>(timeout->tv_sec * 1000 + timeout->tv_nsec / 1'000'000) : -1;
  return 1;
}
int epoll_waited(int, epoll_event*, int count) { return count; }
Answer<int> poll(pollfd*, nfds_t, const timespec*, const sigset_t*) { return 77; }
Answer<int> select(int, fd_set*, fd_set*, fd_set*, timespec* timeout, const sigset_t*) {
  if (timeout) *timeout = {1, 5000};
  return 78;
}

}  // namespace rsock::sockets
