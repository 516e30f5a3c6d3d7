// carried: streams of known bytes between two processes, by a program that is tolerant of errors.
//
//   carried [DESCRIPTORS MAPPINGS DESCRIPTORS MAPPINGS]
//
// A child connects, again and again; the two ends talk for a while, in which the connection may enter a lane, and then
// send much at once, both ways, as the connection's number says: by threads that block, by poll, or by epoll. An error
// that a call returns ends that connection and is no failure. What came has to be right and in order all the same; no
// end has more than the other gave, and one that reads the end of the stream has all of it.
//
// Then everything is closed, and each process counts what it has left: descriptors, and mappings that are shared
// memory. It prints them, `left DESCRIPTORS MAPPINGS DESCRIPTORS MAPPINGS`, first those of the accepting process. If it
// is told how many may be left, it waits until there are no more, and otherwise until nothing changes any more.
//
// Exit status: 0, or 1 when a byte was wrong, lost or came twice, or when more is left than may be. One that stands
// still is ended by whoever runs it.

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <thread>

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kConnections = 6;
constexpr size_t kMessage = 48, kMessages = 30, kMuch = 150'000, kPiece = 20'000;
constexpr auto kSettling = 5s;  // of what is given back

bool failed = false;

__attribute__((format(printf, 1, 2))) void complain(const char* format, ...) {
  failed = true;
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fputc('\n', stderr);
}

char byte_at(uint64_t number, bool of_client, uint64_t offset) {
  uint64_t x = (offset >> 3) + number * 0x9e3779b97f4a7c15ull + (of_client ? 0x1234567 : 0);
  x ^= x >> 31, x *= 0xbf58476d1ce4e5b9ull, x ^= x >> 29;
  return static_cast<char>(x >> (8 * (offset & 7)));
}

// What one end says of a connection when it is over.
struct Told {
  uint64_t number = 0, sent = 0, received = 0;
  int error = 0;  // 0: it read the end of the stream
};

// One end of one connection.
class End {
 public:
  End(int fd, bool client, uint64_t number) : fd_(fd), client_(client), random_(number * 2 + client) {
    told_.number = number;
  }

  Told run() {
    if (talk() && exchange()) finish();
    close(fd_);
    return told_;
  }

 private:
  // An error, or 0 at the end of the stream before its time: false, which ends the connection.
  bool over(int error) {
    if (told_.error == 0) told_.error = error;
    shutdown(fd_, SHUT_RDWR);
    return false;
  }

  // One call; false when the connection is over. Nothing may be ready: then it does nothing.
  bool send_some(size_t most) {
    char piece[kPiece];
    const size_t size = std::min<size_t>(most, 1 + random_() % kPiece);
    for (size_t i = 0; i < size; ++i) piece[i] = byte_at(told_.number, client_, told_.sent + i);
    const auto sent = send(fd_, piece, size, MSG_NOSIGNAL);
    if (sent < 0) return errno == EINTR || errno == EAGAIN || over(errno);
    told_.sent += static_cast<uint64_t>(sent);
    return true;
  }
  bool receive_some(size_t most) {
    char piece[kPiece];
    const auto got = recv(fd_, piece, std::min(most, sizeof piece), 0);
    if (got < 0) return errno == EINTR || errno == EAGAIN || over(errno);
    if (got == 0) ended_ = true;
    for (ssize_t i = 0; i < got; ++i, ++told_.received)
      if (piece[i] != byte_at(told_.number, !client_, told_.received)) {
        complain("connection %lu, %s: byte %lu is wrong", told_.number, client_ ? "client" : "server", told_.received);
        return over(EILSEQ);
      }
    return true;
  }
  bool send_until(uint64_t offset) {
    while (told_.sent < offset)
      if (!send_some(offset - told_.sent)) return false;
    return true;
  }
  bool receive_until(uint64_t offset) {
    while (told_.received < offset && !ended_)
      if (!receive_some(offset - told_.received)) return false;
    return !ended_;
  }

  bool talk() {
    for (size_t i = 1; i <= kMessages; ++i) {
      if (client_) std::this_thread::sleep_for(200us);
      const bool said = client_ ? send_until(i * kMessage) && receive_until(i * kMessage)
                                : receive_until(i * kMessage) && send_until(i * kMessage);
      if (!said) return false;
    }
    return true;
  }

