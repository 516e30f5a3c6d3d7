// Every errno of the epoll calls, for sockets in a lane and sets that contain them.

#include <sys/mman.h>
#include <sys/syscall.h>

#include <climits>

#include "../sets.hpp"

using namespace conformance;

namespace {

constexpr int kOperations[] = {EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL};

// Sets without, and with, a socket in a lane behave alike.
struct Sets {
  Pair pair = connected();
  EpollSet empty, used;
  Sets() { used.add(pair.client, EPOLLIN); }
  std::vector<int> all() const { return {empty, used}; }
};

}  // namespace

TEST_CASE("epoll_create, epoll_create1: EINVAL from a bad size or flag", "[epoll_create][epoll_create1][no-lane]") {
  CHECK_FAILS(epoll_create(0), EINVAL);
  CHECK_FAILS(epoll_create(-1), EINVAL);
  CHECK_FAILS(epoll_create1(EPOLL_CLOEXEC | 1), EINVAL);
  const Fd set(epoll_create(1)), closing(epoll_create1(EPOLL_CLOEXEC)), open(epoll_create1(0));
  CHECK(fcntl(set, F_GETFD) == 0);
  CHECK(fcntl(closing, F_GETFD) == FD_CLOEXEC);
  CHECK(fcntl(open, F_GETFD) == 0);
}

TEST_CASE("epoll_create: a set serves sockets whichever call made it", "[epoll_create][epoll_create1]") {
  const auto pair = connected();
  for (const int fd : {epoll_create(1), epoll_create(1000), epoll_create1(0), epoll_create1(EPOLL_CLOEXEC)}) {
    const EpollSet set{Fd(fd)};
    set.add(pair.client, EPOLLOUT);
    CHECK(set.report() == "OUT");
  }
}

namespace {

// A number that is given to nobody for a while: the lowest one may be the library's for a moment, which is looking for
// the peer.
int high_number_of(int fd) {
  constexpr int kHigh = 700;
  return fcntl(fd, F_DUPFD_CLOEXEC, kHigh);
}

}  // namespace

TEST_CASE("epoll_ctl: EBADF from a set that is closed", "[epoll_ctl]") {
  const auto pair = connected();
  EpollSet set;
  const int number = high_number_of(set);
  set.add(pair.client, EPOLLIN);
  set.close();
  REQUIRE(close(number) == 0);
  epoll_event event{};
  for (const int operation : kOperations) CHECK_FAILS(epoll_ctl(number, operation, pair.client, &event), EBADF);
  CHECK_FAILS(epoll_ctl(-1, EPOLL_CTL_ADD, pair.client, &event), EBADF);
  CHECK_FAILS(epoll_wait(number, &event, 1, 0), EBADF);
}

TEST_CASE("epoll_ctl: EBADF from a descriptor that is closed", "[epoll_ctl]") {
  Sets sets;
  const int number = high_number_of(sets.pair.client);
  sets.pair.client.close();
  REQUIRE(close(number) == 0);
  epoll_event event{};
  for (const int set : sets.all())
    for (const int operation : kOperations) CHECK_FAILS(epoll_ctl(set, operation, number, &event), EBADF);
  CHECK_FAILS(epoll_ctl(sets.used, EPOLL_CTL_ADD, -1, &event), EBADF);
}

TEST_CASE("epoll_ctl: EEXIST for a member, even with other events", "[epoll_ctl]") {
  const Sets sets;
  epoll_event event{};
  event.events = EPOLLOUT | EPOLLET;
  CHECK_FAILS(epoll_ctl(sets.used, EPOLL_CTL_ADD, sets.pair.client, &event), EEXIST);
  CHECK(sets.used.quiet());  // the entry is what it was
}

