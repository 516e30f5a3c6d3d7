#include "core/engine/service/attending.hpp"

#include <mutex>
#include <utility>

#include "core/base/clock.hpp"

namespace rsock::engine {
namespace {

constexpr auto kTick = milliseconds(10);

}  // namespace

void Attending::look() { timers_.put({Due::tick}, next_look()); }

std::optional<Time> Attending::next_look() {
  if (!engine_.any_links) return {};
  const auto polls = engine_.polls - own_polls_;
  const bool quiet = polls == std::exchange(seen_polls_, polls);
  // While application threads are awake and poll they are not disturbed, not even by a look at the lock.
  if (!quiet && engine_.asleep == 0 && !relaxed_) return now() + kTick;
  const std::lock_guard guard(engine_.lock);
  relaxed_ = false;
  bool empty = true;
  // Whoever sleeps on the sources relies on their being armed, whoever took the last event.
  if (engine_.asleep > 0) {
    engine_.arm();
    empty = poll();
  }
  if (quiet && engine_.asleep == 0) {
    take_over();
    empty = poll();
  }
  relaxed_ = quiet;
  if (!empty) return now();
  return quiet ? std::nullopt : std::optional(now() + kTick);
}

void Attending::take_over() {
  if (!std::exchange(taken_over_, true))
    for (size_t i = 0; i < engine_.sources().size(); ++i)
      (void)events_.change(engine_.sources()[i], EPOLLIN | EPOLLONESHOT, Events::tag(Events::Kind::source, i));
  engine_.guarded = true;
  engine_.arm();
}

bool Attending::poll() {
  engine_.flush();
  const uint64_t before = engine_.polls;
  const bool empty = engine_.drain();
  own_polls_ += engine_.polls - before;
  return empty;
}

void Attending::add(fabric::Completions& source) {
  const auto number = engine_.add_source(source);
  (void)events_.add(source.fd(), EPOLLONESHOT, Events::tag(Events::Kind::source, number));
  taken_over_ = false;
}

void Attending::source_ready() {
  taken_over_ = engine_.guarded = false;
  engine_.acknowledge();
  poll();
}

void Attending::stop() { taken_over_ = relaxed_ = engine_.guarded = false; }

}  // namespace rsock::engine
