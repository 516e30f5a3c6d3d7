// rings WHAT: a program that has, or asks for, a ring of io_uring, and then talks to itself. It prints what became of
// the ring, and where its bytes went.
//
//   number      asks by syscall(2)
//   library     asks liburing
//   late        asks by syscall(2) when the connection is in its lane
//   instruction makes it by an instruction of its own, before the connection
//   later       the same, when one connection is in its lane; then comes another
//   inherited   got it from the program before this one, which it was itself
//   epoll       fills its epoll set by the ring, if it gets one, as libuv does

#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#ifdef RSOCK_LIBURING
#include <liburing.h>
#endif

#include "core/base/system_call.hpp"
#include "tests/shell/to_itself.hpp"

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "rings: not so: %s (errno %s)\n", what, std::strerror(errno));
  std::exit(1);
}

// By a library's or a system call's manners: what it says, as -errno.
long asked_by_number(io_uring_params& parameters) {
  const long ring = syscall(SYS_io_uring_setup, 8, &parameters);
  return ring < 0 ? -errno : ring;
}

long made_by_instruction(io_uring_params& parameters) { return rsock::system_call(SYS_io_uring_setup, 8, &parameters); }

void say_what_came(long ring) {
  std::printf("ring: %s\n", ring >= 0 ? "made" : std::strerror(static_cast<int>(-ring)));
}

#ifdef RSOCK_LIBURING
void ask_library() {
  io_uring ring{};
  io_uring_params parameters{};
  const int made = io_uring_queue_init(8, &ring, 0);
  if (made == 0) io_uring_queue_exit(&ring);
  const int by_parameters = io_uring_queue_init_params(8, &ring, &parameters);
  if (by_parameters == 0) io_uring_queue_exit(&ring);
  const int bare = io_uring_setup(8, &parameters);
  if (bare >= 0) close(bare);
  auto* probe = io_uring_get_probe();
  require((made < 0) == (by_parameters < 0) && (made < 0) == (bare < 0) && (made < 0) == !probe,
          "liburing says the same in all its functions");
  if (probe) io_uring_free_probe(probe);
  say_what_came(made);
}
#endif

// ---- a connection to itself

void pause_for(long milliseconds) { poll(nullptr, 0, static_cast<int>(milliseconds)); }

// Within the time that entering a lane takes at the most.
bool enters_lane(const Connection& it) {
  const bool expected = std::getenv("RINGS_LANE") != nullptr;
  for (int tries = 0, still = 0; tries < (expected ? 4000 : 400); ++tries, pause_for(5))
    if (still = in_lane(it) ? still + 1 : 0; still == 3) return true;
  return false;
}

void say_where(const Connection& it) { std::puts(enters_lane(it) ? "lane" : "tcp"); }

// ---- an epoll set that is filled by a ring

class Set {
 public:
  Set() {
    io_uring_params parameters{};
    const long made = asked_by_number(parameters);
    say_what_came(made);
    if (made >= 0) map(static_cast<int>(made), parameters);
  }
  void add(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (ring_ < 0) {
      require(epoll_ctl(set_, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
      return;
    }
    const unsigned at = *tail_ & *mask_;
    entries_[at] = {};
    entries_[at].opcode = IORING_OP_EPOLL_CTL;
    entries_[at].fd = set_;
    entries_[at].off = static_cast<uint64_t>(fd);
    entries_[at].len = EPOLL_CTL_ADD;
    entries_[at].addr = reinterpret_cast<uintptr_t>(&event);
    array_[at] = at;
    __atomic_store_n(tail_, *tail_ + 1, __ATOMIC_RELEASE);
    require(syscall(SYS_io_uring_enter, ring_, 1, 1, IORING_ENTER_GETEVENTS, nullptr, 0) == 1, "io_uring_enter");
  }
  // The one that is readable.
  int wait() const {
    epoll_event event{};
    require(epoll_wait(set_, &event, 1, 20'000) == 1, "the set hears of what is ready");
    return event.data.fd;
  }

 private:
  void map(int ring, const io_uring_params& it) {
    ring_ = ring;
    const auto get = [&](size_t size, off_t what) {
      void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, what);
      require(at != MAP_FAILED, "mmap of the ring");
      return static_cast<char*>(at);
    };
    auto* queue = get(it.sq_off.array + it.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
    entries_ = reinterpret_cast<io_uring_sqe*>(get(it.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES));
    tail_ = reinterpret_cast<unsigned*>(queue + it.sq_off.tail);
    mask_ = reinterpret_cast<unsigned*>(queue + it.sq_off.ring_mask);
    array_ = reinterpret_cast<unsigned*>(queue + it.sq_off.array);
  }

  int set_ = epoll_create1(EPOLL_CLOEXEC), ring_ = -1;
  io_uring_sqe* entries_ = nullptr;
  unsigned *tail_ = nullptr, *mask_ = nullptr, *array_ = nullptr;
};

// Each byte is waited for in the set, before and after the flow enters its lane.
void epoll() {
  Set set;
  const auto it = connect_to_itself();
  set.add(it.server);
  bool lane = false;
  for (int i = 0; i < 300; ++i, pause_for(1)) {
    const auto before = received_by_kernel(it);
    require(send(it.client, "x", 1, 0) == 1 && set.wait() == it.server, "send");
    char got;
    require(recv(it.server, &got, 1, 0) == 1, "recv");
    say(it.server, it.client);
    lane = received_by_kernel(it) == before;
  }
  std::puts(lane ? "lane" : "tcp");
}

void later() {
  const auto first = connect_to_itself();
  say_where(first);
  io_uring_params parameters{};
  say_what_came(made_by_instruction(parameters));
  const auto second = connect_to_itself();
  say(second.client, second.server);
  for (int tries = 0; in_lane(first); ++tries, pause_for(5)) require(tries < 2000, "the first goes back to TCP");
  std::puts("tcp");
  unsetenv("RINGS_LANE");
  say_where(second);
}

[[noreturn]] void hand_on(char** arguments) {
  io_uring_params parameters{};
  const long ring = made_by_instruction(parameters);
  say_what_came(ring);
  std::fflush(stdout);
  require(ring >= 0 && fcntl(static_cast<int>(ring), F_SETFD, 0) == 0, "the ring is there");
  setenv("RINGS_HANDED_ON", "1", 1);
  execv("/proc/self/exe", arguments);
  require(false, "exec");
  std::abort();
}

}  // namespace

int main(int count, char** arguments) {
  alarm(120);
  const std::string what = count > 1 ? arguments[1] : "";
  io_uring_params parameters{};
  if (what == "epoll") return epoll(), 0;
  if (what == "later") return later(), 0;
  if (what == "inherited" && !std::getenv("RINGS_HANDED_ON")) hand_on(arguments);
  if (what == "number") say_what_came(asked_by_number(parameters));
  if (what == "instruction") say_what_came(made_by_instruction(parameters));
#ifdef RSOCK_LIBURING
  if (what == "library") ask_library();
#endif
  const auto it = connect_to_itself();
  if (what == "late") {
    say_where(it);
    say_what_came(asked_by_number(parameters));
    std::puts(in_lane(it) ? "lane" : "tcp");
    const auto another = connect_to_itself();
    unsetenv("RINGS_LANE");
    say_where(another);
    return 0;
  }
  say_where(it);
}