TEST_CASE("epoll_ctl: ENOENT for what is no member", "[epoll_ctl]") {
  const Sets sets;
  epoll_event event{};
  for (const int set : sets.all()) {
    CHECK_FAILS(epoll_ctl(set, EPOLL_CTL_MOD, sets.pair.server, &event), ENOENT);
    CHECK_FAILS(epoll_ctl(set, EPOLL_CTL_DEL, sets.pair.server, &event), ENOENT);
    CHECK_FAILS(epoll_ctl(set, EPOLL_CTL_DEL, sets.pair.server, nullptr), ENOENT);
  }
  sets.used.remove(sets.pair.client);
  CHECK_FAILS(epoll_ctl(sets.used, EPOLL_CTL_DEL, sets.pair.client, nullptr), ENOENT);
  CHECK_FAILS(epoll_ctl(sets.used, EPOLL_CTL_MOD, sets.pair.client, &event), ENOENT);
}

TEST_CASE("epoll_ctl: EINVAL from what is no set, or the set itself", "[epoll_ctl]") {
  const Sets sets;
  const auto pipe = a_pipe();
  epoll_event event{};
  for (const int operation : kOperations) {
    CHECK_FAILS(epoll_ctl(pipe.out, operation, sets.pair.client, &event), EINVAL);
    CHECK_FAILS(epoll_ctl(sets.pair.server, operation, sets.pair.client, &event), EINVAL);
    CHECK_FAILS(epoll_ctl(sets.pair.client, operation, sets.pair.client, &event), EINVAL);
    for (const int set : sets.all()) CHECK_FAILS(epoll_ctl(set, operation, set, &event), EINVAL);
  }
  // The connection is none the worse for it.
  send_all(sets.pair.server, "x");
  CHECK(sets.used.next_report() == "IN");
}

TEST_CASE("epoll_ctl: EINVAL from an unknown operation", "[epoll_ctl]") {
  const Sets sets;
  epoll_event event{};
  for (const int set : sets.all())
    for (const int operation : {0, 4, -1, 99}) CHECK_FAILS(epoll_ctl(set, operation, sets.pair.client, &event), EINVAL);
}

TEST_CASE("epoll_ctl: EPERM from a descriptor that cannot be waited for", "[epoll_ctl]") {
  const Sets sets;
  const Fd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  REQUIRE(file >= 0);
  epoll_event event{};
  for (const int set : sets.all()) CHECK_FAILS(epoll_ctl(set, EPOLL_CTL_ADD, file, &event), EPERM);
}

TEST_CASE("epoll_ctl: EFAULT from a bad event, but not for DEL", "[epoll_ctl]") {
  const Sets sets;
  auto* const bad = static_cast<epoll_event*>(bad_pointer());
  for (epoll_event* event : {bad, static_cast<epoll_event*>(nullptr)}) {
    CHECK_FAILS(epoll_ctl(sets.used, EPOLL_CTL_MOD, sets.pair.client, event), EFAULT);
    CHECK_FAILS(epoll_ctl(sets.used, EPOLL_CTL_ADD, sets.pair.server, event), EFAULT);
    CHECK_FAILS(epoll_ctl(sets.empty, EPOLL_CTL_ADD, sets.pair.server, event), EFAULT);
  }
  CHECK(epoll_ctl(sets.used, EPOLL_CTL_DEL, sets.pair.client, bad) == 0);
}

TEST_CASE("epoll_ctl: ELOOP from a ring of sets, and from a chain too long", "[epoll_ctl]") {
  const Sets sets;
  const EpollSet outer;
  outer.add(sets.used, EPOLLIN);
  epoll_event event{};
  event.events = EPOLLIN;
  CHECK_FAILS(epoll_ctl(sets.used, EPOLL_CTL_ADD, outer, &event), ELOOP);
  std::vector<EpollSet> chain(8);
  int last = sets.used, errors = 0;
  for (auto& each : chain) {
    if (epoll_ctl(each, EPOLL_CTL_ADD, last, &event) != 0) {
      CHECK((errno == ELOOP || errno == EINVAL));
      ++errors;
    }
    last = each;
  }
  CHECK(errors > 0);
}

