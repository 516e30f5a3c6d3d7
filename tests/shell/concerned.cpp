// The shell by itself, linked to fake_core.cpp, which is told of every TCP socket: what the shell announces,
// checks and answers on descriptors of concern.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "tests/parcel.hpp"
#include "tests/shell/check.hpp"

extern "C" ssize_t __recv_chk(int, void*, size_t, size_t, int);
extern "C" pid_t _Fork() noexcept;
extern "C" int io_uring_setup(unsigned, void*);
extern "C" int io_uring_queue_init(unsigned, void*, unsigned);
extern "C" int io_uring_queue_init_params(unsigned, void*, void*);
extern "C" int io_uring_queue_init_mem(unsigned, void*, void*, void*, size_t);

namespace {

// Hides a wrong argument from the compiler, which would warn of it.
template <class T>
T unseen(T value) {
  asm("" : "+r"(value));
  return value;
}

int trace_fd;
std::string trace() {
  char text[4000];
  socklen_t size = sizeof text;
  CHECK(getsockopt(trace_fd, 0x7273, 0, text, &size) == 0);
  return {text, size};
}
bool told(const std::string& what) { return trace().find(what) != std::string::npos; }
std::string of(const char* call, int a) { return std::string(call) + "(" + std::to_string(a) + ")"; }
std::string of(const char* call, int a, int b) {
  return std::string(call) + "(" + std::to_string(a) + "," + std::to_string(b) + ")";
}
std::string unserved(int fd, const char* reason = "unserved-call") {
  return std::string("unserved(") + std::to_string(fd) + "," + reason + ")";
}

int tcp() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(fd >= 0);
  return fd;
}

void* bad_page() {
  void* page = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(page != MAP_FAILED);
  return page;
}

