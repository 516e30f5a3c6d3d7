#include "core/sockets/epoll_set.hpp"

#include <algorithm>

#include "core/base/log.hpp"

namespace rsock::sockets {
namespace {

// Marks are the set's random number plus a small ordinal; the first ones are ours.
constexpr uint64_t kBellMark = 0, kSourceMark = 1, kFirstWatchMark = 2;
constexpr uint64_t kMarks = 1ull << 32;
constexpr uint32_t kAlways = EPOLLERR | EPOLLHUP;
constexpr uint32_t kFlags = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;

std::vector<EpollSet*>& all_sets = *new std::vector<EpollSet*>;  // leaked: see Bell

uint64_t random_mark() {
  uint64_t mark;
  sys::random(&mark, sizeof mark);
  return mark & ~(kMarks - 1);
}

}  // namespace

std::shared_ptr<EpollSet> EpollSet::make(int fd) {
  const auto copy = sys::duplicate_high(fd, false);
  if (!copy) return nullptr;
  UniqueFd kernel_set(*copy);
  auto bell = Bell::borrow();
  if (!bell) return nullptr;
  const auto mark = random_mark();
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = mark + kBellMark;
  if (!sys::epoll_ctl(kernel_set.get(), EPOLL_CTL_ADD, bell->fd(), &event)) return nullptr;
  return std::shared_ptr<EpollSet>(new EpollSet(std::move(kernel_set), std::move(bell), mark));
}

EpollSet::EpollSet(UniqueFd kernel_set, Bell::Loan bell, uint64_t mark)
    : kernel_set_(std::move(kernel_set)), bell_(std::move(bell)), mark_(mark), next_mark_(kFirstWatchMark) {
  all_sets.push_back(this);
}

EpollSet::~EpollSet() {
  std::erase(all_sets, this);
  for (auto& [fd, watch] : watches_) watch->flow->unobserve(*watch);
}

// The flow turns out to be no concern of ours: its kernel entries get the application's data back.
void EpollSet::hand_over(engine::Flow& flow) {
  for (auto* set : all_sets)
    std::erase_if(set->watches_, [&](const auto& item) {
      auto& watch = *item.second;
      if (watch.flow.get() != &flow) return false;
      (void)sys::epoll_ctl(set->kernel_set_.get(), EPOLL_CTL_MOD, watch.fd, &watch.wanted);
      if (watch.queued) std::erase(set->ready_, &watch);
      if (!watch.in_kernel) --set->out_of_kernel_;
      set->marked_.erase(watch.mark);
      flow.unobserve(watch);
      return true;
    });
}

void EpollSet::forget_all() { all_sets.clear(); }

void EpollSet::forget_flow(engine::Flow& flow) {
  for (auto* set : all_sets) {
    std::vector<int> fds;
    for (const auto& [fd, watch] : set->watches_)
      if (watch->flow.get() == &flow) fds.push_back(fd);
    for (const int fd : fds) set->remove(fd);
  }
}

Status EpollSet::control(int operation, int fd, const std::shared_ptr<engine::Flow>& flow, const epoll_event* event) {
  const auto found = watches_.find(fd);
  if (operation == EPOLL_CTL_ADD) {
    if (found != watches_.end() && found->second->flow == flow) return Errno{EEXIST};
    if (found != watches_.end()) remove(fd);
    return add(fd, flow, *event);
  }
  if (found == watches_.end()) return Errno{ENOENT};
  auto& watch = *found->second;
  if (operation == EPOLL_CTL_DEL) {
    remove(fd);
    return Done{};
  }
  if (operation != EPOLL_CTL_MOD) return Errno{EINVAL};
  if ((watch.wanted.events | event->events) & EPOLLEXCLUSIVE) return Errno{EINVAL};
  watch.wanted = *event;
  watch.fired = false;
  if (watch.in_kernel) {
    const auto done = enter_kernel(watch, EPOLL_CTL_MOD);
    // A one-shot watch that had fired when its flow came back is not there yet.
    return done.is(ENOENT) ? enter_kernel(watch, EPOLL_CTL_ADD) : done;
  }
  changed(watch, ~0u);
  return Done{};
}

Status EpollSet::add(int fd, const std::shared_ptr<engine::Flow>& flow, const epoll_event& event) {
  constexpr uint32_t kWithExclusive = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
  if ((event.events & EPOLLEXCLUSIVE) && (event.events & ~kWithExclusive)) return Errno{EINVAL};
  auto& watch = new_watch(fd);
  watch.flow = flow;
  watch.wanted = event;
  watch.mark = mark_ + next_mark_++;
  watch.fired = watch.queued = false;
  watch.in_kernel = flow->on_kernel();
  if (watch.in_kernel) {
    if (const auto entered = enter_kernel(watch, EPOLL_CTL_ADD); !entered) return watches_.erase(fd), entered;
  } else {
    ++out_of_kernel_;
    add_sources();
  }
  flow->observe(watch);
  if (!watch.in_kernel) changed(watch, ~0u);
  return Done{};
}

EpollSet::Watch& EpollSet::new_watch(int fd) {
  if (spare_.empty()) {
    auto& made = watches_[fd] = std::make_unique<Watch>(*this);
    made->fd = fd;
    return *made;
  }
  spare_.key() = fd;
  spare_.mapped()->fd = fd;
  return *watches_.insert(std::move(spare_)).position->second;
}

Status EpollSet::enter_kernel(Watch& watch, int operation) {
  epoll_event event = watch.wanted;
  event.data.u64 = watch.mark;
  const auto done = sys::epoll_ctl(kernel_set_.get(), operation, watch.fd, &event);
  if (done) marked_[watch.mark] = &watch;
  return done;
}

void EpollSet::leave_kernel(Watch& watch) {
  marked_.erase(watch.mark);
  epoll_event none{};
  (void)sys::epoll_ctl(kernel_set_.get(), EPOLL_CTL_DEL, watch.fd, &none);
}

void EpollSet::remove(int fd) {
  const auto found = watches_.find(fd);
  auto& watch = *found->second;
  if (watch.in_kernel)
    leave_kernel(watch);
  else
    --out_of_kernel_;
  watch.flow->unobserve(watch);
  if (watch.queued) std::erase(ready_, &watch);
  watch.flow.reset();
  spare_ = watches_.extract(found);
}

void EpollSet::add_sources() {
  const auto& sources = state.engine->sources();
  for (; sources_ < sources.size(); ++sources_) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = mark_ + kSourceMark;
    (void)sys::epoll_ctl(kernel_set_.get(), EPOLL_CTL_ADD, sources[sources_], &event);
  }
}

