// Who is in a set, and where its readiness is kept.

#include "core/sockets/epoll_set.hpp"

#include <algorithm>
#include <utility>

#include "core/base/limit.hpp"
#include "core/sockets/open_sets.hpp"

namespace rsock::sockets {
namespace {

constexpr uint32_t kAlways = EPOLLERR | EPOLLHUP;
constexpr uint32_t kFlags = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;

std::vector<EpollSet*>& all_sets() {  // see Bell
  static auto& sets = *new std::vector<EpollSet*>;
  return sets;
}

Result<uint64_t> random_number() {
  uint64_t number = 0;
  if (const auto made = sys::random(&number, sizeof number); !made) return Errno{made.error()};
  return number;
}

// Whom the kernel wakes when this comes to a TCP socket.
uint32_t woken_by(uint32_t what) {
  if (what & EPOLLIN) what |= EPOLLPRI | EPOLLRDNORM | EPOLLRDBAND;
  if (what & EPOLLOUT) what |= EPOLLWRNORM | EPOLLWRBAND;
  return what;
}

}  // namespace

Result<std::shared_ptr<EpollSet>> EpollSet::make(int fd) {
  const auto copy = sys::duplicate_high(fd);
  if (!copy) return Errno{copy.error()};
  UniqueFd own_set(*copy);
  auto bell = Bell::borrow();
  if (!bell) return Errno{EMFILE};
  const auto number = random_number();
  if (!number) return Errno{EMFILE};
  const auto mark = *number & ~(kMarks - 1);
  const bool has_others = !is_empty_set(fd);
  const std::shared_ptr<EpollSet> set(new EpollSet(std::move(own_set), std::move(bell), mark, has_others));
  if (const auto watched = set->watch_bell(); !watched) return Errno{watched.error()};
  return set;
}

EpollSet::EpollSet(UniqueFd own_set, Bell::Loan bell, uint64_t mark, bool has_others)
    : own_set_(std::move(own_set)),
      bell_(std::move(bell)),
      mark_(mark),
      next_mark_(kFirstWatchMark),
      has_others_(has_others) {
  all_sets().push_back(this);
}

EpollSet::~EpollSet() {
  std::erase(all_sets(), this);
  Bell::to_come_back -= to_give_back_;
  for (auto& [key, watch] : watches_) watch->flow->unobserve(*watch);
}

EpollSet::Relatives EpollSet::find_relatives(int fd) {
  std::vector<int> own;
  for (const auto* set : all_sets()) own.push_back(set->own_set_.get());
  Relatives found;
  for (const auto& other : open_sets(own)) {
    if (other.fd == fd) continue;
    if (other.has_data(mark_ + kBellMark))
      found.copies.push_back(other.fd);
    else if (other.has_member(fd))
      found.outer.push_back(other.fd);
  }
  return found;
}

void EpollSet::forget_all() { all_sets().clear(); }

void EpollSet::share_with_child(engine::Family& family) {
  if (!share_) share_ = family.new_share(engine::Share::Place::owned);
  if (share_) share_->hold();
}

std::vector<std::shared_ptr<engine::Flow>> EpollSet::flows() const {
  std::vector<std::shared_ptr<engine::Flow>> all;
  for (const auto& [key, watch] : watches_) all.push_back(watch->flow);
  return all;
}

void EpollSet::answer_family() {
  const auto sets = all_sets();  // none goes: whoever closes one needs the lock
  for (auto* set : sets)
    if (set->share_ && set->share_->place() == engine::Share::Place::wanted) set->give_up();
}

// ---- descriptors

// Of the application's there is always one: without any the set is gone.
int EpollSet::kernel_set() const {
  if (own_set_) return own_set_.get();
  const auto names_it = [&](int fd) {
    const auto* entry = entry_of(fd, Entry::Kind::set);
    return entry && entry->set.get() == this;
  };
  if (names_it(name_)) return name_;
  const auto end = static_cast<int>(used_table().size());
  for (name_ = 0; name_ < end; ++name_)
    if (names_it(name_)) return name_;
  return name_ = -1;
}

Status EpollSet::watch_bell() const {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = mark_ + kBellMark;
  return sys::epoll_ctl(own_set_.get(), EPOLL_CTL_ADD, bell_->fd(), &event);
}

void EpollSet::give_back_all() {
  for (auto* set : all_sets()) set->give_back();
}

bool EpollSet::settle_in_all() {
  return std::all_of(all_sets().begin(), all_sets().end(),
                     [](auto* set) { return static_cast<bool>(set->settle_in()); });
}

void EpollSet::give_back() {
  if (!own_set_ || out_of_kernel_ > 0) return;
  if (share_ && !given_up_) give_up();  // nobody will be there for a child to call
  if (sleepers_ > 0) {
    if (!std::exchange(to_give_back_, true)) ++Bell::to_come_back;
    return ring_bell();
  }
  Bell::to_come_back -= std::exchange(to_give_back_, false);
  remove_sources();
  epoll_event none{};
  if (!gone_) (void)sys::epoll_ctl(own_set_.get(), EPOLL_CTL_DEL, bell_->fd(), &none);
  bell_.reset();
  own_set_.reset();
}

Status EpollSet::settle_in() {
  Bell::to_come_back -= std::exchange(to_give_back_, false);
  if (own_set_ || given_up_) return Done{};
  const auto copy = sys::duplicate_spare(kernel_set());
  if (!copy) return Errno{copy.error()};
  own_set_ = UniqueFd(*copy);
  bell_ = Bell::borrow();
  if (bell_ && watch_bell()) return Done{};
  bell_.reset();
  own_set_.reset();
  return Errno{EMFILE};
}

// A flow that is in its lane tells when it is back (changed).
void EpollSet::give_up() {
  given_up_ = true;
  for (const auto& flow : flows()) flow->leave(Reason::shared);
  std::vector<Watch*> back;
  for (const auto& [key, watch] : watches_)
    if (watch->flow->on_kernel()) back.push_back(watch.get());
  for (auto* watch : back) hand_over(*watch);
  advance_giving_up();
}

void EpollSet::give_up_all() {
  const auto sets = all_sets();
  for (auto* set : sets) set->give_up();
}

// As the kernel would have it: a one-shot entry that has fired stays there, and reports nothing until it is armed
// again.
void EpollSet::hand_over(Watch& watch) {
  if (!watch.in_kernel && watch.fired) {
    epoll_event disarmed = watch.wanted;
    disarmed.events = EPOLLONESHOT;
    (void)sys::epoll_ctl(kernel_set(), EPOLL_CTL_ADD, watch.kernel_fd(), &disarmed);
  } else if (!watch.in_kernel) {
    move(watch, true);
  }
  flow_gone(watch, true);
}

void EpollSet::advance_giving_up() {
  if (!kernels() || gone_) return;
  // Those who sleep in it believe to be at the sources, and would not hear of the bell that has gone.
  if (sleepers_ > 0) return ring_bell();
  gone_ = true;
  remove_sources();
  epoll_event none{};
  if (bell_) (void)sys::epoll_ctl(kernel_set(), EPOLL_CTL_DEL, bell_->fd(), &none);
  if (share_) share_->tell(engine::Share::Place::tcp);
}

void EpollSet::mend(int set) const {
  for (const auto& [key, watch] : watches_) {
    epoll_event event = watch->wanted;
    if (watch->in_kernel && !watch->fired && !watch->orphan)
      (void)sys::epoll_ctl(set, EPOLL_CTL_MOD, watch->fd, &event);
  }
}

void EpollSet::hand_over(engine::Flow& flow) {
  for (auto* observer : flow.observers()) observer->flow_gone(flow, true);
}
void EpollSet::forget_flow(engine::Flow& flow) {
  for (auto* observer : flow.observers()) observer->flow_gone(flow, false);
}
void EpollSet::descriptor_closed(engine::Flow& flow, int fd) {
  for (auto* observer : flow.observers()) observer->descriptor_gone(flow, fd);
}

// A flow that turns out to be no concern of ours: its kernel entry gets the application's data back.
void EpollSet::flow_gone(Watch& watch, bool disowned) {
  if (!disowned || !watch.in_kernel) return remove(watch);
  if (!watch.fired) (void)sys::epoll_ctl(kernel_set(), EPOLL_CTL_MOD, watch.kernel_fd(), &watch.wanted);
  marked_.erase(watch.mark);
  watch.in_kernel = false;
  ++out_of_kernel_;
  remove(watch);
}

// As in the kernel, the entry stays while the flow has another descriptor. The kernel's entry goes by a descriptor of
// our own then, so that it can be removed still.
void EpollSet::descriptor_gone(Watch& watch, int closed) {
  if (watch.fd != closed || watch.orphan) return;
  watch.orphan = true;
  if (!watch.in_kernel) return;
  leave_kernel(watch);
  if (!watch.fired) (void)enter_kernel(watch, EPOLL_CTL_ADD);
}

Status EpollSet::control(int operation, int fd, const std::shared_ptr<engine::Flow>& flow, const epoll_event* event) {
  const auto found = watches_.find({fd, flow.get()});
  const bool known = found != watches_.end();
  if (operation == EPOLL_CTL_ADD) {
    constexpr uint32_t kWithExclusive =
        EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
    if ((event->events & EPOLLEXCLUSIVE) && (event->events & ~kWithExclusive)) return Errno{EINVAL};
    return known ? Status(Errno{EEXIST}) : add(fd, flow, *event);
  }
  if (operation == EPOLL_CTL_MOD && (event->events & EPOLLEXCLUSIVE)) return Errno{EINVAL};
  if (!known) return Errno{ENOENT};
  auto& watch = *found->second;
  if (operation == EPOLL_CTL_DEL) {
    remove(watch);
    return Done{};
  }
  if (operation != EPOLL_CTL_MOD || (watch.wanted.events & EPOLLEXCLUSIVE)) return Errno{EINVAL};
  watch.wanted = *event;
  watch.fired = false;
  watch.reported = 0;
  if (watch.in_kernel) {
    look_soon();
    const auto done = enter_kernel(watch, EPOLL_CTL_MOD);
    // A one-shot watch that had fired when its flow came back is not there yet.
    return done.is(ENOENT) ? enter_kernel(watch, EPOLL_CTL_ADD) : done;
  }
  changed(watch, ~0u);
  return Done{};
}

Status EpollSet::add(int fd, const std::shared_ptr<engine::Flow>& flow, const epoll_event& event) {
  auto& watch = new_watch(fd, *flow);
  watch.flow = flow;
  watch.wanted = event;
  watch.mark = mark_ + next_mark_++;
  watch.fired = watch.queued = watch.orphan = false;
  watch.reported = 0;
  watch.in_kernel = flow->on_kernel();
  if (watch.in_kernel) {
    look_soon();
    if (const auto entered = enter_kernel(watch, EPOLL_CTL_ADD); !entered)
      return watches_.erase({fd, flow.get()}), entered;
  } else {
    ++out_of_kernel_;
  }
  flow->observe(watch);
  if (!watch.in_kernel) {
    if (unaware()) ring_bell();  // it comes back, and waits for the lane as well
    changed(watch, ~0u);
  }
  return Done{};
}

EpollSet::Watch& EpollSet::new_watch(int fd, const engine::Flow& flow) {
  if (spare_.empty()) {
    auto& made = watches_[{fd, &flow}] = std::make_unique<Watch>(*this);
    made->fd = fd;
    return *made;
  }
  spare_.key() = {fd, &flow};
  spare_.mapped()->fd = fd;
  return *watches_.insert(std::move(spare_)).position->second;
}

Status EpollSet::enter_kernel(Watch& watch, int operation) {
  if (watch.orphan && !watch.own) {
    const auto copy = sys::duplicate_high(watch.flow->shadow());
    if (!copy) return Errno{copy.error()};
    watch.own = UniqueFd(*copy);
  }
  epoll_event event = watch.wanted;
  event.data.u64 = watch.mark;
  const auto done = sys::epoll_ctl(kernel_set(), operation, watch.kernel_fd(), &event);
  if (done) marked_[watch.mark] = &watch;
  return done;
}

void EpollSet::leave_kernel(Watch& watch) {
  marked_.erase(watch.mark);
  epoll_event none{};
  (void)sys::epoll_ctl(kernel_set(), EPOLL_CTL_DEL, watch.own ? watch.own.get() : watch.fd, &none);
  watch.own = {};
}

void EpollSet::remove(Watch& watch) {
  if (watch.in_kernel)
    leave_kernel(watch);
  else
    --out_of_kernel_;
  watch.own = {};
  watch.flow->unobserve(watch);
  if (watch.queued) std::erase(ready_, &watch);
  if (std::exchange(watch.between, false)) std::erase(between_, &watch);
  const std::pair<int, const engine::Flow*> key{watch.fd, watch.flow.get()};
  watch.flow.reset();
  spare_ = watches_.extract(key);
  if (ready_.empty() && sleepers_ == 0 && !unaware()) silence_bell();
}

bool EpollSet::add_sources() {
  const auto& sources = state.engine->sources();
  const auto changes = state.engine->source_changes();
  if (std::exchange(source_changes_, changes) != changes) sources_ = 0;  // one may be another by now
  for (; sources_ < sources.size(); ++sources_) {
    if (sources[sources_] < 0) continue;  // it has gone
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = mark_ + kSourceMark;
    const auto added = sys::epoll_ctl(kernel_set(), EPOLL_CTL_ADD, sources[sources_], &event);
    if (!added && !added.is(EEXIST)) return false;
  }
  return true;
}

void EpollSet::remove_sources() {
  epoll_event none{};
  for (; sources_ > 0; --sources_)
    (void)sys::epoll_ctl(kernel_set(), EPOLL_CTL_DEL, state.engine->sources()[sources_ - 1], &none);
}

void EpollSet::move(Watch& watch, bool to_kernel) {
  watch.in_kernel = to_kernel;
  if (to_kernel) {
    --out_of_kernel_;
    look_soon();
    // A watch that has fired, for once or for the last time, stays out until it is armed again.
    watch.fired |= has_reported_all(watch);
    if (!watch.fired) (void)enter_kernel(watch, EPOLL_CTL_ADD);
  } else {
    ++out_of_kernel_;
    leave_kernel(watch);
  }
  if (sleepers_ > 0 || unaware()) ring_bell();
}

// An edge-triggered watch of a connection that is no more: nothing will come to it that it has not reported.
bool EpollSet::has_reported_all(const Watch& watch) {
  if (!(watch.wanted.events & EPOLLET) || watch.queued) return false;
  const auto there = sys::readiness(watch.flow->shadow());
  return (there & EPOLLHUP) && (there & ((watch.wanted.events & ~kFlags) | kAlways) & ~watch.reported) == 0;
}

// The kernel wakes all who wait for what is shut down, be there news or not.
void EpollSet::flow_shut(Watch& watch) {
  if (!watch.in_kernel) changed(watch, ~0u);  // bytes are, or were, in front of the kernel's
  if (!watch.in_kernel || (watch.wanted.events & EPOLLONESHOT) || !std::exchange(watch.fired, false)) return;
  (void)enter_kernel(watch, EPOLL_CTL_ADD);
}

// With a flow that enters its lane the kernel's pending edges go: one that a sleeper has not brought here
// yet, and one that the kernel still owes for the program's last call, a write that filled the socket or a
// read that left it empty. Which of them there are is not known, so all that is ready is an edge once more:
// one too many wakes a program, one too few is waited for for ever.
void EpollSet::changed(Watch& watch, uint32_t what) {
  const bool kernel = watch.flow->on_kernel();
  if (given_up_ && kernel) {
    hand_over(watch);
    return advance_giving_up();
  }
  if (kernel != watch.in_kernel) {
    move(watch, kernel);
    what = ~0u;
  }
  if (!kernel && watch.flow->kernel_follows() && !std::exchange(watch.between, true)) between_.push_back(&watch);
  if (kernel || watch.fired) return;
  if ((woken_by(what) & (watch.wanted.events | kAlways)) == 0 || ready_events(watch) == 0) return;
  queue(watch);
}

// What the kernel knows of those the service will tell, as edges too; who waits for a level asks now.
void EpollSet::look_between() {
  std::erase_if(between_, [](Watch* watch) {
    watch->between = !watch->in_kernel && watch->flow->kernel_follows();
    return !watch->between;
  });
  for (auto* watch : between_)
    if (!(watch->wanted.events & EPOLLET) && !watch->fired && ready_events(*watch) != 0) queue(*watch);
}

void EpollSet::queue(Watch& watch) {
  if (!watch.queued) {
    watch.queued = true;
    ready_.push_back(&watch);
  }
  ring();
}

bool EpollSet::unaware() const {
  return std::any_of(unaware_.begin(), unaware_.end(), [](const auto* count) { return count->load() > 0; });
}

// A set around this one hears of each change, as an edge.
void EpollSet::ring() {
  if (!bell_) return;
  if (exposed_ != Exposed::no)
    bell_->toll();
  else if (sleepers_ > 0 || unaware())
    ring_bell();
}

uint32_t EpollSet::ready_events(const Watch& watch) const {
  return watch.flow->readiness() & ((watch.wanted.events & ~kFlags) | kAlways);
}

}  // namespace rsock::sockets
