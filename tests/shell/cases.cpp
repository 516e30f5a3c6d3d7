// POSIX calls on descriptors that no rule selects, each with what it gave: the outcome must be the same with
// the library as without. `passthrough` runs it and compares.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/parcel.hpp"

extern "C" ssize_t __read_chk(int, void*, size_t, size_t);

namespace {

// Hides a wrong argument from the compiler, which would warn of it.
template <class T>
T unseen(T value) {
  asm("" : "+r"(value));
  return value;
}

#define SHOW(call)                                                                                         \
  do {                                                                                                     \
    errno = 0;                                                                                             \
    const long shown = static_cast<long>(call);                                                            \
    std::printf("%s: %ld, %s\n", #call, shown, shown == -1 ? strerrorname_np(errno) : strerrorname_np(0)); \
  } while (false)

char buffer[64];

void show_end(const char* what, int status) {
  if (WIFSIGNALED(status))
    std::printf("%s: signal %d\n", what, WTERMSIG(status));
  else
    std::printf("%s: exit %d\n", what, WEXITSTATUS(status));
}

template <class Do>
void in_child(const char* what, Do act) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    act();
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  show_end(what, status);
}

int listener(sockaddr_in& address) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  SHOW(bind(fd, reinterpret_cast<sockaddr*>(&address), size));
  SHOW(listen(fd, 4));
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return fd;
}

void descriptors() {
  int ends[2];
  pipe(ends);
  SHOW(dup2(99, 50));
  SHOW(dup2(ends[0], ends[0]));
  SHOW(dup3(ends[0], ends[0], 0));
  SHOW(dup3(ends[0], 50, O_APPEND));
  SHOW(dup3(ends[0], 50, O_CLOEXEC));
  SHOW(fcntl(50, F_GETFD));
  SHOW(fcntl(ends[0], F_DUPFD, 60));
  SHOW(fcntl(ends[0], F_DUPFD_CLOEXEC, 60));
  SHOW(fcntl(ends[0], F_DUPFD, -1));
  SHOW(fcntl(99, F_GETFL));
  SHOW(fcntl(ends[0], 12345));
  SHOW(fcntl(ends[0], F_SETFL, O_NONBLOCK));
  SHOW(read(ends[0], buffer, 1));
  SHOW(ioctl(ends[0], FIONREAD, buffer));
  SHOW(ioctl(ends[0], 12345, 0));
  SHOW(close_range(60, 50, 0));
  SHOW(close_range(50, 61, 0));
  SHOW(close(60));
  SHOW(dup(ends[1]) > 0);
  closefrom(ends[1] + 1);
  SHOW(close(-1));
  SHOW(syscall(SYS_close, -1));
  SHOW(syscall(SYS_write, ends[1], "ab", size_t{2}));
  SHOW(syscall(SYS_read, ends[0], buffer, size_t{9}));
  SHOW(syscall(99999));
  SHOW(__read_chk(ends[0], buffer, 1, sizeof buffer));
  SHOW(close(ends[0]));
  SHOW(close(ends[1]));
}