  bool exchange() {
    switch (told_.number % 3) {
      case 0: return by_threads();
      case 1: return without_blocking([this](short events) { return polled(events); });
      default: return by_epoll();
    }
  }
  bool by_threads() {
    std::thread other([this] {
      if (send_until(kAll)) shutdown(fd_, SHUT_WR);
    });
    // Two threads may both end it; whichever was first has the error.
    while (!ended_ && receive_some(kPiece)) {
    }
    other.join();
    return told_.error == 0;
  }
  template <class Wait>
  bool without_blocking(Wait wait) {
    if (fcntl(fd_, F_SETFL, fcntl(fd_, F_GETFL) | O_NONBLOCK) != 0) return over(errno);
    for (bool shut = false; !ended_ || !shut;) {
      const int ready = wait(static_cast<short>(POLLIN | (shut ? 0 : POLLOUT)));
      if (ready < 0) return over(-ready);
      if (ready & (POLLIN | POLLHUP | POLLERR) && !ended_ && !receive_some(kPiece)) return false;
      if (ready & POLLOUT && told_.sent < kAll && !send_some(kAll - told_.sent)) return false;
      if (told_.sent == kAll && !shut) {
        if (shutdown(fd_, SHUT_WR) != 0) return over(errno);
        shut = true;
      }
    }
    return true;
  }
  // What is ready, or an errno, negative.
  int polled(short events) {
    pollfd one{fd_, events, 0};
    if (poll(&one, 1, -1) < 0) return errno == EINTR ? 0 : -errno;
    return one.revents;
  }
  bool by_epoll() {
    const int set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0) return over(errno);
    epoll_event event{EPOLLIN | EPOLLOUT, {}};
    uint32_t asked = event.events;
    const bool done =
        epoll_ctl(set, EPOLL_CTL_ADD, fd_, &event) != 0 ? over(errno) : without_blocking([&](short events) {
          epoll_event now{static_cast<uint32_t>(events), {}};
          if (asked != now.events && epoll_ctl(set, EPOLL_CTL_MOD, fd_, &now) != 0) return -errno;
          asked = now.events;
          const int found = epoll_wait(set, &now, 1, -1);
          if (found < 0) return errno == EINTR ? 0 : -errno;
          return found ? static_cast<int>(now.events) : 0;
        });
    close(set);
    return done;
  }
  void finish() {
    while (!ended_ && receive_some(kPiece)) {
    }
  }

  static constexpr uint64_t kAll = kMessages * kMessage + kMuch;

  const int fd_;
  const bool client_;
  std::minstd_rand random_;
  Told told_;
  bool ended_ = false;  // the stream of the other end
};

// A socket that is connected to nobody, and waits for nobody: the library keeps one for the next time that it dials.
bool is_spare(int fd) {
  sockaddr_un peer{};
  socklen_t size = sizeof peer, room = sizeof(int);
  int domain = 0, listens = 0;
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &room) == 0 && domain == AF_UNIX &&
         getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &room) == 0 && !listens &&
         getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0;
}

// That aside, and bells, which it keeps for whoever sleeps next: as many as ever slept at once.
int descriptors() {
  int count = 0;
  DIR* const folder = opendir("/proc/self/fd");
  if (!folder) return 0;
  while (const auto* const one = readdir(folder)) {
    char name[32] = {};
    (void)!readlinkat(dirfd(folder), one->d_name, name, sizeof name - 1);
    count +=
        one->d_name[0] != '.' && std::string_view(name) != "anon_inode:[eventfd]" && !is_spare(std::atoi(one->d_name));
  }
  closedir(folder);
  return count - 1;  // the folder
}
int mappings() {
  int count = 0;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) count += line.find("rw-s ") != std::string::npos;
  return count;
}

struct Left {
  int descriptors = 0, mappings = 0;
  bool operator==(const Left&) const = default;
  bool within(const Left& most) const { return descriptors <= most.descriptors && mappings <= most.mappings; }
};

Left left() { return {descriptors(), mappings()}; }

void name_descriptors() {
  for (int fd = 0; fd < 4096; ++fd) {
    char name[100];
    const auto path = "/proc/self/fd/" + std::to_string(fd);
    const auto size = readlink(path.c_str(), name, sizeof name);
    if (size <= 0) continue;
    sockaddr_un own{};
    socklen_t own_size = sizeof own;
    const bool named = getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) == 0 && own.sun_family == AF_UNIX;
    constexpr socklen_t kName = offsetof(sockaddr_un, sun_path) + 1;  // in the abstract space
    std::fprintf(stderr, "  %d %.*s %.*s\n", fd, static_cast<int>(size), name,
                 named && own_size > kName ? static_cast<int>(own_size - kName) : 0, own.sun_path + 1);
  }
}

// See above. `most` without descriptors: it is not known how many there may be.
Left settled(const Left& most) {
  const auto deadline = Clock::now() + kSettling;
  auto now = left();
  for (auto before = Left{}; Clock::now() < deadline; before = now) {
    if (most.descriptors ? now.within(most) : now == before) return now;
    std::this_thread::sleep_for(most.descriptors ? 10ms : 100ms);
    now = left();
  }
  if (most.descriptors) name_descriptors();
  return now;
}

