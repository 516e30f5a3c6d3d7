// no_memory: calls on connections while an allocation fails: the first, the second and so on, alone or with all that
// follow. A call may fail with ENOMEM, or do what it does; the process goes on, no byte is lost, and afterwards the
// connection works as before.
//
// Fails malloc for the whole process, and so also for what is preloaded. `no_memory lane`: the connections have to be
// in one.

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>

extern "C" void* __libc_malloc(size_t);

namespace {

std::atomic<long> allocations{0}, first_failing{0};  // 0: none fails
std::atomic<bool> all_follow{false};

bool fails() {
  const long first = first_failing.load(std::memory_order_relaxed);
  if (first == 0) return false;
  const long number = allocations.fetch_add(1, std::memory_order_relaxed) + 1;
  return all_follow ? number >= first : number == first;
}

}  // namespace

extern "C" void* malloc(size_t size) {
  if (!fails()) return __libc_malloc(size);
  errno = ENOMEM;
  return nullptr;
}

namespace {

[[noreturn]] void die(const char* what) {
  first_failing = 0;
  std::printf("%s: errno %d\n", what, errno);
  std::exit(1);
}
void must(bool holds, const char* what) {
  if (!holds) die(what);
}

uint64_t received_by_kernel(int fd) {
  tcp_info facts{};
  socklen_t size = sizeof facts;
  getsockopt(fd, IPPROTO_TCP, TCP_INFO, &facts, &size);
  return facts.tcpi_bytes_received;
}

void take(int fd, std::string_view expected) {
  char part[4096];
  for (size_t done = 0; done < expected.size();) {
    pollfd one{fd, POLLIN, 0};
    must(poll(&one, 1, 10000) == 1, "nothing comes");
    const auto got = recv(fd, part, std::min(sizeof part, expected.size() - done), 0);
    must(got > 0, "the stream ended");
    must(std::memcmp(part, expected.data() + done, static_cast<size_t>(got)) == 0, "other bytes came");
    done += static_cast<size_t>(got);
  }
}
void give(int fd, std::string_view bytes) {
  must(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()), "send");
}

int listener_at(sockaddr_in& name) {
  name = {};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof name;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  must(bind(fd, reinterpret_cast<sockaddr*>(&name), size) == 0 && listen(fd, 64) == 0, "listen");
  getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size);
  return fd;
}

struct Pair {
  int one = -1, other = -1;
};

Pair connected(int listener, const sockaddr_in& name, bool lane) {
  Pair pair;
  pair.one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  must(connect(pair.one, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0, "connect");
  pair.other = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  must(pair.other >= 0, "accept");
  for (int tries = 0, still = 0; still < 3; ++tries) {
    const auto before = received_by_kernel(pair.other);
    give(pair.one, "ping"), take(pair.other, "ping");
    give(pair.other, "pong"), take(pair.one, "pong");
    still = !lane || received_by_kernel(pair.other) == before ? still + 1 : 0;
    must(tries < 2000, "the connection did not enter its lane");
    usleep(2000);
  }
  return pair;
}

// `call` with each allocation failing in turn, until there are no more; `check` after each.
void each(const char* what, const std::function<void()>& call, const std::function<void()>& check) {
  for (const bool follow : {false, true}) {
    long most = 0;
    for (long n = 1; n <= 200; ++n) {
      allocations = 0, all_follow = follow;
      first_failing = n;
      call();
      first_failing = 0;
      most = n;
      const bool enough = allocations < n;
      check();
      if (enough) break;
    }
    std::printf("%s: %ld\n", what, most);
  }
}

bool is_no_memory() { return errno == ENOMEM || errno == EMFILE; }

}  // namespace

