#include "core/engine/service/summons.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

namespace rsock::engine {

void Summons::call() {
  begun_.fetch_add(1);
  if (const int bell = number_.load(); bell >= 0) {
    const uint64_t one = 1;
    (void)sys::write(bell, &one, sizeof one);
  } else {
    sys::futex_wake(begun_);
  }
  ended_.fetch_add(1);
}

Status Summons::open(int epoll, uint64_t tag) {
  auto bell = out_of_the_way([] { return sys::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); });
  if (!bell) return Errno{bell.error()};
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag;
  if (const auto added = sys::epoll_ctl(epoll, EPOLL_CTL_ADD, bell->get(), &event); !added) return added;
  bell_ = std::move(*bell);
  number_ = bell_.get();
  return Done{};
}

bool Summons::close() {
  constexpr auto kPatience = milliseconds(50);
  constexpr timespec kTurn{0, 100'000};
  number_ = -1;
  for (const auto deadline = now() + kPatience; begun_ != ended_; kernel.syscall(SYS_nanosleep, &kTurn, nullptr)) {
    if (now() < deadline) continue;
    number_ = bell_.get();
    return false;
  }
  bell_.reset();
  return true;
}

void Summons::answer() {
  heard_ = begun_;
  uint64_t count;
  (void)sys::read(bell_.get(), &count, sizeof count);
}

bool Summons::doze(Duration most) {
  if (begun_ == heard_) sys::futex_sleep(begun_, heard_, most);
  const auto before = std::exchange(heard_, begun_.load());
  return heard_ != before;
}

}  // namespace rsock::engine
