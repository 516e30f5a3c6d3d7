// What poll, select and epoll make of bad and odd arguments, by name and by number.

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <climits>

#include "../sets.hpp"

using namespace conformance;

namespace {

constexpr size_t kPage = 4096;

// What the last argument of pselect6 points to.
struct Mask {
  const void* set;
  size_t size;
};

fd_set only(int fd) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(fd, &set);
  return set;
}

// A copy of `value` at the end of memory that cannot be written.
template <class T>
T* read_only(const T& value) {
  auto* page = static_cast<char*>(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(page != MAP_FAILED);
  auto* copy = reinterpret_cast<T*>(page + kPage - sizeof value);
  memcpy(copy, &value, sizeof value);
  REQUIRE(mprotect(page, kPage, PROT_READ) == 0);
  return copy;
}

void bad_arguments(int fd) {
  auto set = only(fd);
  const timespec soon{0, 1000};
  auto* const bad = bad_pointer();
  const int count = fd + 1;
  CHECK_FAILS(syscall(SYS_select, count, &set, nullptr, nullptr, bad), EFAULT);
  CHECK_FAILS(syscall(SYS_pselect6, count, &set, nullptr, nullptr, bad, nullptr), EFAULT);
  const timeval soon_too{0, 1000};
  for (int which = 0; which < 3; ++which) {
    void* sets[3] = {};
    sets[which] = bad;
    CHECK_FAILS(syscall(SYS_select, count, sets[0], sets[1], sets[2], &soon_too), EFAULT);
    CHECK_FAILS(syscall(SYS_pselect6, count, sets[0], sets[1], sets[2], &soon, nullptr), EFAULT);
  }
  CHECK_FAILS(syscall(SYS_pselect6, count, &set, nullptr, nullptr, &soon, bad), EFAULT);
  const uint64_t none = 0;
  for (const auto& [mask, error] :
       {std::pair{Mask{bad, 8}, EFAULT}, {Mask{&none, 7}, EINVAL}, {Mask{&none, 16}, EINVAL}})
    CHECK_FAILS(syscall(SYS_pselect6, count, &set, nullptr, nullptr, &soon, &mask), error);
  const Mask no_mask{nullptr, 3};
  CHECK(syscall(SYS_pselect6, count, &set, nullptr, nullptr, &soon, &no_mask) == 0);
  const timespec too_many{0, 1'000'000'000}, negative{-1, 0};
  set = only(fd);
  CHECK_FAILS(syscall(SYS_pselect6, count, &set, nullptr, nullptr, &too_many, nullptr), EINVAL);
  CHECK_FAILS(syscall(SYS_pselect6, count, &set, nullptr, nullptr, &negative, nullptr), EINVAL);

  pollfd one{fd, POLLIN, 0};
  CHECK_FAILS(syscall(SYS_poll, bad, 1, 0), EFAULT);
  CHECK_FAILS(syscall(SYS_ppoll, bad, 1, &soon, nullptr, 8), EFAULT);
  CHECK_FAILS(syscall(SYS_ppoll, &one, 1, bad, nullptr, 8), EFAULT);
  CHECK_FAILS(syscall(SYS_ppoll, &one, 1, &soon, bad, 8), EFAULT);
  CHECK_FAILS(syscall(SYS_ppoll, &one, 1, &soon, &none, 7), EINVAL);
  CHECK_FAILS(syscall(SYS_ppoll, &one, 1, &negative, nullptr, 8), EINVAL);

  const EpollSet epoll;
  epoll.add(fd, EPOLLOUT);  // ready
  epoll_event event{};
  CHECK_FAILS(syscall(SYS_epoll_wait, int{epoll}, bad, 1, 0), EFAULT);
  CHECK_FAILS(syscall(SYS_epoll_pwait, int{epoll}, bad, 1, 0, nullptr, 8), EFAULT);
  CHECK_FAILS(syscall(SYS_epoll_pwait, int{epoll}, &event, 1, 0, bad, 8), EFAULT);
  CHECK_FAILS(syscall(SYS_epoll_pwait, int{epoll}, &event, 1, 0, &none, 7), EINVAL);
  CHECK_FAILS(syscall(SYS_epoll_pwait2, int{epoll}, bad, 1, &soon, nullptr, 8), EFAULT);
  CHECK_FAILS(syscall(SYS_epoll_pwait2, int{epoll}, &event, 1, bad, nullptr, 8), EFAULT);
  CHECK_FAILS(syscall(SYS_epoll_pwait2, int{epoll}, &event, 1, &soon, bad, 8), EFAULT);
  CHECK_FAILS(syscall(SYS_epoll_pwait2, int{epoll}, &event, 1, &soon, &none, 7), EINVAL);
  CHECK_FAILS(syscall(SYS_epoll_wait, int{epoll}, &event, 0, 0), EINVAL);
}

}  // namespace

TEST_CASE("syscall: waits by number with bad pointers: EFAULT",
          "[syscall][poll][ppoll][select][pselect][epoll_wait][epoll_pwait][epoll_pwait2]") {
  SECTION("for a flow") {
    const auto pair = connected();
    bad_arguments(pair.client);
  }
  SECTION("beside one") {
    const auto pair = connected();
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    const Fd one(ends[0]), other(ends[1]);
    bad_arguments(one);
  }
}

TEST_CASE("syscall: waits by number for nothing of concern, with bad pointers: EFAULT",
          "[syscall][select][pselect][ppoll][no-lane]") {
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Fd one(ends[0]), other(ends[1]);
  bad_arguments(one);
}

TEST_CASE("syscall: the time is in memory that cannot be written", "[syscall][select][pselect][ppoll]") {
  const auto pair = connected();
  auto* const time = read_only(timeval{0, 20'000});
  auto* const precise = read_only(timespec{0, 20'000'000});
  for (const bool ready : {false, true}) {
    if (ready) arrive(pair, "x");
    const auto begun = std::chrono::steady_clock::now();
    auto set = only(pair.client);
    CHECK(syscall(SYS_select, pair.client + 1, &set, nullptr, nullptr, time) == ready);
    set = only(pair.client);
    CHECK(syscall(SYS_pselect6, pair.client + 1, &set, nullptr, nullptr, precise, nullptr) == ready);
    pollfd one{pair.client, POLLIN, 0};
    CHECK(syscall(SYS_ppoll, &one, 1, precise, nullptr, 8) == ready);
    if (!ready) CHECK(since(begun) >= 60ms);
  }
}

TEST_CASE("syscall: by number, all times tell what is left", "[syscall][select][pselect][ppoll]") {
  const auto pair = connected();
  arrive(pair, "x");
  for (const time_t seconds : {time_t{5}, time_t{1} << 40}) {
    auto set = only(pair.client);
    timeval time{seconds, 0};
    CHECK(syscall(SYS_select, pair.client + 1, &set, nullptr, nullptr, &time) == 1);
    CHECK(time.tv_sec == seconds - 1);
    timespec precise{seconds, 0};
    CHECK(syscall(SYS_pselect6, pair.client + 1, &set, nullptr, nullptr, &precise, nullptr) == 1);
    CHECK(precise.tv_sec == seconds - 1);
    precise = {seconds, 0};
    pollfd one{pair.client, POLLIN, 0};
    CHECK(syscall(SYS_ppoll, &one, 1, &precise, nullptr, 8) == 1);
    CHECK(precise.tv_sec == seconds - 1);
  }
}

TEST_CASE("select: microseconds of more than a second, and times without end", "[select]") {
  const auto pair = connected();
  auto set = only(pair.client);
  timeval time{0, 1'020'000};
  const auto begun = std::chrono::steady_clock::now();
  CHECK(select(pair.client + 1, &set, nullptr, nullptr, &time) == 0);
  CHECK(since(begun) >= 1'020ms);
  for (timeval far : {timeval{LONG_MAX, 0}, timeval{LONG_MAX, 999'999}, timeval{1L << 40, 0}}) {
    std::thread sender([&] {
      std::this_thread::sleep_for(10ms);
      send_all(pair.server, "x");
    });
    set = only(pair.client);
    CHECK(select(pair.client + 1, &set, nullptr, nullptr, &far) == 1);
    CHECK(far.tv_sec > 1'000'000'000);
    sender.join();
    receive(pair.client, 1);
  }
}

TEST_CASE("poll: a list that cannot be written: EFAULT, once the wait is over", "[poll][ppoll][syscall]") {
  const auto pair = connected();
  auto* const list = read_only(pollfd{pair.client, POLLIN, 0});
  CHECK_FAILS(poll(list, 1, 1), EFAULT);
  arrive(pair, "x");
  CHECK_FAILS(poll(list, 1, 10'000), EFAULT);
  CHECK_FAILS(ppoll(list, 1, nullptr, nullptr), EFAULT);
  CHECK_FAILS(syscall(SYS_poll, list, 1, 10'000), EFAULT);
}

TEST_CASE("select: sets that cannot be written: EFAULT, once the wait is over", "[select][tcp]") {
  const auto pair = connected();
  auto* const set = read_only(only(pair.client));
  arrive(pair, "x");
  timeval time{10, 0};
  CHECK_FAILS(select(pair.client + 1, set, nullptr, nullptr, &time), EFAULT);
}

TEST_CASE("epoll_wait: room for fewer events than it is told", "[epoll_wait][syscall]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLOUT);
  set.add(pair.server, EPOLLOUT);
  auto* pages =
      static_cast<char*>(mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(mprotect(pages + kPage, kPage, PROT_NONE) == 0);
  for (const size_t room : {1, 2}) {
    auto* events = reinterpret_cast<epoll_event*>(pages + kPage - room * sizeof(epoll_event));
    CHECK(epoll_wait(set, events, 1000, 0) == static_cast<int>(room));
    CHECK(syscall(SYS_epoll_wait, int{set}, events, 7, 0) == static_cast<int>(room));
  }
}

TEST_CASE("recvmmsg: a time that cannot be written: EFAULT, and the bytes are gone", "[recvmmsg][syscall]") {
  const auto pair = connected();
  arrive(pair, "ab");
  auto* const time = read_only(timespec{1, 0});
  char byte;
  iovec piece{&byte, 1};
  mmsghdr message{};
  message.msg_hdr.msg_iov = &piece, message.msg_hdr.msg_iovlen = 1;
  CHECK_FAILS(recvmmsg(pair.client, &message, 1, 0, time), EFAULT);
  CHECK(receive(pair.client, 1) == "b");
  CHECK_FAILS(recvmmsg(pair.client, &message, 1, MSG_DONTWAIT, static_cast<timespec*>(bad_pointer())), EFAULT);
}

namespace {

// Sets for 1024 descriptors, behind which there is nothing, or bytes that are somebody else's.
void old_program(int fd, int peer) {
  constexpr auto kSize = sizeof(fd_set);
  auto* pages =
      static_cast<unsigned char*>(mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(mprotect(pages + 3 * kPage, kPage, PROT_NONE) == 0);
  for (const int count : {getdtablesize(), 1025, 70'000, INT_MAX})
    for (const auto* at : {pages + 3 * kPage - kSize, pages + kPage})
      for (const int behind : {0, 0x5a, 0xff}) {
        CAPTURE(count, behind);
        auto* set = reinterpret_cast<fd_set*>(const_cast<unsigned char*>(at));
        memset(pages, behind, 3 * kPage);
        for (const bool ready : {false, true}) {
          if (ready) send_all(peer, "x");
          if (ready) arrived(fd, 1);
          *set = only(fd);
          timeval time{0, ready ? 5'000'000 : 1000};
          CHECK(select(count, set, nullptr, nullptr, &time) == ready);
          CHECK(FD_ISSET(fd, set) == ready);
          *set = only(fd);
          timespec precise{ready ? 5 : 0, 1'000'000};
          CHECK(pselect(count, set, nullptr, nullptr, &precise, nullptr) == ready);
        }
        receive(fd, 1);
        for (const auto* byte = at + kSize; byte < pages + 3 * kPage; ++byte)
          if (*byte != behind) FAIL_CHECK("a byte behind the set has changed");
      }
}

}  // namespace

TEST_CASE("select: more descriptors than there are, and sets for fewer", "[select][pselect]") {
  const auto pair = connected();
  old_program(pair.client, pair.server);
}

TEST_CASE("select: more descriptors than there are, and sets for fewer, beside a flow", "[select][pselect]") {
  const auto pair = connected();
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const Fd one(ends[0]), other(ends[1]);
  old_program(one, other);
}

TEST_CASE("select: a descriptor far above the others", "[select][pselect][dup2]") {
  const auto pair = connected();
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  for (const int number : {300, 700, 1000}) {
    if (static_cast<rlim_t>(number) >= limit.rlim_cur) continue;
    Fd high(fcntl(pair.client, F_DUPFD_CLOEXEC, number));
    REQUIRE(high >= number);
    arrive(pair, "x");
    auto set = only(high);
    timeval time{5, 0};
    CHECK(select(1024, &set, nullptr, nullptr, &time) == 1);
    CHECK(FD_ISSET(high, &set));
    const int was = high;
    high.close();
    set = only(was);
    CHECK_FAILS(select(1024, &set, nullptr, nullptr, &time), EBADF);
    receive(pair.client, 1);
  }
}