void sockets() {
  sockaddr_in address;
  const int from = listener(address);
  const auto* to = reinterpret_cast<const sockaddr*>(&address);
  SHOW(accept(from, nullptr, nullptr));
  SHOW(accept(0, nullptr, nullptr));
  SHOW(listen(0, 1));
  const int client = socket(AF_INET, SOCK_STREAM, 0);
  SHOW(send(client, "a", 1, MSG_NOSIGNAL));
  SHOW(recv(client, buffer, 1, 0));
  SHOW(shutdown(client, SHUT_RD));
  SHOW(connect(client, to, 3));
  SHOW(connect(client, unseen<const sockaddr*>(nullptr), sizeof address));
  SHOW(connect(client, to, sizeof address));
  SHOW(connect(client, to, sizeof address));
  const int server = accept4(from, nullptr, nullptr, 0);
  SHOW(fcntl(server, F_GETFL) & O_NONBLOCK);
  iovec parts[] = {{buffer, 2}, {buffer + 2, 3}};
  SHOW(writev(client, parts, 2));
  SHOW(writev(client, parts, unseen(-1)));
  SHOW(pwritev2(client, parts, 2, -1, 0));
  SHOW(pwritev2(client, parts, 2, 1, 0));
  SHOW(sendto(client, "abc", 3, MSG_MORE, to, sizeof address));
  SHOW(send(client, "!", 1, MSG_OOB));
  SHOW(recv(server, buffer, 4, MSG_WAITALL));
  SHOW(recv(server, unseen<void*>(nullptr), 4, 0));
  SHOW(read(server, reinterpret_cast<void*>(-1), 4));
  SHOW(readv(server, parts, 2));
  socklen_t size = sizeof address;
  SHOW(recvfrom(server, buffer, 1, 0, reinterpret_cast<sockaddr*>(&address), &size));
  SHOW(size);
  mmsghdr several[2]{};
  for (auto& each : several) each.msg_hdr = {nullptr, 0, parts, 1, nullptr, 0, 0};
  SHOW(sendmmsg(client, several, 2, 0));
  SHOW(recvmmsg(server, several, 2, MSG_DONTWAIT, nullptr));
  SHOW(recvmsg(server, unseen<msghdr*>(nullptr), 0));
  int value = 0;
  size = sizeof value;
  SHOW(getsockopt(client, SOL_SOCKET, SO_TYPE, &value, &size));
  SHOW(value);
  SHOW(setsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &value, 1));
  SHOW(sendfile(client, client, nullptr, 5));
  SHOW(splice(client, nullptr, server, nullptr, 5, 0));
  SHOW(dprintf(client, "%s", "text"));
  FILE* stream = fdopen(dup(server), "r");
  SHOW(fileno(stream) > 0);
  std::fclose(stream);
  SHOW(shutdown(client, SHUT_WR));
  in_child("write after shutdown", [&] { write(client, "a", 1); });
  SHOW(send(client, "a", 1, MSG_NOSIGNAL));
  while (recv(server, buffer, sizeof buffer, 0) > 0) continue;
  SHOW(recv(server, buffer, 1, 0));
  close(client), close(server), close(from);

  int ends[2];
  socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
  tests::Parcel parcel(ends[0]), of_nothing;
  SHOW(sendmsg(ends[0], &parcel.message, 0));
  SHOW(recvmsg(ends[1], &parcel.message, 0));
  SHOW(sendmsg(ends[0], &of_nothing.message, 0));
}

void waiting() {
  int ends[2];
  pipe(ends);
  const int set = epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN;
  SHOW(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event));
  SHOW(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event));
  SHOW(epoll_ctl(set, EPOLL_CTL_MOD, ends[1], &event));
  SHOW(epoll_ctl(set, EPOLL_CTL_ADD, set, &event));
  SHOW(epoll_ctl(set, EPOLL_CTL_ADD, 99, &event));
  SHOW(epoll_ctl(set, 17, ends[0], &event));
  SHOW(epoll_ctl(ends[0], EPOLL_CTL_ADD, ends[1], &event));
  SHOW(epoll_wait(set, &event, 1, 0));
  SHOW(epoll_wait(set, &event, 0, 0));
  SHOW(epoll_wait(99, &event, 1, 0));
  write(ends[1], "a", 1);
  SHOW(epoll_pwait(set, &event, 1, -1, nullptr));
  pollfd fds[] = {{ends[0], POLLIN, 0}, {99, POLLIN, 0}, {-1, POLLIN, 0}};
  SHOW(poll(fds, 3, 0));
  SHOW(fds[1].revents);
  SHOW(poll(unseen<pollfd*>(nullptr), 2, 0));
  SHOW(poll(fds, unseen<nfds_t>(-1), 0));
  fd_set reads;
  FD_ZERO(&reads);
  FD_SET(ends[0], &reads);
  timeval timeout{1, 500};
  SHOW(select(ends[0] + 1, &reads, nullptr, nullptr, &timeout));
  // The kernel looks at no number beyond its table of descriptors, and that grows with the highest number ever used: 99
  // is EBADF in a process whose table is large and nothing at all in one whose table is small. Here it is large in each
  // world.
  SHOW(dup2(ends[1], 120));
  SHOW(close(120));
  FD_SET(99, &reads);
  SHOW(select(100, &reads, nullptr, nullptr, &timeout));
  SHOW(select(-1, &reads, nullptr, nullptr, &timeout));
  timeout = {0, -1};
  SHOW(select(1, nullptr, nullptr, nullptr, &timeout));
  signal(SIGALRM, [](int) {});
  alarm(1);
  SHOW(poll(nullptr, 0, -1));
  close(ends[0]), close(ends[1]), close(set);
}

