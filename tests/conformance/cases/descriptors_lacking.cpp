// RLIMIT_NOFILE: a program opens as many descriptors as without the library, whatever makes them.

#include <dirent.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
extern "C" {  // which glibc 2.36 forgot
#include <sys/pidfd.h>
}
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "../at_limit.hpp"

using namespace conformance;

namespace {

// The call needs `numbers` of them, has them, and has them no more.
template <class Call>
void at_limit(int numbers, Call call) {
  Program program;
  program.talk();
  program.fill(numbers);
  errno = 0;
  const bool made = call();
  INFO(strerrorname_np(errno));
  CHECK(made);
  program.has(numbers);
  program.talk();
  program.fill_up();
  errno = 0;
  CHECK_FALSE(call());
  CHECK(std::string(strerrorname_np(errno)) == "EMFILE");
  program.talk();
}

bool good(int fd) { return fd >= 0; }

}  // namespace

#define AT_LIMIT(name, tags, numbers, call)            \
  TEST_CASE("descriptor limit: " name, tags "[tcp]") { \
    at_limit(numbers, [] { return call; });            \
  }

AT_LIMIT("socket", "[socket]", 1, good(socket(AF_INET, SOCK_STREAM, 0)))
AT_LIMIT("socket, by number", "[socket][syscall]", 1,
         good(static_cast<int>(syscall(SYS_socket, AF_INET, SOCK_STREAM, 0))))
AT_LIMIT("a datagram socket", "[socket]", 1, good(socket(AF_INET, SOCK_DGRAM, 0)))
AT_LIMIT("socketpair", "[socketpair]", 2, ([] {
           int ends[2];
           return good(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
         })())
AT_LIMIT("open", "[open]", 1, good(open("/dev/null", O_RDONLY)))
AT_LIMIT("open64", "[open64]", 1, good(open64("/dev/null", O_RDONLY)))
AT_LIMIT("openat", "[openat]", 1, good(openat(AT_FDCWD, "/dev/null", O_RDONLY)))
AT_LIMIT("openat64", "[openat64]", 1, good(openat64(AT_FDCWD, "/dev/null", O_RDONLY)))
AT_LIMIT("openat, by number", "[openat][syscall]", 1,
         good(static_cast<int>(syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY))))
AT_LIMIT("creat", "[creat]", 1, good(creat("/dev/null", 0600)))
AT_LIMIT("creat64", "[creat64]", 1, good(creat64("/dev/null", 0600)))
AT_LIMIT("mkstemp", "[mkstemp]", 1, ([] {
           char name[] = "/tmp/rsock-XXXXXX";
           const int fd = mkstemp(name);
           return good(fd) && unlink(name) == 0;
         })())
AT_LIMIT("mkostemp", "[mkostemp]", 1, ([] {
           char name[] = "/tmp/rsock-XXXXXX";
           const int fd = mkostemp(name, O_CLOEXEC);
           return good(fd) && unlink(name) == 0;
         })())
AT_LIMIT("mkstemps", "[mkstemps]", 1, ([] {
           char name[] = "/tmp/rsock-XXXXXX.txt";
           const int fd = mkstemps(name, 4);
           return good(fd) && unlink(name) == 0;
         })())
AT_LIMIT("mkostemps", "[mkostemps]", 1, ([] {
           char name[] = "/tmp/rsock-XXXXXX.txt";
           const int fd = mkostemps(name, 4, O_CLOEXEC);
           return good(fd) && unlink(name) == 0;
         })())
AT_LIMIT("shm_open", "[shm_open]", 1, ([] {
           const auto name = "/rsock-case-" + std::to_string(getpid());
           const int fd = shm_open(name.c_str(), O_CREAT | O_RDWR, 0600);
           return good(fd) && shm_unlink(name.c_str()) == 0;
         })())