TEST_CASE("epoll_ctl: EINVAL from EPOLLEXCLUSIVE where it may not be", "[epoll_ctl]") {
  const Sets sets;
  epoll_event event{};
  for (const uint32_t with : {EPOLLONESHOT, EPOLLRDHUP, EPOLLPRI, EPOLLRDNORM, EPOLLMSG}) {
    event.events = EPOLLIN | EPOLLEXCLUSIVE | with;
    for (const int set : sets.all()) CHECK_FAILS(epoll_ctl(set, EPOLL_CTL_ADD, sets.pair.server, &event), EINVAL);
    CHECK_FAILS(epoll_ctl(sets.used, EPOLL_CTL_ADD, sets.pair.client, &event), EINVAL);  // rather than EEXIST
  }
  event.events = EPOLLIN | EPOLLEXCLUSIVE;
  CHECK_FAILS(epoll_ctl(sets.used, EPOLL_CTL_MOD, sets.pair.client, &event), EINVAL);
  CHECK_FAILS(epoll_ctl(sets.used, EPOLL_CTL_MOD, sets.pair.server, &event), EINVAL);  // rather than ENOENT
  sets.used.add(sets.pair.server, EPOLLIN | EPOLLOUT | EPOLLET | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLEXCLUSIVE);
  event.events = EPOLLIN;
  CHECK_FAILS(epoll_ctl(sets.used, EPOLL_CTL_MOD, sets.pair.server, &event), EINVAL);
  sets.used.remove(sets.pair.server);
  CHECK_FAILS(sets.empty.control(EPOLL_CTL_ADD, sets.used, EPOLLIN | EPOLLEXCLUSIVE, 0), EINVAL);
}

TEST_CASE("epoll_wait, epoll_pwait, epoll_pwait2: EINVAL from no room or too much",
          "[epoll_wait][epoll_pwait][epoll_pwait2]") {
  const Sets sets;
  send_all(sets.pair.server, "x");
  arrived(sets.pair.client, 1);
  epoll_event event{};
  for (const int set : sets.all())
    for (const int room : {0, -1, INT_MIN, INT_MAX}) {
      CHECK_FAILS(epoll_wait(set, &event, room, 0), EINVAL);
      CHECK_FAILS(epoll_pwait(set, &event, room, 0, nullptr), EINVAL);
      const timespec none{};
      CHECK_FAILS(epoll_pwait2(set, &event, room, &none, nullptr), EINVAL);
    }
}

TEST_CASE("epoll_wait: EINVAL from what is no set", "[epoll_wait][epoll_pwait]") {
  const auto pair = connected();
  const auto pipe = a_pipe();
  epoll_event event{};
  CHECK_FAILS(epoll_wait(pair.client, &event, 1, 0), EINVAL);
  CHECK_FAILS(epoll_pwait(pair.client, &event, 1, 0, nullptr), EINVAL);
  CHECK_FAILS(epoll_wait(pipe.out, &event, 1, 0), EINVAL);
  CHECK_FAILS(epoll_wait(-1, &event, 1, 0), EBADF);
}