int main(int count, char** arguments) {
  const bool lane = count > 1 && std::string_view(arguments[1]) == "lane";
  setvbuf(stdout, nullptr, _IOLBF, 0);
  sockaddr_in name;
  const int listener = listener_at(name);
  const auto pair = connected(listener, name, lane);
  const auto [one, other] = pair;
  const auto works = [&] { give(one, "to"), take(other, "to"), give(other, "fro"), take(one, "fro"); };
  ssize_t done = 0;
  const std::string big(300'000, 'b');

  each(
      "send", [&] { done = send(one, "x", 1, MSG_NOSIGNAL); },
      [&] { must(done == 1 || is_no_memory(), "send"), take(other, std::string_view("x", done > 0)), works(); });
  each(
      "writev",
      [&] {
        iovec parts[3] = {{const_cast<char*>("a"), 1}, {const_cast<char*>("bc"), 2}, {const_cast<char*>("d"), 1}};
        done = writev(one, parts, 3);
      },
      [&] {
        must(done > 0 || is_no_memory(), "writev"),
            take(other, std::string_view("abcd", static_cast<size_t>(std::max<ssize_t>(done, 0)))), works();
      });
  each(
      "send of much", [&] { done = send(one, big.data(), big.size(), MSG_DONTWAIT | MSG_NOSIGNAL); },
      [&] {
        must(done > 0 || is_no_memory(), "send of much"),
            take(other, std::string_view(big).substr(0, static_cast<size_t>(std::max<ssize_t>(done, 0)))), works();
      });
  timeval soon{0, 20'000};
  setsockopt(other, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
  char byte = 0;
  each(
      "recv that waits", [&] { done = recv(other, &byte, 1, 0); },
      [&] { must(done < 0 && (errno == EAGAIN || is_no_memory()), "recv that waits"), works(); });
  ssize_t sent = 0;
  each(
      "recv", [&] { sent = send(one, "y", 1, MSG_NOSIGNAL), done = sent == 1 ? recv(other, &byte, 1, 0) : 1; },
      [&] {
        if (done < 0) take(other, "y");
        works();
      });
  each(
      "poll",
      [&] {
        pollfd it{other, POLLIN, 0};
        done = poll(&it, 1, 5);
      },
      [&] { must(done == 0 || is_no_memory(), "poll"), works(); });
  each(
      "select",
      [&] {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(other, &set);
        timeval wait{0, 5000};
        done = select(other + 1, &set, nullptr, nullptr, &wait);
      },
      [&] { must(done == 0 || is_no_memory(), "select"), works(); });
  const int set = epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{EPOLLIN, {}};
  each(
      "epoll_ctl", [&] { done = epoll_ctl(set, EPOLL_CTL_ADD, other, &event); },
      [&] {
        must(done == 0 || is_no_memory(), "epoll_ctl");
        if (done == 0) must(epoll_ctl(set, EPOLL_CTL_DEL, other, &event) == 0, "it is not in the set");
        works();
      });
  must(epoll_ctl(set, EPOLL_CTL_ADD, other, &event) == 0, "epoll_ctl");
  each(
      "epoll_wait", [&] { done = epoll_wait(set, &event, 1, 5); },
      [&] { must(done == 0 || is_no_memory(), "epoll_wait"), works(); });
  close(set);
  each(
      "dup", [&] { done = dup(one); },
      [&] {
        must(done >= 0 || is_no_memory(), "dup");
        if (done >= 0) close(static_cast<int>(done));
        works();
      });
  const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  char head[100];
  must(pread(file, head, sizeof head, 0) == sizeof head, "pread");
  each(
      "sendfile",
      [&] {
        off_t at = 0;
        done = sendfile(one, file, &at, sizeof head);
      },
      [&] {
        must(done > 0 || is_no_memory(), "sendfile"),
            take(other, {head, static_cast<size_t>(std::max<ssize_t>(done, 0))}), works();
      });
  each(
      "fork",
      [&] {
        const pid_t child = fork();
        if (child == 0) _exit(0);
        int status = 0;
        must(child > 0 ? waitpid(child, &status, 0) == child && status == 0 : is_no_memory(), "fork");
      },
      works);
  each(
      "connect, accept, close",
      [&] {
        const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        must(fd >= 0 && connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0, "connect");
        const int accepted = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        must(accepted >= 0, "accept");
        give(fd, "hello"), take(accepted, "hello");
        close(fd);
        must(recv(accepted, &byte, 1, 0) == 0, "no end");
        close(accepted);
      },
      works);
  for (int i = 0; i < 3; ++i) {
    Pair more;
    each(
        "close of a flow in its lane",
        [&] {
          if (more.one >= 0) close(more.one);
        },
        [&] {
          if (more.other >= 0) {
            must(recv(more.other, &byte, 1, 0) == 0, "no end");
            close(more.other);
          }
          more = connected(listener, name, false), works();
        });
  }
  std::puts("all is well");
  first_failing = 0;
  return 0;
}
