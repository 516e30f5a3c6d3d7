#include "tests/fabric/device/loop.hpp"

#include <sys/epoll.h>

#include <algorithm>
#include <array>

namespace fabric {

Loop::Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {}

void Loop::watch(int fd, Do ready) {
  watched_[fd] = std::make_shared<Do>(std::move(ready));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
}

void Loop::unwatch(int fd) noexcept {
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  watched_.erase(fd);
}

void Loop::after(Duration pause, Do what) { due_.emplace(Clock::now() + pause, std::move(what)); }

int Loop::wait_ms() const {
  if (due_.empty()) return -1;
  const auto left = std::chrono::ceil<milliseconds>(due_.begin()->first - Clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, 10'000));
}

// What becomes due meanwhile waits for the next turn.
void Loop::do_what_is_due() {
  const auto now = Clock::now();
  std::multimap<Time, Do> due;
  while (!due_.empty() && due_.begin()->first <= now) due.insert(due_.extract(due_.begin()));
  for (auto& [time, what] : due) what();
}

void Loop::run() {
  std::array<epoll_event, 64> events;
  for (;;) {
    const int count = epoll_wait(epoll_.get(), events.data(), events.size(), wait_ms());
    for (int at = 0; at < count; ++at) {
      const auto found = watched_.find(events[static_cast<size_t>(at)].data.fd);
      if (found == watched_.end()) continue;
      const auto ready = found->second;  // it may end itself
      (*ready)();
    }
    do_what_is_due();
  }
}

}  // namespace fabric