// A connected pair through the kernel, for what passes.
void connected_pair(int& one, int& other) {
  const int listener = tcp();
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  CHECK(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  CHECK(listen(listener, 5) == 0);
  CHECK(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  one = tcp();
  trace();
  CHECK(connect(one, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  CHECK(trace() == of("connecting", one) + " " + of("connected", one, 0) + " ");
  other = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  CHECK(other >= 0);
  CHECK(
      told("accepted(" + std::to_string(listener) + "," + std::to_string(other) + "," + std::to_string(SOCK_CLOEXEC)));
  CHECK(close(listener) == 0);
  CHECK(told(of("closing", listener)));
}

void bytes_in() {
  const int fd = tcp();
  char a[4] = {}, b[8] = {};
  errno = 17;
  CHECK(read(fd, a, 4) == 4 && a[3] == 'r' && errno == 17);
  CHECK_ERRNO(recv(fd, a, 4, MSG_DONTWAIT), EAGAIN);
  iovec parts[] = {{a, 2}, {nullptr, 0}, {b, 8}};
  CHECK(readv(fd, parts, 3) == 10 && b[7] == 'r');
  CHECK(preadv2(fd, parts, 3, -1, 0) == 10);
  CHECK_ERRNO(preadv(fd, parts, 3, 0), ESPIPE);
  CHECK_ERRNO(readv(fd, parts, unseen(-1)), EINVAL);
  CHECK_ERRNO(readv(fd, parts, unseen(1025)), EINVAL);
  CHECK(readv(fd, parts, 0) == 0);
  CHECK(read(fd, a, 0) == 0);
  iovec negative[] = {{a, 2}, {b, size_t(-1)}};
  CHECK_ERRNO(readv(fd, negative, 2), EINVAL);
  iovec second_bad[] = {{a, 2}, {bad_page(), 2}};
  CHECK(readv(fd, second_bad, 2) == 2);
  CHECK_ERRNO(readv(fd, second_bad + 1, 1), EFAULT);
  CHECK_ERRNO(readv(fd, static_cast<iovec*>(bad_page()), 1), EFAULT);
  CHECK_ERRNO(recv(fd, bad_page(), 5, 0), EFAULT);
  CHECK_ERRNO(recv(fd, reinterpret_cast<void*>(-1), 5, 0), EFAULT);
  CHECK_ERRNO(read(fd, unseen<void*>(nullptr), 5), EFAULT);
  const char constant[] = "in memory that may only be read";
  void* read_only = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_ERRNO(recv(fd, read_only, 5, 0), EFAULT);
  CHECK(send(fd, read_only, 5, 0) == 5 && send(fd, constant, sizeof constant, 0) == sizeof constant);
  CHECK(__recv_chk(fd, a, 4, 4, 0) == 4);
  CHECK(syscall(SYS_read, fd, a, size_t{3}) == 3 && syscall(SYS_recvfrom, fd, a, size_t{4}, 0, nullptr, nullptr) == 4);

  sockaddr_storage from;
  socklen_t from_size = sizeof from;
  CHECK(recvfrom(fd, a, 4, 0, reinterpret_cast<sockaddr*>(&from), &from_size) == 4 && from_size == 0);

  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 3;
  message.msg_flags = 99;
  CHECK(recvmsg(fd, &message, 0) == 10 && message.msg_flags == 0);
  message.msg_iovlen = 1025;
  CHECK_ERRNO(recvmsg(fd, &message, 0), EMSGSIZE);
  CHECK_ERRNO(recvmsg(fd, static_cast<msghdr*>(bad_page()), 0), EFAULT);

  mmsghdr several[3]{};
  for (auto& each : several) each.msg_hdr = {nullptr, 0, parts, 3, nullptr, 0, 0};
  CHECK(recvmmsg(fd, several, 3, 0, nullptr) == 3 && several[2].msg_len == 10);
  // The second would block, which the first must not hide.
  CHECK(recvmmsg(fd, several, 3, MSG_WAITFORONE, nullptr) == 1);
  CHECK_ERRNO(recvmmsg(fd, several, 3, MSG_DONTWAIT, nullptr), EAGAIN);
  several[1].msg_hdr.msg_iovlen = 1025;
  CHECK(recvmmsg(fd, several, 3, 0, nullptr) == 1);
  timespec none{};
  CHECK(recvmmsg(fd, several, 3, 0, &none) == 1);
}

volatile sig_atomic_t pipes;
void bytes_out() {
  const int fd = tcp();
  char a[4] = {};
  iovec parts[] = {{a, 2}, {nullptr, 0}, {a, 4}};
  CHECK(write(fd, a, 4) == 4 && write(fd, a, 0) == 0 && writev(fd, parts, 3) == 6 && send(fd, a, 3, 0) == 3);
  CHECK_ERRNO(write(fd, bad_page(), 4), EFAULT);
  CHECK_ERRNO(writev(fd, parts, unseen(1025)), EINVAL);
  CHECK_ERRNO(pwritev(fd, parts, 3, 0), ESPIPE);
  iovec huge[] = {{a, 4}, {a, 0x7fffffff}};
  CHECK(writev(fd, huge, 2) >= 4 || errno == EFAULT);
  mmsghdr several[2]{};
  for (auto& each : several) each.msg_hdr = {nullptr, 0, parts, 3, nullptr, 0, 0};
  CHECK(sendmmsg(fd, several, 2, 0) == 2 && several[1].msg_len == 6);
  CHECK(sendfile(fd, 0, nullptr, 9) == 9);
  trace();
  CHECK_ERRNO(send(fd, a, 1, MSG_OOB | MSG_MORE | MSG_NOSIGNAL), EPIPE);
  CHECK(told(unserved(fd)));
  CHECK_ERRNO(splice(fd, nullptr, fd, nullptr, 1, 0), EINVAL);

  struct sigaction count {};
  count.sa_handler = [](int) { pipes = pipes + 1; };
  sigaction(SIGPIPE, &count, nullptr);
  CHECK(shutdown(fd, SHUT_WR) == 0);
  CHECK_ERRNO(send(fd, a, 1, MSG_NOSIGNAL), EPIPE);
  CHECK(pipes == 0);
  CHECK_ERRNO(send(fd, a, 1, 0), EPIPE);
  CHECK(pipes == 1);
  CHECK_ERRNO(write(fd, a, 1), EPIPE);
  CHECK_ERRNO(syscall(SYS_write, fd, a, size_t{1}), EPIPE);
  CHECK(pipes == 3);
  // Blocked: it waits for the thread, as the kernel's does.
  sigset_t set, pending;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  CHECK_ERRNO(write(fd, a, 1), EPIPE);
  sigpending(&pending);
  CHECK(sigismember(&pending, SIGPIPE) == 1 && pipes == 3);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  CHECK(pipes == 4);
}

void passing() {
  int one, other;
  connected_pair(one, other);
  char a[4] = {};
  CHECK(send(one, "abc", 3, MSG_MORE) == 3);
  CHECK(told("passed_out(" + std::to_string(one) + ",3)"));
  // A peek takes nothing, so there is nothing to count.
  CHECK(recv(other, a, 4, MSG_PEEK) == 3);
  CHECK(!told("passed_in"));

  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  const tests::Parcel parcel(one);
  trace();
  CHECK(sendmsg(ends[0], &parcel.message, 0) == 1);
  CHECK(told(unserved(one, "shared")));

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  CHECK(posix_spawn_file_actions_adddup2(&actions, one, 0) == 0);
  CHECK(told(unserved(one, "shared")));
  posix_spawn_file_actions_destroy(&actions);

  CHECK(dprintf(one, "%d", 5) == 1);
  CHECK(told(unserved(one)));
  FILE* stream = fdopen(one, "w");
  CHECK(stream && trace() == unserved(one) + " " + of("closing", one) + " ");
  std::fclose(stream);
}

void descriptors() {
  const int fd = tcp();
  trace();
  const int copy = dup(fd);
  CHECK(told(of("duplicated", fd, copy)));
  CHECK(dup2(fd, fd) == fd && trace().empty());
  CHECK_ERRNO(dup2(999, copy), EBADF);
  CHECK_ERRNO(dup3(fd, fd, 0), EINVAL);
  CHECK_ERRNO(dup3(fd, copy, 0x55), EINVAL);
  CHECK(trace().empty());
  CHECK(dup2(fd, copy) == copy);
  CHECK(trace() == of("closing", copy) + " " + of("duplicated", fd, copy) + " ");
  const int high = fcntl(fd, F_DUPFD_CLOEXEC, 500);
  CHECK(high >= 500 && told(of("duplicated", fd, high)));
  CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && told(of("nonblocking", fd, 1)));
  int off = 0;
  CHECK(ioctl(fd, FIONBIO, &off) == 0 && told(of("nonblocking", fd, 0)));
  CHECK_ERRNO(ioctl(fd, FIONBIO, nullptr), EFAULT);
  CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0);
  trace();
  CHECK(close_range(high, high, 4) == 0 && trace().empty());  // CLOSE_RANGE_CLOEXEC
  CHECK(close_range(high, ~0U, 0) == 0 && trace() == of("closing", high) + " ");
  CHECK(syscall(SYS_close, copy) == 0 && told(of("closing", copy)));
  const int pid = vfork();
  if (pid == 0) {
    close(fd);
    _exit(0);
  }
  CHECK(waitpid(pid, nullptr, 0) == pid && trace().empty());
  CHECK(send(fd, "a", 1, 0) == 1);
}

void processes() {
  trace();
  pid_t pid = fork();
  if (pid == 0) std::_Exit(trace() == "before_fork in_child " ? 3 : 4);
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3);
  CHECK(trace() == "before_fork in_parent ");
  pid = _Fork();
  if (pid == 0) _exit(trace() == "before_fork in_child " ? 3 : 4);
  CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3);
  trace();
  CHECK(system("exit 5") == 5 << 8 && trace().empty());
  // A flow as standard input goes back to TCP when it becomes that, and before a new program is given it.
  const int input = dup(STDIN_FILENO), fd = tcp();
  CHECK(dup2(fd, STDIN_FILENO) == STDIN_FILENO && told(unserved(STDIN_FILENO)));
  CHECK(system("exit 5") == 5 << 8 && trace() == unserved(STDIN_FILENO, "shared") + " ");
  CHECK(dup2(input, STDIN_FILENO) == STDIN_FILENO);
  trace();
  CHECK_ERRNO(execl("/nowhere", "a", "b", nullptr), ENOENT);
  CHECK(told("before_exec"));
  pid = vfork();
  if (pid == 0) {
    execlp("true", "true", nullptr);
    _exit(9);
  }
  // The core is told in the parent's memory, too: what the new program has as standard streams may be a flow.
  CHECK(waitpid(pid, &status, 0) == pid && status == 0 && trace() == "before_exec ");
}

