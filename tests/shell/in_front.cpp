// in_front [behind]: a connection to itself that enters its lane, and waits there that end in time, whatever is
// preloaded with the library. "behind": shell_behind is, and has to get the program's own call.

#include <dlfcn.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "core/base/system_call.hpp"
#include "tests/shell/to_itself.hpp"

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "in_front: not so: %s\n", what);
  std::exit(1);
}

// The kernel's clock, whatever clock_gettime tells.
int64_t milliseconds_now() {
  timespec time;
  rsock::system_call(SYS_clock_gettime, CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000 + time.tv_nsec / 1'000'000;
}

// The kernel sees a byte of it no more.
void enter_lane(const Connection& it) {
  const auto deadline = milliseconds_now() + 20'000;
  for (int still = 0; still < 3;) {
    require(milliseconds_now() < deadline, "the flow enters its lane");
    still = in_lane(it) ? still + 1 : 0;
    const timespec pause{0, 1'000'000};
    rsock::system_call(SYS_nanosleep, &pause, nullptr);
  }
}

// For a flow on which nothing comes.
template <class Wait>
void ends_in_time(const char* what, Wait wait) {
  const auto begun = milliseconds_now();
  require(wait() == 0, what);
  const auto took = milliseconds_now() - begun;
  require(took >= 95 && took < 10'000, what);
}

}  // namespace

int main(int count, char**) {
  alarm(60);
  const auto it = connect_to_itself();
  const int client = it.client, server = it.server;
  enter_lane(it);

  ends_in_time("poll ends after 100 ms", [&] {
    pollfd asked{client, POLLIN, 0};
    return poll(&asked, 1, 100);
  });
  ends_in_time("epoll_wait ends after 100 ms", [&] {
    const int set = epoll_create1(0);
    epoll_event event{};
    event.events = EPOLLIN;
    require(epoll_ctl(set, EPOLL_CTL_ADD, client, &event) == 0, "epoll_ctl");
    return epoll_wait(set, &event, 1, 100);
  });
  ends_in_time("recv ends after 100 ms", [&] {
    const timeval limit{0, 100'000};
    require(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0, "SO_RCVTIMEO");
    char byte;
    return recv(client, &byte, 1, 0) < 0 ? 0 : 1;
  });

  if (count > 1) {
    const auto* calls = static_cast<int*>(dlsym(RTLD_DEFAULT, "shell_behind_calls"));
    require(calls && syscall(SYS_gettid) > 0 && *calls == 1, "the library behind gets the program's system call");
    require(munmap(nullptr, 4096) == 0 && *calls == 2, "the library behind gets the program's munmap");
  }
  say(client, server);
  std::puts("in the lane");
}
