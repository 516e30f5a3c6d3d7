// How long the waiting calls wait, and what signals do meanwhile.

#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <atomic>

#include "../sets.hpp"

using namespace conformance;

namespace {

enum class Wait { poll, ppoll, select, pselect, epoll_wait, epoll_pwait, epoll_pwait2 };
constexpr Wait kAll[] = {Wait::poll,       Wait::ppoll,       Wait::select,      Wait::pselect,
                         Wait::epoll_wait, Wait::epoll_pwait, Wait::epoll_pwait2};
constexpr Wait kMasked[] = {Wait::ppoll, Wait::pselect, Wait::epoll_pwait, Wait::epoll_pwait2};

// Waits by that call for bytes from `fd`, which is in `set`, too; a negative time is for ever.
int wait_by(Wait how, int fd, int set, std::chrono::microseconds time, const sigset_t* mask = nullptr) {
  pollfd one{fd, POLLIN, 0};
  fd_set reads;
  FD_ZERO(&reads);
  FD_SET(fd, &reads);
  const auto ms = time < 0us ? -1 : static_cast<int>(time.count() / 1000);
  const timespec storage{time.count() / 1'000'000, time.count() % 1'000'000 * 1000};
  const timespec* const precise = time < 0us ? nullptr : &storage;
  timeval value{time.count() / 1'000'000, time.count() % 1'000'000};
  epoll_event event{};
  switch (how) {
    case Wait::poll: return poll(&one, 1, ms);
    case Wait::ppoll: return ppoll(&one, 1, precise, mask);
    case Wait::select: return select(fd + 1, &reads, nullptr, nullptr, precise ? &value : nullptr);
    case Wait::pselect: return pselect(fd + 1, &reads, nullptr, nullptr, precise, mask);
    case Wait::epoll_wait: return epoll_wait(set, &event, 1, ms);
    case Wait::epoll_pwait: return epoll_pwait(set, &event, 1, ms, mask);
    case Wait::epoll_pwait2: return epoll_pwait2(set, &event, 1, precise, mask);
  }
  return -2;
}

std::atomic<int> handled{0};

// Handles SIGUSR1 while it lives, which is blocked meanwhile if so desired.
class Handling {
 public:
  explicit Handling(bool blocked) {
    handled = 0;
    struct sigaction action {};
    action.sa_handler = [](int) { ++handled; };
    sigaction(SIGUSR1, &action, &before_);
    sigset_t usr1;
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(blocked ? SIG_BLOCK : SIG_UNBLOCK, &usr1, &mask_before_);
  }
  ~Handling() {
    pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
    sigaction(SIGUSR1, &before_, nullptr);
  }

 private:
  struct sigaction before_ {};
  sigset_t mask_before_{};
};

}  // namespace

TEST_CASE("poll, select, epoll_wait: a time limit is kept, and not too early",
          "[poll][ppoll][select][pselect][epoll_wait][epoll_pwait][epoll_pwait2]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  for (const auto how : kAll)
    for (const auto time : {1ms, 15ms}) {
      const auto begun = std::chrono::steady_clock::now();
      CHECK(wait_by(how, pair.client, set, time) == 0);
      const auto took = since(begun);
      CHECK(took >= time);
      CHECK(took < time + 100ms);  // on a busy machine
    }
}

TEST_CASE("ppoll, pselect, epoll_pwait2: limits far below a millisecond", "[ppoll][pselect][select][epoll_pwait2]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  for (const auto how : {Wait::ppoll, Wait::pselect, Wait::select, Wait::epoll_pwait2}) {
    auto least = 1'000'000us;
    for (int i = 0; i < 30; ++i) {
      const auto begun = std::chrono::steady_clock::now();
      CHECK(wait_by(how, pair.client, set, 200us) == 0);
      CHECK(since(begun) >= 200us);
      least = std::min(least, since(begun));
    }
    CHECK(least < 900us);
  }
}

TEST_CASE("poll, select, epoll_wait: no time at all is a look",
          "[poll][ppoll][select][pselect][epoll_wait][epoll_pwait][epoll_pwait2]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  for (const auto how : kAll) {
    const auto begun = std::chrono::steady_clock::now();
    for (int i = 0; i < 100; ++i) CHECK(wait_by(how, pair.client, set, 0us) == 0);
    CHECK(since(begun) < 500ms);
  }
  send_all(pair.server, "x");
  arrived(pair.client, 1);
  for (const auto how : kAll) CHECK(wait_by(how, pair.client, set, 0us) == 1);
}

TEST_CASE("poll, select, epoll_wait: without a limit they wait until there is something",
          "[poll][ppoll][select][pselect][epoll_wait][epoll_pwait][epoll_pwait2]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  for (const auto how : kAll) {
    std::thread sender([&] {
      std::this_thread::sleep_for(10ms);
      send(pair.server, "x", 1, 0);
    });
    CHECK(wait_by(how, pair.client, set, -1us) == 1);
    sender.join();
    receive(pair.client, 1);
  }
}

