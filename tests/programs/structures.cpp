// An echo server, in the ways in which servers spread connections over processes and give up privileges.
//
//   structures STYLE ADDRESS PORT [PROGRAM ARGUMENT...]
//
//   prefork   three children accept from the listener that they inherit
//   fork      the parent accepts, a child for each connection serves it, and the parent closes it
//   pass      the parent accepts and sends each connection to one of three children (SCM_RIGHTS)
//   exec      as fork, but the child becomes PROGRAM with the connection as 0, 1 and 2
//   detach    daemon(3), then as alone; it says "I am" and its number
//   alone, setuid, chroot, refuse, kill
//             one process serves all connections with epoll. On SIGUSR1 it says "restricted" when it has become nobody;
//             or has the root of its files in an empty folder; or has a filter of system calls (seccomp) in force for
//             all its threads by which new sockets and files are refused, or cost the process its life
//
// It says "listening". SIGTERM ends it and its children. Exit status 0 unless something went wrong.

#include <arpa/inet.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/parcel.hpp"

namespace {

volatile sig_atomic_t stopped = 0, told = 0;
std::vector<pid_t> children;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "structures: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

// Without SA_RESTART: calls that wait are to end.
void on(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  if (sigaction(signal, &action, nullptr) != 0) die("sigaction");
}

int listen_at(const char* address, const char* port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(port)));
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
  if (fd < 0 || inet_pton(AF_INET, address, &name.sin_addr) != 1) die("socket");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 || listen(fd, 100) != 0) die("listen");
  return fd;
}

void say(const char* word) {
  std::puts(word);
  std::fflush(stdout);
}

// ---- bytes

// What comes is sent back. False at the end of the stream.
bool echo_once(int fd) {
  std::array<char, 16384> bytes;
  const ssize_t got = read(fd, bytes.data(), bytes.size());
  if (got < 0 && errno == EINTR) return true;
  if (got < 0) die("read");
  for (ssize_t sent = 0; sent < got;) {
    const ssize_t n = write(fd, bytes.data() + sent, static_cast<size_t>(got - sent));
    if (n < 0 && errno != EINTR) die("write");
    if (n > 0) sent += n;
  }
  return got > 0;
}

void echo(int fd) {
  while (echo_once(fd)) {
  }
  close(fd);
}

// The next connection; negative when the server is to stop.
int accepted(int listener) {
  for (;;) {
    if (stopped) return -1;
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) return fd;
    if (errno != EINTR) die("accept");
  }
}

// ---- processes

template <class Work>
void child_that(Work work) {
  const pid_t child = fork();
  if (child < 0) die("fork");
  if (child > 0) return children.push_back(child);
  children.clear();
  work();
  std::exit(0);
}

int end_children() {
  int worst = 0;
  for (const pid_t child : children) {
    kill(child, SIGTERM);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (status != 0) std::fprintf(stderr, "structures: a child ended with 0x%x\n", status), worst = 1;
  }
  return worst;
}

int prefork(int listener) {
  for (int i = 0; i < 3; ++i)
    child_that([&] {
      for (int fd; (fd = accepted(listener)) >= 0;) echo(fd);
    });
  say("listening");
  while (!stopped) pause();
  return end_children();
}

template <class Serve>
int child_for_each(int listener, Serve serve) {
  say("listening");
  for (int fd; (fd = accepted(listener)) >= 0; close(fd)) child_that([&] { serve(fd); });
  return end_children();
}

void become(int fd, char** program) {
  for (const int standard : {0, 1, 2}) dup2(fd, standard);
  execvp(program[0], program);
  _exit(127);
}

int received(int socket) {
  tests::Parcel parcel;
  return !stopped && recvmsg(socket, &parcel.message, MSG_CMSG_CLOEXEC) == 1 ? parcel.unpacked() : -1;
}

int pass(int listener) {
  std::array<int, 3> workers;
  for (auto& worker : workers) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) die("socketpair");
    worker = ends[0];
    child_that([&] {
      close(listener);
      for (int fd; (fd = received(ends[1])) >= 0;) echo(fd);
    });
    close(ends[1]);
  }
  say("listening");
  size_t next = 0;
  for (int fd; (fd = accepted(listener)) >= 0; close(fd)) {
    const tests::Parcel parcel(fd);
    if (sendmsg(workers[next++ % workers.size()], &parcel.message, 0) != 1) die("sendmsg");
  }
  return end_children();
}

// ---- privileges

void become_nobody(const char*) {
  constexpr unsigned kNobody = 65534;
  if (setgid(kNobody) != 0 || setuid(kNobody) != 0) die("setuid");
}

void change_root(const char* folder) {
  if (chroot(folder) != 0 || chdir("/") != 0) die("chroot");
}

// By the whole process. Everything else is allowed.
void forbid_new_descriptors(unsigned instead) {
  constexpr std::array kForbidden = {SYS_socket, SYS_connect, SYS_bind,        SYS_open,
                                     SYS_openat, SYS_creat,   SYS_memfd_create};
  std::vector<sock_filter> filter = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
  };
  for (const long number : kForbidden) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, instead));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) die("prctl");
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0) die("seccomp");
}
void refuse(const char*) { forbid_new_descriptors(SECCOMP_RET_ERRNO | EPERM); }
void kill_process(const char*) { forbid_new_descriptors(SECCOMP_RET_KILL_PROCESS); }

int alone(int listener, void (*restrict_it)(const char*), const char* folder) {
  const int set = epoll_create1(EPOLL_CLOEXEC);
  const auto add = [&](int fd) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
  };
  add(listener);
  say("listening");
  while (!stopped) {
    epoll_event event;
    const int count = epoll_wait(set, &event, 1, -1);
    if (count < 0 && errno != EINTR) die("epoll_wait");
    if (told && restrict_it) told = 0, restrict_it(folder), say("restricted");
    if (count <= 0) continue;
    const int fd = event.data.fd;
    if (fd == listener)
      add(accepted(listener));
    else if (!echo_once(fd))
      close(fd);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return std::fprintf(stderr, "usage: structures STYLE ADDRESS PORT [PROGRAM ARGUMENT...]\n"), 2;
  const std::string style = argv[1];
  on(SIGTERM, [](int) { stopped = 1; });
  on(SIGUSR1, [](int) { told = 1; });
  const int listener = listen_at(argv[2], argv[3]);
  if (style == "prefork") return prefork(listener);
  if (style == "fork") return child_for_each(listener, echo);
  if (style == "exec") return child_for_each(listener, [&](int fd) { become(fd, argv + 4); });
  if (style == "pass") return pass(listener);
  if (style == "detach") {
    if (daemon(1, 1) != 0) die("daemon");
    say(("I am " + std::to_string(getpid())).c_str());
  }
  if (style == "setuid") return alone(listener, become_nobody, nullptr);
  if (style == "chroot") return alone(listener, change_root, argv[4]);
  if (style == "refuse") return alone(listener, refuse, nullptr);
  if (style == "kill") return alone(listener, kill_process, nullptr);
  return alone(listener, nullptr, nullptr);
}
