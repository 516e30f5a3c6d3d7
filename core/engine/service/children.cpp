#include "core/engine/service/children.hpp"

#include <algorithm>
#include <array>
#include <mutex>
#include <utility>

namespace rsock::engine {

void Children::listen(ExposedFd line) {
  const auto number = next_line_++;
  if (line && line.watch(events_.set(), kListening, Events::tag(Events::Kind::child, number))) {
    lines_.emplace(number, std::move(line));
  } else {
    unheard_ = true;
    engine_.orders.call();
  }
}

void Children::look() {
  if (unheard_ || !calling_.empty()) timers_.set({Due::children}, next_answer_);
}

void Children::called(uint64_t number) {
  constexpr int kCalls = 16;
  const auto line = lines_.find(number);
  if (line == lines_.end()) return;
  std::array<uint8_t, 1> call;
  auto heard = receive_bare(line->second.get(), call);
  for (int i = 1; i < kCalls && heard && *heard > 0; ++i) heard = receive_bare(line->second.get(), call);
  // The child has ended, or sends what is no call.
  if (heard ? *heard == 0 : !heard.is(EAGAIN) && !heard.is(EINTR)) return void(lines_.erase(line));
  calling_.push_back(number);
}

void Children::answer() {
  constexpr int kShare = 10;
  constexpr auto kLook = milliseconds(20);
  const auto begun = now();
  {
    const std::lock_guard guard(engine_.lock);
    engine_.answer_family();
  }
  for (const auto number : std::exchange(calling_, {}))
    if (const auto line = lines_.find(number); line != lines_.end())
      (void)line->second.watch(events_.set(), kListening, Events::tag(Events::Kind::child, number));
  const auto end = now();
  next_answer_ = end + std::max<Duration>(kShare * (end - begun), unheard_ ? kLook : Duration::zero());
  if (unheard_) timers_.set({Due::children}, next_answer_);
}

void Children::dismiss() {
  lines_.clear();
  calling_.clear();
  unheard_ = false;
  timers_.cancel({Due::children});
}

}  // namespace rsock::engine