TEST_CASE("epoll_pwait2: EINVAL from a time that is none, EFAULT from a bad pointer", "[epoll_pwait2]") {
  const Sets sets;
  epoll_event event{};
  for (const int set : sets.all()) {
    for (const timespec& time : {timespec{-1, 0}, timespec{0, -1}, timespec{0, 1'000'000'000}})
      CHECK_FAILS(epoll_pwait2(set, &event, 1, &time, nullptr), EINVAL);
    CHECK_FAILS(epoll_pwait2(set, &event, 1, static_cast<timespec*>(bad_pointer()), nullptr), EFAULT);
  }
}

TEST_CASE("epoll_pwait: EFAULT from a bad mask", "[epoll_pwait][epoll_pwait2]") {
  const Sets sets;
  epoll_event event{};
  auto* const bad = static_cast<sigset_t*>(bad_pointer());
  const timespec none{};
  for (const int set : sets.all()) {
    CHECK_FAILS(epoll_pwait(set, &event, 1, 0, bad), EFAULT);
    CHECK_FAILS(epoll_pwait2(set, &event, 1, &none, bad), EFAULT);
  }
}

TEST_CASE("epoll_wait: EFAULT from a bad place for events, once there are any", "[epoll_wait]") {
  const Sets sets;
  auto* const bad = static_cast<epoll_event*>(bad_pointer());
  CHECK(epoll_wait(sets.used, bad, 4, 0) == 0);
  CHECK(epoll_wait(sets.used, bad, 4, 20) == 0);
  send_all(sets.pair.server, "x");
  arrived(sets.pair.client, 1);
  CHECK_FAILS(epoll_wait(sets.used, bad, 4, -1), EFAULT);
  epoll_event* volatile nowhere = nullptr;
  CHECK_FAILS(epoll_wait(sets.used, nowhere, 4, 0), EFAULT);
  CHECK(sets.used.report() == "IN");
  // Not even looked at where it cannot be the program's.
  CHECK_FAILS(epoll_wait(sets.used, reinterpret_cast<epoll_event*>(~uintptr_t{4095}), 4, 0), EFAULT);
  CHECK_FAILS(epoll_wait(sets.empty, reinterpret_cast<epoll_event*>(~uintptr_t{4095}), 4, 0), EFAULT);
}

TEST_CASE("epoll_wait: an edge that met a bad place for events is not lost", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN | EPOLLET | EPOLLONESHOT);
  send_all(pair.server, "x");
  arrived(pair.client, 1);
  CHECK_FAILS(epoll_wait(set, static_cast<epoll_event*>(bad_pointer()), 1, 0), EFAULT);
  CHECK(set.report() == "IN");
  CHECK(set.quiet());
}

TEST_CASE("epoll_wait: room that is not all there is used as far as it goes", "[epoll_wait]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLOUT);
  set.add(pair.server, EPOLLOUT);
  // Room for two, says the mapping; more, says the program.
  auto* const pages =
      static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(pages != MAP_FAILED);
  REQUIRE(mprotect(pages + 4096, 4096, PROT_NONE) == 0);
  volatile int room = INT_MAX / static_cast<int>(sizeof(epoll_event));
  CHECK(epoll_wait(set, reinterpret_cast<epoll_event*>(pages + 4096) - 2, room, 0) == 2);
  munmap(pages, 8192);
}

TEST_CASE("epoll_ctl, epoll_wait: the same by number",
          "[epoll_ctl][epoll_wait][epoll_pwait][epoll_pwait2][epoll_create1][syscall]") {
  const auto pair = connected();
  const EpollSet set{Fd(static_cast<int>(syscall(SYS_epoll_create1, EPOLL_CLOEXEC)))};
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = 77;
  CHECK(syscall(SYS_epoll_ctl, static_cast<int>(set), EPOLL_CTL_ADD, +pair.client, &event) == 0);
  CHECK_FAILS(syscall(SYS_epoll_ctl, static_cast<int>(set), EPOLL_CTL_ADD, +pair.client, &event), EEXIST);
  const timespec none{};
#ifdef SYS_epoll_wait
  CHECK(syscall(SYS_epoll_wait, static_cast<int>(set), &event, 1, 0) == 0);
#endif
  CHECK(syscall(SYS_epoll_pwait, static_cast<int>(set), &event, 1, 0, nullptr, 8) == 0);
  CHECK(syscall(SYS_epoll_pwait2, static_cast<int>(set), &event, 1, &none, nullptr, 8) == 0);
  send_all(pair.server, "x");
  arrived(pair.client, 1);
#ifdef SYS_epoll_wait
  CHECK(syscall(SYS_epoll_wait, static_cast<int>(set), &event, 1, 0) == 1);
#endif
  CHECK(syscall(SYS_epoll_pwait, static_cast<int>(set), &event, 1, 0, nullptr, 8) == 1);
  event.data.u64 = 0;
  CHECK(syscall(SYS_epoll_pwait2, static_cast<int>(set), &event, 1, &none, nullptr, 8) == 1);
  CHECK(event.events == EPOLLIN);
  CHECK(event.data.u64 == 77);
  CHECK(syscall(SYS_epoll_ctl, static_cast<int>(set), EPOLL_CTL_DEL, +pair.client, nullptr) == 0);
  CHECK(syscall(SYS_epoll_pwait, static_cast<int>(set), &event, 1, 0, nullptr, 8) == 0);
}