void waiting() {
  const int fd = tcp(), set = epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN;
  CHECK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0 && told(of("epoll_ctl", set, fd)));
  CHECK_ERRNO(epoll_ctl(set, EPOLL_CTL_ADD, fd, nullptr), EFAULT);
  epoll_event events[2];
  CHECK(epoll_wait(set, events, 2, 1500) == 1 && events[0].data.fd == 1500);
  CHECK(epoll_wait(set, events, 2, -7) == 1 && events[0].data.fd == -1);
  CHECK_ERRNO(epoll_wait(set, events, 0, 0), EINVAL);
  CHECK_ERRNO(epoll_wait(set, events, unseen(-1), 0), EINVAL);
  CHECK_ERRNO(epoll_wait(set, static_cast<epoll_event*>(bad_page()), 2, 0), EFAULT);
  pollfd fds[] = {{-1, POLLIN, 0}, {fd, POLLIN, 0}};
  CHECK(poll(fds, 2, 0) == 77 && poll(fds, 1, 0) == 0 && syscall(SYS_ppoll, fds, 2, nullptr, nullptr, 8) == 77);
  CHECK_ERRNO(poll(static_cast<pollfd*>(bad_page()), 2, 0), EFAULT);
  const timespec wrong{0, 1'000'000'000};
  CHECK_ERRNO(ppoll(fds, 2, &wrong, nullptr), EINVAL);
  fd_set reads;
  FD_ZERO(&reads);
  timeval timeout{0, 0};
  CHECK(select(fd + 1, &reads, nullptr, nullptr, &timeout) == 0);
  FD_SET(fd, &reads);
  CHECK(select(fd + 1, &reads, nullptr, nullptr, &timeout) == 78 && timeout.tv_sec == 1 && timeout.tv_usec == 5);
  CHECK(select(fd, &reads, nullptr, nullptr, (timeout = {0, 0}, &timeout)) == 0);
  timeout = {-1, 0};
  CHECK_ERRNO(select(fd + 1, &reads, nullptr, nullptr, &timeout), EINVAL);
}

// The fake core grants none.
void rings() {
  CHECK_ERRNO(syscall(SYS_io_uring_setup, 1, nullptr), ENOSYS);
  CHECK(trace() == "before_ring ");
  CHECK(io_uring_setup(1, nullptr) == -ENOSYS && io_uring_queue_init(1, nullptr, 0) == -ENOSYS &&
        io_uring_queue_init_params(1, nullptr, nullptr) == -ENOSYS &&
        io_uring_queue_init_mem(1, nullptr, nullptr, nullptr, 0) == -ENOSYS);
  CHECK(trace() == "before_ring before_ring before_ring before_ring ");
}

}  // namespace

int main() {
  trace_fd = tcp();
  bytes_in();
  bytes_out();
  passing();
  descriptors();
  processes();
  waiting();
  rings();
}
