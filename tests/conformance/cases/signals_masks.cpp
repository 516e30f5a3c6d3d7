// The signal masks of ppoll, pselect and epoll_pwait.

#include "../signals.hpp"

using namespace conformance;

namespace {

struct MaskedWaiter {
  const char* name;
  int (*call)(int fd, const timespec* time, const sigset_t* mask);
};

template <class Wait>
int in_set(int fd, Wait wait) {
  const Fd set(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
  return wait(+set, &event);
}

const MaskedWaiter masked_waiters[] = {
    {"ppoll",
     [](int fd, const timespec* time, const sigset_t* mask) {
       pollfd one{fd, POLLIN, 0};
       return ppoll(&one, 1, time, mask);
     }},
    {"pselect",
     [](int fd, const timespec* time, const sigset_t* mask) {
       fd_set set;
       FD_ZERO(&set);
       FD_SET(fd, &set);
       return pselect(fd + 1, &set, nullptr, nullptr, time, mask);
     }},
    {"epoll_pwait",
     [](int fd, const timespec* time, const sigset_t* mask) {
       const int ms = time ? static_cast<int>(time->tv_sec * 1000 + time->tv_nsec / 1'000'000) : -1;
       return in_set(fd, [&](int set, epoll_event* event) { return epoll_pwait(set, event, 1, ms, mask); });
     }},
    {"epoll_pwait2",
     [](int fd, const timespec* time, const sigset_t* mask) {
       return in_set(fd, [&](int set, epoll_event* event) { return epoll_pwait2(set, event, 1, time, mask); });
     }},
};
const sigset_t kNone{};
const timespec kNow{};

}  // namespace

TEST_CASE("ppoll and its kin: the mask lets a pending signal in: EINTR",
          "[ppoll][pselect][epoll_pwait][epoll_pwait2]") {
  const Action action(SIGUSR1, count_signal);
  const auto pair = connected();
  const Blocked blocked(SIGUSR1);
  for (const auto& waiter : masked_waiters)
    for (const auto* time : {static_cast<const timespec*>(nullptr), &kNow}) {  // also of a call that would not wait
      INFO(waiter.name);
      handled = 0;
      raise(SIGUSR1);
      CHECK(handled == 0);
      if (time && waiter.name[0] == 'e') {  // but epoll: what does not wait does not look
        CHECK(waiter.call(pair.server, time, &kNone) == 0);
        CHECK(handled == 0);
        continue;
      }
      CHECK_FAILS(waiter.call(pair.server, time, &kNone), EINTR);
      CHECK(handled == 1);
      CHECK(is_blocked(SIGUSR1));
    }
}

TEST_CASE("ppoll and its kin: what is ready comes first, and the signal stays pending",
          "[ppoll][pselect][epoll_pwait][epoll_pwait2]") {
  const Action action(SIGUSR1, count_signal);
  const auto pair = connected();
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  const Blocked blocked(SIGUSR1);
  handled = 0;
  raise(SIGUSR1);
  for (const auto& waiter : masked_waiters) {
    INFO(waiter.name);
    CHECK(waiter.call(pair.server, nullptr, &kNone) == 1);
    CHECK(handled == 0);
    CHECK(is_pending(SIGUSR1));
  }
}

TEST_CASE("ppoll and its kin: a signal that comes while they sleep is let in by the mask",
          "[ppoll][pselect][epoll_pwait][epoll_pwait2]") {
  const Action action(SIGUSR1, count_signal);
  const auto pair = connected();
  for (const auto& waiter : masked_waiters) {
    INFO(waiter.name);
    handled = 0;
    bool blocked_after = false;
    Caller caller([&] {
      const Blocked blocked(SIGUSR1);
      const int value = waiter.call(pair.server, nullptr, &kNone);
      const int error = errno;
      blocked_after = is_blocked(SIGUSR1);
      errno = error;
      return value;
    });
    REQUIRE(caller.asleep());
    caller.signal(SIGUSR1);
    const auto outcome = caller.join();
    CHECK(outcome.value == -1);
    CHECK(outcome.error == EINTR);
    CHECK(handled == 1);
    CHECK(blocked_after);
  }
}

TEST_CASE("ppoll and its kin: a signal that the mask blocks waits for the call's end",
          "[ppoll][pselect][epoll_pwait][epoll_pwait2]") {
  const Action action(SIGUSR1, count_signal);
  const auto pair = connected();
  for (const auto& waiter : masked_waiters) {
    INFO(waiter.name);
    handled = 0;
    const auto mask = only(SIGUSR1);
    Caller caller([&] { return waiter.call(pair.server, nullptr, &mask); });
    REQUIRE(caller.asleep());
    caller.signal(SIGUSR1);
    REQUIRE(caller.asleep());
    CHECK(handled == 0);
    send_all(pair.client, "x");
    CHECK(caller.join().value == 1);
    CHECK(handled == 1);
    CHECK(receive(pair.server, 1) == "x");
  }
}

TEST_CASE("ppoll and its kin: a storm that the mask blocks never ends them",
          "[ppoll][pselect][epoll_pwait][epoll_pwait2]") {
  // Signals meet the call awake as well, on its way in and while it spins.
  const Action action(SIGUSR1, count_signal);
  const auto pair = connected();
  const auto mask = only(SIGUSR1);
  for (const auto& waiter : masked_waiters) {
    INFO(waiter.name);
    std::atomic<bool> stop{false};
    const timespec brief{0, 300'000};
    Caller caller([&] {
      long interrupted = 0;
      while (!stop) interrupted += waiter.call(pair.server, &brief, &mask) != 0;
      return interrupted;
    });
    handled = 0;
    caller.signal_until(SIGUSR1, [] { return handled >= 30; });
    stop = true;
    CHECK(caller.join().value == 0);
  }
}