TEST_CASE("select: the time left is written back", "[select]") {
  const auto pair = connected();
  fd_set reads;
  const auto ask = [&](timeval& time) {
    FD_ZERO(&reads);
    FD_SET(pair.client, &reads);
    return select(pair.client + 1, &reads, nullptr, nullptr, &time);
  };
  timeval time{0, 20'000};
  CHECK(ask(time) == 0);
  CHECK(time.tv_sec == 0);
  CHECK(time.tv_usec == 0);
  send_all(pair.server, "x");
  arrived(pair.client, 1);
  time = {100, 0};
  CHECK(ask(time) == 1);
  CHECK(time.tv_sec == 99);
  CHECK(time.tv_usec > 0);
  time = {1, 2'500'000};  // more than a second in microseconds
  CHECK(ask(time) == 1);
  CHECK(time.tv_sec == 3);
  time = {0, 0};
  CHECK(ask(time) == 1);
  CHECK(time.tv_usec == 0);
}

TEST_CASE("ppoll, pselect: the time is not written to", "[ppoll][pselect][epoll_pwait2]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  const timespec time{0, 1'000'000};
  pollfd one{pair.client, POLLIN, 0};
  CHECK(ppoll(&one, 1, &time, nullptr) == 0);
  fd_set reads;
  FD_ZERO(&reads);
  FD_SET(pair.client, &reads);
  CHECK(pselect(pair.client + 1, &reads, nullptr, nullptr, &time, nullptr) == 0);
  epoll_event event{};
  CHECK(epoll_pwait2(set, &event, 1, &time, nullptr) == 0);
  CHECK(time.tv_nsec == 1'000'000);
}

TEST_CASE("ppoll, pselect, epoll_pwait, epoll_pwait2: a pending signal that the mask lets through ends the wait",
          "[ppoll][pselect][epoll_pwait][epoll_pwait2]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  sigset_t none;
  sigemptyset(&none);
  for (const auto how : kMasked) {
    const Handling handling(true);
    pthread_kill(pthread_self(), SIGUSR1);
    CHECK(wait_by(how, pair.client, set, 5ms) == 0);  // the thread's own mask still holds
    CHECK(handled == 0);
    CHECK_FAILS(wait_by(how, pair.client, set, -1us, &none), EINTR);
    CHECK(handled == 1);
    CHECK(wait_by(how, pair.client, set, 5ms, &none) == 0);
  }
}

TEST_CASE("ppoll, pselect: even without time to wait", "[ppoll][pselect]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  sigset_t none;
  sigemptyset(&none);
  for (const auto how : {Wait::ppoll, Wait::pselect}) {
    const Handling handling(true);
    pthread_kill(pthread_self(), SIGUSR1);
    CHECK_FAILS(wait_by(how, pair.client, set, 0us, &none), EINTR);
    CHECK(handled == 1);
  }
}

TEST_CASE("ppoll, pselect, epoll_pwait, epoll_pwait2: a mask keeps a signal out for the time of the call",
          "[ppoll][pselect][epoll_pwait][epoll_pwait2]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  for (const auto how : kMasked) {
    const auto self = pthread_self();
    const auto in_time = [&] {  // the other thread may be late
      const Handling handling(false);
      std::atomic<bool> sent{false};
      std::thread other([&] {
        std::this_thread::sleep_for(5ms);
        pthread_kill(self, SIGUSR1);
        sent = true;
      });
      const auto found = wait_by(how, pair.client, set, 30ms, &usr1);
      const bool was_sent = sent;
      const int times = handled;
      other.join();
      CHECK(found == 0);
      if (was_sent) CHECK(times == 1);  // as soon as the call is over
      return was_sent;
    };
    CHECK(eventually(in_time));
  }
}

TEST_CASE("poll, select, epoll_wait: a handler ends the wait, with SA_RESTART, too",
          "[poll][ppoll][select][pselect][epoll_wait][epoll_pwait][epoll_pwait2]") {
  const auto pair = connected();
  const EpollSet set;
  set.add(pair.client, EPOLLIN);
  for (const int flags : {0, SA_RESTART})
    for (const auto how : kAll) {
      const Handling handling(false);
      struct sigaction action {};
      action.sa_handler = [](int) { ++handled; };
      action.sa_flags = flags;
      sigaction(SIGUSR1, &action, nullptr);
      std::atomic<bool> over{false};
      std::thread other([&, self = pthread_self()] {
        while (!over) {
          std::this_thread::sleep_for(3ms);
          if (!over) pthread_kill(self, SIGUSR1);
        }
      });
      CHECK_FAILS(wait_by(how, pair.client, set, -1us), EINTR);
      over = true;
      other.join();
      CHECK(handled >= 1);
    }
}

TEST_CASE("poll, epoll_wait: what waits among idle sockets uses no CPU", "[poll][epoll_wait]") {
  std::vector<Pair> pairs;
  const EpollSet set;
  for (int i = 0; i < 50; ++i) {
    pairs.push_back(connected());
    set.add(pairs.back().client, EPOLLIN);
    set.add(pairs.back().server, EPOLLIN | EPOLLET);
  }
  CHECK(set.quiet(100ms));
  const auto used = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec * 1'000'000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_sec * 1'000'000 +
           usage.ru_stime.tv_usec;
  };
  // A tenth of the time: on an emulated processor each tick of the service thread costs some milliseconds.
  auto before = used();
  CHECK(set.quiet(500ms));
  CHECK(used() - before < 50'000);
  before = used();
  CHECK(poll(nullptr, 0, 300) == 0);
  CHECK(used() - before < 30'000);
}
