#include "core/engine/service/events.hpp"

#include <algorithm>
#include <chrono>

#include "core/base/kernel.hpp"
#include "core/engine/service/summons.hpp"

namespace rsock::engine {

Status Events::open(Summons& summons) {
  auto set = out_of_the_way([] { return sys::epoll_create(); });
  if (!set) return Errno{set.error()};
  if (const auto opened = summons.open(set->get(), tag(Kind::bell)); !opened) return opened;
  set_ = std::move(*set);
  return Done{};
}

Status Events::control(int operation, int fd, uint32_t events, uint64_t tag) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  return sys::epoll_ctl(set_.get(), operation, fd, &event);
}

Result<int> Events::sleep(std::span<epoll_event> events, Duration most, Summons& summons) const {
  if (set_) {
    const auto timeout = most == Duration::max() ? -1 : static_cast<int>(std::chrono::ceil<milliseconds>(most).count());
    return sys::epoll_sleep(set_.get(), events.data(), static_cast<int>(events.size()), timeout);
  }
  constexpr auto kDoze = milliseconds(60'000);
  events[0].events = EPOLLIN;
  events[0].data.u64 = tag(Kind::bell);
  return summons.doze(std::min<Duration>(most, kDoze));
}

}  // namespace rsock::engine