void EpollSet::changed(Watch& watch, uint32_t what) {
  const bool kernel = watch.flow->on_kernel();
  if (kernel != watch.in_kernel) {
    watch.in_kernel = kernel;
    if (kernel) {
      --out_of_kernel_;
      // A one-shot watch that has fired stays out until it is armed again.
      if (!watch.fired) (void)enter_kernel(watch, EPOLL_CTL_ADD);
    } else {
      ++out_of_kernel_;
      leave_kernel(watch);
      add_sources();
    }
    if (sleepers_ > 0) bell_->ring();
  }
  if (kernel || watch.fired) return;
  if ((what & (watch.wanted.events | kAlways)) == 0 || ready_events(watch) == 0) return;
  queue(watch);
}

void EpollSet::queue(Watch& watch) {
  if (!watch.queued) {
    watch.queued = true;
    ready_.push_back(&watch);
  }
  if (sleepers_ > 0 || exposed_) bell_->ring();
}

uint32_t EpollSet::ready_events(const Watch& watch) const {
  return watch.flow->readiness() & ((watch.wanted.events & ~kFlags) | kAlways);
}

int EpollSet::collect(epoll_event* events, int capacity) {
  int count = 0;
  for (auto left = ready_.size(); left > 0 && count < capacity; --left) {
    auto& watch = *ready_.front();
    ready_.pop_front();
    watch.queued = false;
    const auto ready = watch.fired || watch.in_kernel ? 0 : ready_events(watch);
    if (ready == 0) continue;
    events[count++] = {ready, watch.wanted.data};
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
      bell_->silence();
    } else if (mark == mark_ + kSourceMark) {
      state.engine->acknowledge();
      (void)state.engine->drain();
    } else if (const auto found = marked_.find(mark); found != marked_.end()) {
      auto& watch = *found->second;
      if (!watch.in_kernel) continue;  // it left while the kernel answered
      if (watch.wanted.events & EPOLLONESHOT) watch.fired = true;
      events[kept++] = {events[i].events, watch.wanted.data};
    } else if (mark - mark_ >= kMarks) {
      events[kept++] = events[i];
    }
  }
  return kept;
}

Result<int> EpollSet::look(epoll_event* events, int capacity) {
  const auto found = sys::epoll_poll(kernel_set_.get(), events, capacity);
  if (!found) return found;
  const int kept = translate(events, *found);
  looks_.looked(kept > 0);
  return kept;
}

// What is ready now, in lanes and in the kernel; else spin; else sleep in the kernel's own wait.
Answer<int> EpollSet::wait(Section& section, epoll_event* events, int capacity, std::optional<Time> deadline,
                           const sigset_t* mask) {
  auto& engine = section.engine();
  const Handled since;
  std::optional<Attendance> attendance;
  bool slept = false;
  for (;;) {
    if (in_lanes()) {
      if (!attendance) attendance.emplace(engine);
      engine.flush();
      engine.poll();
    }
    const bool over = deadline && now() >= *deadline;
    Result<int> found = 0;  // in the kernel
    if (looks_.due()) found = look(events, capacity);
    // Queued watches may turn out not to be ready any more: only collect() knows.
    int count = found ? *found + collect(events + *found, capacity - *found) : 0;
    if (found && count == 0 && over) found = look(events, capacity);
    if (found && count == 0 && !over && in_lanes() && !slept)
      spin(section, deadline, [&](Time time) {
        if (ready_.empty() && looks_.due(time)) found = look(events, capacity);
        if (found) count = *found + collect(events + *found, capacity - *found);
        return !found || count > 0;
      });
    if (!found) return found;
    if (count = std::max(count, *found); count > 0) {
      // What is left is for the next thread.
      if ((exposed_ || sleepers_ > 0) && !ready_.empty()) bell_->ring();
      return count;
    }
    if (over && (!mask || slept)) return 0;  // a mask may let signals in, also of a call that does not wait

    timespec storage;
    Nap nap(kernel_set_.get(), events, capacity, remaining(deadline, storage), mask);
    const auto woken = sleep(section, in_lanes(), sleepers_, [&] { return !ready_.empty(); }, nap, since);
    slept = true;
    if (!woken) continue;
    if (!*woken) return *woken;
    const int kept = translate(events, **woken);
    looks_.looked(kept > 0);
    if (kept > 0) return kept;
  }
}

void EpollSet::expose() {
  exposed_ = true;
  if (!ready_.empty()) bell_->ring();
}

}  // namespace rsock::sockets