AT_LIMIT("mq_open", "[mq_open]", 1, ([] {
           const auto name = "/rsock-case-" + std::to_string(getpid());
           const int fd = mq_open(name.c_str(), O_CREAT | O_RDWR, 0600, nullptr);
           return good(fd) && mq_unlink(name.c_str()) == 0;
         })())
AT_LIMIT("posix_openpt", "[posix_openpt]", 1, good(posix_openpt(O_RDWR | O_NOCTTY)))
AT_LIMIT("fopen", "[fopen]", 1, fopen("/dev/null", "r") != nullptr)
AT_LIMIT("fopen64", "[fopen64]", 1, fopen64("/dev/null", "r") != nullptr)
AT_LIMIT("tmpfile", "[tmpfile]", 1, tmpfile() != nullptr)
AT_LIMIT("tmpfile64", "[tmpfile64]", 1, tmpfile64() != nullptr)
AT_LIMIT("opendir", "[opendir]", 1, opendir("/") != nullptr)
AT_LIMIT("pipe", "[pipe]", 2, ([] {
           int ends[2];
           return good(pipe(ends));
         })())
AT_LIMIT("pipe2", "[pipe2]", 2, ([] {
           int ends[2];
           return good(pipe2(ends, O_CLOEXEC));
         })())
AT_LIMIT("pipe2, by number", "[pipe2][syscall]", 2, ([] {
           int ends[2];
           return good(static_cast<int>(syscall(SYS_pipe2, ends, 0)));
         })())
AT_LIMIT("dup", "[dup]", 1, good(dup(STDERR_FILENO)))
AT_LIMIT("dup, by number", "[dup][syscall]", 1, good(static_cast<int>(syscall(SYS_dup, STDERR_FILENO))))
AT_LIMIT("F_DUPFD", "[fcntl]", 1, good(fcntl(STDERR_FILENO, F_DUPFD, 0)))
AT_LIMIT("F_DUPFD_CLOEXEC", "[fcntl]", 1, good(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10)))
AT_LIMIT("epoll_create", "[epoll_create]", 1, good(epoll_create(1)))
AT_LIMIT("epoll_create1", "[epoll_create1]", 1, good(epoll_create1(EPOLL_CLOEXEC)))
AT_LIMIT("eventfd", "[eventfd]", 1, good(eventfd(0, 0)))
AT_LIMIT("eventfd, by number", "[eventfd][syscall]", 1, good(static_cast<int>(syscall(SYS_eventfd2, 0, 0))))
AT_LIMIT("timerfd_create", "[timerfd_create]", 1, good(timerfd_create(CLOCK_MONOTONIC, 0)))
AT_LIMIT("signalfd", "[signalfd]", 1, ([] {
           sigset_t none;
           sigemptyset(&none);
           return good(signalfd(-1, &none, 0));
         })())
AT_LIMIT("inotify_init", "[inotify_init]", 1, good(inotify_init()))
AT_LIMIT("inotify_init1", "[inotify_init1]", 1, good(inotify_init1(IN_CLOEXEC)))
AT_LIMIT("fanotify_init", "[fanotify_init]", 1, good(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY)))
AT_LIMIT("open_by_handle_at", "[open_by_handle_at]", 1, ([] {
           struct {
             file_handle head;
             char rest[MAX_HANDLE_SZ];
           } handle{};
           handle.head.handle_bytes = MAX_HANDLE_SZ;
           int mount = 0;
           // A tmpfs, which has handles.
           return chdir("/dev/shm") == 0 && name_to_handle_at(AT_FDCWD, ".", &handle.head, &mount, 0) == 0 &&
                  good(open_by_handle_at(AT_FDCWD, &handle.head, O_RDONLY));
         })())
AT_LIMIT("memfd_create", "[memfd_create]", 1, good(memfd_create("case", 0)))
AT_LIMIT("pidfd_open", "[pidfd_open]", 1, good(pidfd_open(getpid(), 0)))

