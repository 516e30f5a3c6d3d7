#include "core/engine/service/room.hpp"

#include <algorithm>
#include <climits>
#include <mutex>

#include "core/base/exposed.hpp"
#include "core/base/limit.hpp"
#include "core/base/log.hpp"

namespace rsock::engine {
namespace {

constexpr auto kPatience = milliseconds(3000);  // with all flows together, since the gate was barred
constexpr auto kBrief = milliseconds(200);      // once one is back: the program can go on meanwhile
constexpr auto kTurn = milliseconds(2);
constexpr auto kSlack = milliseconds(500), kLook = milliseconds(50);
constexpr auto kLong = milliseconds(60000);  // with room: that there was none is forgotten

}  // namespace

uint32_t Room::ask() {
  auto asked = asked_.load();
  if (asked == answered_) asked_ = ++asked, engine_.orders.wake();
  return asked;
}

void Room::await(uint32_t asked) const {
  const auto deadline = now() + kPatience + kSlack;
  for (auto answered = answered_.load(); static_cast<int32_t>(asked - answered) > 0 && now() < deadline;
       answered = answered_)
    sys::futex_sleep(answered_, answered, kLook);
}

void Room::make() {
  const auto asked = asked_.load();
  const auto began = now();
  const bool first = bar(began);
  bool all = false;
  const auto given = give_back_all(first, began, all);
  if (first) {
    if (settled_in_ + kLong < began) pause_ = pause();
    timers_.set({Due::room}, now() + pause_.take());
    log::info("the program lacks descriptors: {} flows gave theirs back{}", given, all ? "" : ", not all could");
  }
  {
    const std::lock_guard working(at_work_);
    if (premises_.leave() && all) (void)premises_.shut();
  }
  ExposedFd::await_closed(std::min<Duration>(barred_since_ + kBrief - now(), kBrief));
  answered_ = asked;
  sys::futex_wake(answered_, INT_MAX);
}

// The gate is barred, and all flows set out for TCP; unless that is so.
bool Room::bar(Time time) {
  const std::scoped_lock both(at_work_, engine_.lock);
  if (engine_.gate.barred()) return false;
  barred_since_ = time;
  engine_.gate.bar(true);
  sys::crowded_from = INT_MAX;
  std::vector<std::shared_ptr<Flow>> all;
  for (const auto& [id, flow] : engine_.flows()) all.push_back(flow);
  for (const auto& flow : all) {
    const auto stage = flow->stage();
    if (flow->over() && !flow->closing()) flow->leave(Reason::descriptors);  // it ends on TCP, too
    if (stage == Stage::lane || stage == Stage::entering) flow->step_aside(Reason::descriptors);
    flow->stir();
  }
  return true;
}

// How many flows gave theirs back, until it is enough. `all`: no flow or link needs any.
size_t Room::give_back_all(bool first, Time began, bool& all) {
  size_t given = 0;
  for (;;) {
    given += give_back(all);
    const auto time = now();
    const bool enough = given > 0 && (!first || time - began >= kBrief);
    if (all || enough || time - barred_since_ >= kPatience || !premises_.turn(kTurn)) return given;
  }
}

// What is idle by now.
size_t Room::give_back(bool& all) {
  const std::lock_guard working(at_work_);
  premises_.clear_up();
  size_t given = 0;
  {
    const std::lock_guard guard(engine_.lock);
    std::vector<std::shared_ptr<Flow>> anchored;
    for (const auto& [id, flow] : engine_.flows())
      if (flow->anchored()) anchored.push_back(flow);
    all = true;
    for (const auto& flow : anchored) {
      const bool gave = flow->gives_anchor_back();
      given += gave;
      all = all && gave;
    }
    for (const auto& link : engine_.links()) {
      if (link->alive() && link->flows() == 0) link->fail(Reason::descriptors);
      all = all && !link->alive();
    }
    if (engine_.program.make_room) engine_.program.make_room();
  }
  premises_.clear_up();
  return given;
}

void Room::look() {
  if (!settle_in()) timers_.set({Due::room}, now() + pause_.take());
}

bool Room::settle_in() {
  if (!sys::has_spare_numbers()) return false;
  const bool was_shut = premises_.absent();
  if (was_shut && !premises_.open()) return false;
  {
    const std::lock_guard guard(engine_.lock);
    engine_.gate.bar(false);
    if (!engine_.program.settle_in || engine_.program.settle_in()) {
      settled_in_ = now();
      log::info("there is room for lanes again: {} flows look for one", operators_.look_again(0));
      return true;
    }
    engine_.gate.bar(true);
    engine_.program.make_room();
  }
  if (was_shut) (void)premises_.shut();
  return false;
}

}  // namespace rsock::engine
