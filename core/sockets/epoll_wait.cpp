// What a set reports: from lanes, and from the kernel.

#include <algorithm>
#include <utility>

#include "core/sockets/epoll_set.hpp"

namespace rsock::sockets {

int EpollSet::collect(epoll_event* events, int capacity) {
  int count = 0;
  for (auto left = ready_.size(); left > 0 && count < capacity; --left) {
    auto& watch = *ready_.front();
    ready_.pop_front();
    watch.queued = false;
    const auto ready = watch.fired || watch.in_kernel ? 0 : ready_events(watch);
    if (ready == 0) continue;
    events[count++] = {ready, watch.wanted.data};
    watch.reported = ready;
    if (watch.wanted.events & EPOLLONESHOT) {
      watch.fired = true;
    } else if (!(watch.wanted.events & EPOLLET)) {
      watch.queued = true;
      ready_.push_back(&watch);
    }
  }
  return count;
}

int EpollSet::translate(epoll_event* events, int count) {
  int kept = 0;
  for (int i = 0; i < count; ++i) {
    const auto mark = events[i].data.u64;
    if (mark == mark_ + kBellMark) {
      // A wait in an outer set has reported what is still ready: that it stays so is no news.
      if (ready_.empty() || exposed_ == Exposed::no) silence_bell();
    } else if (mark == mark_ + kSourceMark) {
      state.engine->acknowledge();
      (void)state.engine->drain();
    } else if (const auto found = marked_.find(mark); found != marked_.end()) {
      auto& watch = *found->second;
      if (!watch.in_kernel) continue;  // it left while the kernel answered
      if (watch.wanted.events & EPOLLONESHOT) watch.fired = true;
      watch.reported = events[i].events;
      events[kept++] = {events[i].events, watch.wanted.data};
    } else if (mark - mark_ >= kMarks) {
      events[kept++] = events[i];
    }
  }
  return kept;
}

// Once more where there was nothing but members of our own, which took the places.
Result<int> EpollSet::look(epoll_event* events, int capacity) {
  refresh_inner();
  int kept = 0;
  for (int tries = 0; tries < 4; ++tries) {
    const auto found = sys::epoll_poll(kernel_set(), events, capacity);
    if (!found) return found;
    kept = translate(events, *found);
    if (kept > 0 || *found < capacity) break;
  }
  looks_.looked(kept > 0);
  return kept;
}

// Flows in lanes come first, unless they had all places the last time.
Result<int> EpollSet::gather(epoll_event* events, int capacity, Kernel kernel) {
  const bool lanes_last = std::exchange(lanes_had_all_, false);
  int count = lanes_last ? 0 : collect(events, capacity);
  const bool beside = kernel == Kernel::beside_flows && count > 0 && (has_others_ || !marked_.empty());
  if (count < capacity && (lanes_last || kernel == Kernel::looked_at || beside)) {
    const auto found = look(events + count, capacity - count);
    if (!found && count == 0) return found;
    if (found) count += *found;
  }
  if (lanes_last) return count + collect(events + count, capacity - count);
  lanes_had_all_ = count == capacity;
  return count;
}

// What is left is for the next thread, and for who waits outside.
void EpollSet::leave_rest() {
  if (!ready_.empty() && (sleepers_ > 0 || exposed_ != Exposed::no || unaware())) ring_bell();
}

// What is ready now, in lanes and in the kernel; else spin; else sleep in the kernel's own wait.
Answer<int> EpollSet::wait(Section& section, epoll_event* events, int capacity, std::optional<Time> deadline,
                           const sigset_t* mask) {
  auto& engine = section.engine();
  const Handled since;
  std::optional<Attendance> attendance;
  bool slept = false;
  for (;;) {
    const bool lanes = in_lanes();
    if (lanes) {
      if (!attendance) attendance.emplace(engine);
      engine.flush();
      engine.poll();
    }
    if (!between_.empty()) look_between();
    const bool over = deadline && now() >= *deadline;
    if (!over && exposed_ == Exposed::perhaps) exposed_ = Exposed::no;
    auto found =
        gather(events, capacity, over || looks_.due() || inner_ready() ? Kernel::looked_at : Kernel::beside_flows);
    if (found && *found == 0 && !over && lanes && !slept)
      spin(section, deadline, [&](Time time) {
        const bool look_now = (ready_.empty() && looks_.due(time)) || inner_ready();
        found = gather(events, capacity, look_now ? Kernel::looked_at : Kernel::left_alone);
        return !found || *found > 0;
      });
    const bool done = over && (!mask || slept);  // a mask may let signals in, also of a call that does not wait
    if (!found || *found > 0 || done) {
      leave_rest();
      return found;
    }
    // Where it does not wait for the sources itself, who is on duty does, or the service, and rings.
    const bool others = !Duty::is_vacant(engine) && bell_ && !gone_ && !(sleepers_ > 0 && sources_ > 0);
    if (others && sleepers_ == 0) remove_sources();
    const bool covers = lanes && !others && !gone_ && add_sources();
    std::optional<Reserve> reserve;
    if (lanes && others) reserve.emplace(*bell_);
    timespec storage;
    Nap nap(kernel_set(), events, capacity, remaining(deadline, storage), mask);
    const auto woken = sleep(
        section, covers, sleepers_, [&] { return !ready_.empty(); }, nap, since);
    slept = true;
    reserve.reset();
    if (given_up_) advance_giving_up();
    if (to_give_back_) give_back();
    if (exposed_ == Exposed::yes && sleepers_ == 0) remove_sources();
    if (!woken) continue;
    if (!*woken) return *woken;
    const int kept = translate(events, **woken);
    looks_.looked(kept > 0);
    if (kept == 0) continue;
    leave_rest();
    return kept;
  }
}

void EpollSet::expose() {
  exposed_ = Exposed::yes;
  if (sleepers_ == 0) remove_sources();
  refresh();
}

void EpollSet::refresh() {
  refresh_inner();
  while (!ready_.empty()) {
    auto& watch = *ready_.front();
    if (!watch.fired && !watch.in_kernel && ready_events(watch) != 0) return ring_bell();
    ready_.pop_front();
    watch.queued = false;
  }
  if (sleepers_ == 0 && !unaware()) silence_bell();
}

void EpollSet::nest(const std::shared_ptr<EpollSet>& inner) {
  std::erase_if(inner_, [&](const auto& known) { return known.expired() || known.lock() == inner; });
  inner_.push_back(inner);
  inner->expose();
  others_changed();
  if (sleepers_ > 0 || unaware()) ring_bell();
}

bool EpollSet::in_lanes() const {
  return out_of_kernel_ > 0 || std::any_of(inner_.begin(), inner_.end(), [](const auto& inner) {
           const auto set = inner.lock();
           return set && set->in_lanes();
         });
}

bool EpollSet::inner_ready() const {
  return std::any_of(inner_.begin(), inner_.end(), [](const auto& inner) {
    const auto set = inner.lock();
    return set && (!set->ready_.empty() || set->inner_ready());
  });
}

void EpollSet::refresh_inner() {
  for (const auto& inner : inner_)
    if (const auto set = inner.lock()) set->refresh();
}

}  // namespace rsock::sockets