void* blocked_read(void* fd) {
  read(*static_cast<int*>(fd), buffer, 1);
  return nullptr;
}
void cancellation() {
  int ends[2];
  pipe(ends);
  pthread_t thread;
  pthread_create(&thread, nullptr, blocked_read, &ends[0]);
  usleep(20'000);
  void* result = nullptr;
  SHOW(pthread_cancel(thread));
  SHOW(pthread_join(thread, &result));
  SHOW(result == PTHREAD_CANCELED);
}

void processes() {
  char* const arguments[] = {strdup("sh"), strdup("-c"), strdup("exit ${CODE:-4}"), nullptr};
  char* const environment[] = {strdup("CODE=6"), nullptr};
  SHOW(execl("/nowhere", "a", nullptr));
  SHOW(execv("/nowhere", arguments));
  in_child("execl", [] { execl("/bin/sh", "sh", "-c", "exit $#", "a", "b", "c", nullptr); });
  in_child("execlp", [] { execlp("sh", "sh", "-c", "exit 5", nullptr); });
  in_child("execle", [&] { execle("/bin/sh", "sh", "-c", "exit $CODE", nullptr, environment); });
  in_child("execvp", [&] { execvp("sh", arguments); });
  in_child("execvpe", [&] { execvpe("sh", arguments, environment); });
  in_child("execve", [&] { syscall(SYS_execve, "/bin/sh", arguments, environment); });
  pid_t child;
  int status;
  SHOW(posix_spawnp(&child, "sh", nullptr, nullptr, arguments, environment));
  waitpid(child, &status, 0);
  show_end("posix_spawnp", status);
  SHOW(system("exit 3"));
  FILE* stream = popen("echo text", "r");
  SHOW(std::fgets(buffer, sizeof buffer, stream) && !std::strcmp(buffer, "text\n"));
  SHOW(pclose(stream));
  int ends[2];
  pipe(ends);
  child = vfork();
  if (child == 0) {
    close(ends[0]);
    dup2(ends[1], 40);
    _exit(0);
  }
  waitpid(child, &status, 0);
  SHOW(fcntl(ends[0], F_GETFD));
  SHOW(fcntl(40, F_GETFD));
  in_child("daemon", [] { daemon(1, 1), _exit(2); });
  in_child("_Exit", [] { std::_Exit(8); });
  in_child("quick_exit", [] {
    std::at_quick_exit([] { std::_Exit(9); });
    std::quick_exit(1);
  });
  in_child("exit_group", [] { syscall(SYS_exit_group, 10); });
  in_child("SIGPIPE", [] {
    int own[2];
    pipe(own);
    close(own[0]);
    write(own[1], "a", 1);
  });
  in_child("overflow", [&] {
    close(2);
    __read_chk(ends[0], buffer, sizeof buffer + unseen(1), sizeof buffer);
  });
}

}  // namespace

int main() {
  setvbuf(stdout, nullptr, _IOFBF, 1 << 16);
  descriptors();
  sockets();
  waiting();
  cancellation();
  processes();
}