TEST_CASE("descriptor limit: dup of a connection in its lane", "[dup][fcntl][tcp]") {
  Program program;
  program.fill(2);
  const Fd copy(dup(program.pairs()[0].client));
  REQUIRE(copy >= 0);
  const Fd another(fcntl(program.pairs()[1].server, F_DUPFD, 3));
  REQUIRE(another >= 0);
  program.has(2);
  program.fill_up();
  CHECK_FAILS(dup(program.pairs()[0].client), EMFILE);
  exchange(copy, program.pairs()[0].server);
  exchange(another, program.pairs()[1].client);
  program.talk();
}

TEST_CASE("descriptor limit: dup2 and dup3 to any number below it", "[dup2][dup3][tcp]") {
  Program program;
  const Fd null(open("/dev/null", O_RDWR));
  program.has(1);
  std::vector<Fd> copies;
  for (int fd = kLimit - 1; fd > STDERR_FILENO; --fd) {
    if (fd == null || !program.may_have(fd)) continue;
    copies.emplace_back(fd % 2 ? dup2(null, fd) : dup3(null, fd, O_CLOEXEC));
    REQUIRE(copies.back() == fd);
  }
  program.talk();
}

// accept takes a number before it takes a connection: one that is refused is not lost.
TEST_CASE("descriptor limit: accept", "[accept][tcp]") {
  Program program;
  const auto listener = listening();
  const auto client = stream_socket();
  program.has(2);
  REQUIRE(connect(client, listener.name(), listener.size) == 0);
  program.fill(1);
  const Fd server(accept(listener.fd, nullptr, nullptr));
  REQUIRE(server >= 0);
  program.has(1);
  exchange(client, server);
  program.fill_up();
  CHECK_FAILS(accept(listener.fd, nullptr, nullptr), EMFILE);
  program.talk();
  exchange(client, server);
}

TEST_CASE("descriptor limit: accept4, of a listener that does not block", "[accept4][tcp]") {
  Program program;
  const auto listener = listening();
  const auto client = stream_socket();
  program.has(2);
  set_nonblocking(listener.fd);
  REQUIRE(connect(client, listener.name(), listener.size) == 0);
  program.fill_up();
  CHECK_FAILS(accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC), EMFILE);
  program.empty();
  const Fd server(accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(server >= 0);
  exchange(client, server);
  program.talk();
}

TEST_CASE("descriptor limit: as many connections as numbers", "[accept][socket][tcp]") {
  const int limit = GENERATE(64, 256, 1024);
  const pid_t child = child_that([=] {
    const rlimit both{static_cast<rlim_t>(limit), static_cast<rlim_t>(limit)};
    if (setrlimit(RLIMIT_NOFILE, &both) != 0) return 1;
    const int own = count_open(limit);
    const auto listener = listening(Family::v4, limit);
    std::vector<std::pair<int, int>> pairs;
    for (;;) {
      const int client = socket(AF_INET, SOCK_STREAM, 0);
      if (client < 0) break;
      if (connect(client, listener.name(), listener.size) != 0) return 2;
      const int server = accept(listener.fd, nullptr, nullptr);
      if (server < 0) {
        close(client);
        break;
      }
      if (!put(client, "hello") || take(server, 5) != "hello" || !put(server, "you") || take(client, 3) != "you")
        return 3;
      pairs.emplace_back(client, server);
      constexpr size_t kFirst = 2;  // their lanes are waited for
      if (pairs.size() <= kFirst && !entered(client, server)) return 7;
    }
    if (errno != EMFILE) return 4;
    if (static_cast<int>(pairs.size()) != (limit - own - 1) / 2) return 5;
    for (int round = 0; round < 3; ++round)
      for (const auto& [client, server] : pairs)
        if (!put(server, "again") || take(client, 5) != "again" || !put(client, "yes") || take(server, 3) != "yes")
          return 6;
    for (int i = 0; i < 4; ++i)
      close(pairs[static_cast<size_t>(i)].first);  // numbers for what a library writes at the end
    return 0;
  });
  CHECK(status_of(child) == 0);
}