template <class T>
bool get(int fd, T& value) {
  ssize_t got;
  do got = read(fd, &value, sizeof value);
  while (got < 0 && errno == EINTR);
  return got == static_cast<ssize_t>(sizeof value);
}
template <class T>
void put(int fd, const T& value) {
  if (write(fd, &value, sizeof value) != static_cast<ssize_t>(sizeof value))
    complain("a pipe: %s", std::strerror(errno));
}

// The number of a connection goes in front of its bytes.
void client(const sockaddr_in& name, int reports, const Left& most) {
  for (uint64_t number = 1; number <= kConnections; ++number) {
    Told told{number, 0, 0, 0};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const auto* const address = reinterpret_cast<const sockaddr*>(&name);
    if (fd < 0) {
      told.error = errno;
    } else if (connect(fd, address, sizeof name) != 0 ||
               send(fd, &number, sizeof number, MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof number)) {
      told.error = errno;
      close(fd);
    } else {
      told = End(fd, true, number).run();
    }
    put(reports, told);
  }
  put(reports, Told{0, 0, 0, failed});
  put(reports, settled(most));
}

void serve(int fd, std::map<uint64_t, Told>& all) {
  uint64_t number = 0;
  if (recv(fd, &number, sizeof number, MSG_WAITALL) == static_cast<ssize_t>(sizeof number))
    all[number] = End(fd, false, number).run();
  else
    close(fd);
}

void compare(const Told& from, const Told& to, const char* what) {
  if (to.received > from.sent)
    complain("connection %lu, %s: %lu bytes were sent, %lu came", from.number, what, from.sent, to.received);
  else if (to.error == 0 && to.received < from.sent)
    complain("connection %lu, %s: %lu bytes were sent (%s), %lu came before the end of the stream", from.number, what,
             from.sent, from.error ? std::strerror(from.error) : "no error", to.received);
}

void must_be_within(const Left& now, const Left& most, const char* who) {
  if (most.descriptors && !now.within(most))
    complain("%s has %d descriptors and %d mappings left, not %d and %d", who, now.descriptors, now.mappings,
             most.descriptors, most.mappings);
}

void server(int listener, int reports, const Left& most, const Left& most_of_client) {
  std::map<uint64_t, Told> here, there;
  for (bool goes_on = true; goes_on;) {
    pollfd both[] = {{listener, POLLIN, 0}, {reports, POLLIN, 0}};
    if (poll(both, 2, -1) < 0) continue;
    if (both[0].revents) {
      const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd >= 0) serve(fd, here);
    } else if (both[1].revents) {
      Told told;
      goes_on = get(reports, told) && told.number != 0;
      if (goes_on) there[told.number] = told;
      if (told.error && told.number == 0) failed = true;
    }
  }
  close(listener);
  for (const auto& [number, told] : here) {
    compare(there[number], told, "to the server");
    compare(told, there[number], "to the client");
    if (told.error || there[number].error)
      std::printf("connection %lu: client: %s, server: %s\n", number, std::strerror(there[number].error),
                  std::strerror(told.error));
  }
  Left other;
  if (!get(reports, other)) complain("the client ended early");
  const auto mine = settled(most);
  std::printf("left %d %d %d %d\n", mine.descriptors, mine.mappings, other.descriptors, other.mappings);
  must_be_within(mine, most, "the server"), must_be_within(other, most_of_client, "the client");
}

}  // namespace

int main(int count, char** words) {
  const auto most = [&](int at) {
    return count > at + 1 ? Left{std::atoi(words[at]), std::atoi(words[at + 1])} : Left{};
  };
  setvbuf(stdout, nullptr, _IOLBF, 0);
  int names[2], reports[2];
  if (pipe2(names, O_CLOEXEC) != 0 || pipe2(reports, O_CLOEXEC) != 0) return 2;
  const pid_t child = fork();
  if (child == 0) {
    close(names[1]), close(reports[0]);
    sockaddr_in name{};
    const bool told = get(names[0], name);
    if (told) client(name, reports[1], most(3));
    (void)get(names[0], name);  // until the other has counted, too: what the two share goes when one ends
    return failed || !told;
  }
  close(names[0]), close(reports[1]);
  sockaddr_in name{};
  name.sin_family = AF_INET, name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const address = reinterpret_cast<sockaddr*>(&name);
  socklen_t size = sizeof name;
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool listens = listener >= 0 && bind(listener, address, size) == 0 && listen(listener, 64) == 0 &&
                       getsockname(listener, address, &size) == 0;
  if (!listens) std::printf("no listener: %s\n", std::strerror(errno));
  if (listens) put(names[1], name);
  if (listens) server(listener, reports[0], most(1), most(3));
  close(names[1]);
  int status = 0;
  if (waitpid(child, &status, 0) != child || (listens && status != 0)) complain("the client ended with %d", status);
  return failed;
}
