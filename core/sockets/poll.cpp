// poll, select and blocking calls wait for flows and kernel descriptors together.

#include <poll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/syscall.h>

#include <algorithm>
#include <vector>

#include "core/base/selection.hpp"
#include "core/base/time_left.hpp"
#include "core/sockets/epoll_set.hpp"

namespace rsock::sockets {
namespace {

// A thread without a descriptor for a bell waits in turns of this length; up to the second, while no flow may enter a
// lane.
constexpr auto kTurn = milliseconds(10), kLongTurn = milliseconds(250);

// Wakes a thread when a flow that it waits for changes.
class Waiter final : public engine::Observer {
 public:
  Waiter() { Bell::to_come_back += bell_ != nullptr; }
  ~Waiter() {
    Bell::to_come_back -= bell_ && bell_->is_ours();
    for (const auto& flow : flows_) flow->unobserve(*this);
  }
  void observe(const std::shared_ptr<engine::Flow>& flow) {
    flow->observe(*this);
    flows_.push_back(flow);
  }
  void flow_changed(engine::Flow&, uint32_t) override {
    if (bell_ && asleep > 0) bell_->ring();
  }
  int asleep = 0;  // whether its thread is, see sleep()
  int fd() const { return bell_ ? bell_->fd() : -1; }
  Bell* bell() const { return bell_.get(); }
  // Its bell has to be given back.
  bool has_to_go() const { return bell_ && state.engine->gate.barred(); }
  void silence() {
    if (bell_) bell_->silence();
  }

 private:
  const Bell::Loan bell_ = Bell::borrow();
  std::vector<std::shared_ptr<engine::Flow>> flows_;
};

// poll's events are epoll's under other names, with the same numbers where we use them.
static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT && POLLERR == EPOLLERR && POLLHUP == EPOLLHUP);
static_assert(POLLRDHUP == EPOLLRDHUP && POLLRDNORM == EPOLLRDNORM && POLLWRNORM == EPOLLWRNORM);

// What the kernel's limit on descriptors (RLIMIT_NOFILE) means to a call: poll may name no more, select and a blocking
// call as many as they like.
enum class Limit { counts, does_not };

// One poll(2): the program's descriptors and the flows behind them. What the kernel does not know of is taken out of
// what it is asked.
//
// A number may be closed, or come to name something else, while the call sleeps. As in the kernel, the call holds what
// it began with, so that a flow ends only after it; that is what can end it; and then the numbers tell what is there
// now, which may be nothing.
class Round {
 public:
  Round(std::span<pollfd> fds, Limit limit)
      : fds_(fds),
        asked_(fds.begin(), fds.end()),
        flows_(fds.size()),
        begun_with_(fds.size()),
        deaf_(fds.size()),
        limit_(limit) {
    for (size_t i = 0; i < fds.size(); ++i) {
      auto* entry = find(fds[i].fd);
      if (!entry) continue;
      flows_[i] = begun_with_[i] = lane_flow(fds[i].fd);
      if (flows_[i]) flows_[i]->hold();
      if (!entry->set) continue;
      entry->set->expose();
      sets_.push_back(entry->set);
    }
  }
  // Of a flow, whatever its number.
  Round(pollfd& one, std::shared_ptr<engine::Flow> flow)
      : fds_(&one, 1), asked_{one}, flows_{std::move(flow)}, limit_(Limit::does_not) {}
  ~Round() {
    for (const auto& flow : begun_with_)
      if (flow) flow->release_hold();
  }
  Round(const Round&) = delete;
  Round& operator=(const Round&) = delete;
  // Before the call ends. True if a number names something else than it did.
  bool renew() {
    bool changed = false;
    for (size_t i = 0; i < begun_with_.size(); ++i) {
      if (!begun_with_[i]) continue;
      auto* entry = entry_of(fds_[i].fd, Entry::Kind::flow);
      auto* now = entry ? lane_flow(*entry) : nullptr;
      if (now == flows_[i].get()) continue;
      flows_[i] = now ? entry->flow : nullptr;
      changed = true;
    }
    return changed;
  }
  // A descriptor was not open when the call began.
  bool was_bad() const { return bad_; }
  // Nothing here is of concern, so far.
  bool kernel_serves() const {
    return std::all_of(flows_.begin(), flows_.end(), [](const auto& flow) { return flow == nullptr; }) && sets_.empty();
  }
  // It asks about a number by which the flow goes no more.
  bool stale() const { return fds_[0].fd != flows_[0]->shadow(); }
  bool in_lanes() const {
    return std::any_of(flows_.begin(), flows_.end(), [](const auto& flow) { return flow && !flow->on_kernel(); }) ||
           std::any_of(sets_.begin(), sets_.end(), [](const auto& set) { return set->in_lanes(); });
  }
  void observe(Waiter& waiter) {
    for (const auto& flow : begun_with_.empty() ? flows_ : begun_with_)
      if (flow) waiter.observe(flow);
  }
  // Writes the results for flows in lanes; how many descriptors have any.
  int collect() {
    int count = 0;
    for (size_t i = 0; i < fds_.size(); ++i) {
      if (!flows_[i]) continue;
      flows_[i]->catch_up();
      if (flows_[i]->on_kernel()) continue;
      const auto ready = static_cast<short>(flows_[i]->readiness());
      fds_[i].revents = heard(i, static_cast<short>(ready & (fds_[i].events | POLLERR | POLLHUP)));
      count += fds_[i].revents != 0;
    }
    return count;
  }
  // What to ask the kernel now, and `more` descriptors of ours behind it.
  std::vector<pollfd>& ask(std::span<const pollfd> more) {
    asked_.assign(fds_.begin(), fds_.end());
    for (size_t i = 0; i < fds_.size(); ++i) {
      asked_[i].revents = 0;
      if ((flows_[i] && !flows_[i]->on_kernel()) || (!deaf_.empty() && deaf_[i])) asked_[i].fd = -1;
    }
    asked_.insert(asked_.end(), more.begin(), more.end());
    return asked_;
  }
  // Asks the kernel what is ready now, about those that are its own.
  Result<int> look() {
    for (const auto& set : sets_) set->refresh();
    auto& asked = ask({});
    const bool kernels = std::any_of(asked.begin(), asked.end(), [](const auto& one) { return one.fd >= 0; });
    // A signal that is put off ends even a look: nothing was found, and the wait that follows has its handler run.
    if (const auto looked = kernels ? look_at(asked) : Status(Done{}); !looked && !looked.is(EINTR))
      return Errno{looked.error()};
    if (looks_++ == 0)
      bad_ = std::any_of(asked.begin(), asked.end(), [](const auto& one) { return one.revents & POLLNVAL; });
    return take();
  }
  // Takes the kernel's answer over for the descriptors that it was asked for; how many have any.
  int take() {
    int count = 0;
    for (size_t i = 0; i < fds_.size(); ++i) {
      if (asked_[i].fd < 0 && flows_[i]) continue;
      fds_[i].revents = heard(i, asked_[i].revents);
      if (asked_[i].revents && !fds_[i].revents) deaf_[i] = true;
      count += fds_[i].revents != 0;
    }
    return count;
  }
  // Whether the kernel refuses the call, since it is asked for more than a process may have.
  bool refused() const {
    rlimit limit{};
    return limit_ == Limit::counts && kernel.syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit) == 0 &&
           fds_.size() > limit.rlim_cur;
  }

 private:
  // To select, an end or an error is nothing exceptional. What shows one will be asked no more, or it would end each
  // sleep.
  short heard(size_t i, short shown) const {
    const bool exceptional_alone = limit_ == Limit::does_not && fds_[i].events == POLLPRI;
    return exceptional_alone ? static_cast<short>(shown & (POLLPRI | POLLNVAL)) : shown;
  }
  Status look_at(std::span<pollfd> asked) const {
    const auto found = poll_now(asked);
    if (found || !found.is(EINVAL)) return found ? Status(Done{}) : Status(Errno{found.error()});
    if (refused()) return Errno{EINVAL};
    for (auto& one : asked)
      if (one.fd >= 0)
        one.revents = static_cast<short>(sys::readiness(one.fd) & (static_cast<uint16_t>(one.events) | kAlways));
    return Done{};
  }

  static constexpr uint32_t kAlways = POLLERR | POLLHUP | POLLNVAL;
  std::span<pollfd> fds_;
  std::vector<pollfd> asked_;
  std::vector<std::shared_ptr<engine::Flow>> flows_;       // by the numbers of now
  std::vector<std::shared_ptr<engine::Flow>> begun_with_;  // those that were there first, which are held
  std::vector<std::shared_ptr<EpollSet>> sets_;
  std::vector<bool> deaf_;
  Limit limit_;
  int looks_ = 0;
  bool bad_ = false;
};

// Until a descriptor is ready: how many are, 0 after the deadline, an errno as of ppoll. Also ends, with 0, when a flow
// enters or leaves its lane, if `until_moved`. `may_spin`: the caller has not done so already.
Result<int> wait(Section& section, Round& round, std::optional<Time> deadline, const sigset_t* mask, bool until_moved,
                 bool may_spin, const Handled& since) {
  auto& engine = section.engine();
  std::optional<Attendance> attendance;
  std::optional<Waiter> waiter;
  Looks looks;
  Duration turn = kTurn;
  bool slept = !may_spin, let_in = !mask;  // a mask may let signals in, also of a call that does not wait
  for (const bool lanes_first = round.in_lanes();;) {
    const bool over = deadline && now() >= *deadline;
    if (over) round.renew();
    const bool lanes = round.in_lanes();
    if (until_moved && (lanes != lanes_first || round.stale())) return 0;
    if (lanes && !attendance) attendance.emplace(engine);
    if (lanes) {
      engine.flush();
      engine.poll();
    }
    Result<int> found = round.look();
    looks.looked(found && *found > 0);
    const auto something = [&] { return round.collect() > 0 || round.in_lanes() != lanes; };
    if (found && *found == 0 && !something() && lanes && !slept && !over)
      spin(section, deadline, [&](Time time) {
        if (something()) return true;
        if (!looks.due(time)) return false;
        found = round.look();
        looks.looked(found && *found > 0);
        return !found || *found > 0;
      });
    if (!found) return found;
    if (const int ready = *found + round.collect(); ready > 0) {
      if (!round.renew()) return ready;
      continue;  // to what is there now
    }
    if (over && let_in) return 0;

    if (!waiter) round.observe(waiter.emplace());
    std::vector<pollfd> ours{{waiter->fd(), POLLIN, 0}};
    const bool on_duty = lanes && (Duty::is_vacant(engine) || waiter->fd() < 0);
    if (on_duty)
      for (const int source : engine.sources()) ours.push_back({source, POLLIN, 0});
    auto& asked = round.ask(ours);
    auto turn_ends = deadline;
    if (waiter->fd() < 0) {
      // Many may wait while the program lacks descriptors, and no flow enters a lane before there is room.
      turn = lanes || !engine.gate.barred() ? kTurn : std::min<Duration>(2 * turn, kLongTurn);
      turn_ends = std::min(deadline.value_or(Time::max()), now() + turn);
    }
    timespec storage;
    Nap nap(asked, remaining(turn_ends, storage), mask);
    std::optional<Reserve> reserve;
    if (lanes && !on_duty) reserve.emplace(*waiter->bell());
    const auto woken = sleep(section, on_duty, waiter->asleep, something, nap, since);
    reserve.reset();
    slept = true;
    waiter->silence();
    if (waiter->has_to_go()) waiter.reset();
    if (!woken) continue;
    if (nap.cramped() && round.refused()) return Errno{EINVAL};
    if (!*woken) return *woken;
    let_in |= **woken == 0;  // where a descriptor of ours was ready, the kernel let no signal in
    for (auto at = asked.end() - static_cast<ptrdiff_t>(ours.size() - 1); at != asked.end(); ++at)
      if (at->revents) engine.acknowledge();
  }
}

// On TCP the kernel tells what is there, and the bell that the flow has left TCP. May end too early: who waits looks
// again. Nothing where a look at the descriptors one by one is needed.
std::optional<Status> wait_for_kernel(Section& section, const std::shared_ptr<engine::Flow>& flow, uint32_t wanted,
                                      std::optional<Time> deadline, const Handled& since) {
  Waiter waiter;
  if (waiter.fd() < 0) return {};
  waiter.observe(flow);
  std::vector<pollfd> asked{{flow->shadow(), static_cast<short>(wanted), 0}, {waiter.fd(), POLLIN, 0}};
  timespec storage;
  Nap nap(asked, remaining(deadline, storage), nullptr);
  const auto woken = sleep(
      section, false, waiter.asleep, [&] { return !flow->on_kernel(); }, nap, since);
  waiter.silence();
  if (!woken) return Done{};
  if (nap.cramped()) return {};
  if (!*woken) return Errno{woken->error()};
  if (**woken == 0 && deadline && now() >= *deadline) return Errno{ETIMEDOUT};
  return Done{};
}

}  // namespace

Status wait_for(Section& section, const std::shared_ptr<engine::Flow>& flow, uint32_t wanted,
                std::optional<Time> deadline, const Handled& since) {
  auto& engine = section.engine();
  const bool lane = !flow->on_kernel();
  if (lane) {  // most often it comes while we spin: without any list of descriptors
    const Attendance attendance(engine);
    engine.flush();
    engine.poll();
    const auto shows = [&](Time) {
      return flow->on_kernel() || (flow->readiness() & (wanted | EPOLLERR | EPOLLHUP)) != 0;
    };
    if (shows({}) || spin(section, deadline, shows)) return Done{};
  } else if (const auto waited = wait_for_kernel(section, flow, wanted, deadline, since)) {
    return *waited;
  }
  pollfd one{flow->shadow(), static_cast<short>(wanted), 0};
  Round round(one, flow);
  const auto waited = wait(section, round, deadline, nullptr, true, !lane, since);
  if (!waited) return Errno{waited.error()};
  if (*waited == 0 && deadline && now() >= *deadline) return Errno{ETIMEDOUT};
  return Done{};
}

Status wait_until(Section& section, const std::shared_ptr<engine::Flow>& flow, Time deadline,
                  const std::function<bool()>& done) {
  auto& engine = section.engine();
  const Attendance attendance(engine);
  std::optional<Waiter> waiter;
  for (;;) {
    engine.flush();
    engine.poll();
    if (done()) return Done{};
    if (now() >= deadline) return Errno{ETIMEDOUT};
    if (!waiter) waiter.emplace().observe(flow);
    std::vector<pollfd> asked{{waiter->fd(), POLLIN, 0}};
    for (const int source : engine.sources()) asked.push_back({source, POLLIN, 0});
    timespec storage;
    Nap nap(asked, remaining(waiter->fd() < 0 ? std::min(deadline, now() + kTurn) : deadline, storage), nullptr);
    const auto woken = sleep(section, true, waiter->asleep, done, nap, {});
    waiter->silence();
    if (waiter->has_to_go()) waiter.reset();
    if (!woken || !*woken) continue;
    for (const auto& one : std::span(asked).subspan(1))
      if (one.revents) engine.acknowledge();
  }
}

namespace {

// `was_bad`: whether a descriptor was not open when the call began.
Answer<int> poll(std::span<pollfd> fds, Limit limit, const timespec* timeout, const sigset_t* mask, bool& was_bad) {
  pthread_testcancel();
  const Masked masked(mask);
  Section section;
  for (const auto& one : fds) take_over(section, one.fd);
  Round round(fds, limit);
  constexpr size_t kMany = 64;  // to ask for the limit does not count beside so many
  if (round.kernel_serves() || (fds.size() >= kMany && round.refused())) return Answer<int>::pass();
  const auto waited = wait(section, round, deadline_of(timeout), mask, false, true, {});
  was_bad = round.was_bad();
  if (!waited) return Errno{waited.error()};
  return *waited;
}

}  // namespace

Answer<int> poll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  if (idle()) return Answer<int>::pass();
  bool was_bad;
  return poll({fds, count}, Limit::counts, timeout, mask, was_bad);
}

namespace {

using Word = unsigned long;
constexpr int kWordBits = 8 * sizeof(Word);
size_t words(int count) { return (static_cast<size_t>(count) + kWordBits - 1) / kWordBits; }
Word bit(int fd) { return Word{1} << (fd % kWordBits); }

// One of select's sets, of any size.
class Bits {
 public:
  explicit Bits(fd_set* set) : words_(reinterpret_cast<Word*>(set)) {}
  bool has(int fd) const { return words_ && (words_[fd / kWordBits] & bit(fd)); }
  void put(int fd) { words_[fd / kWordBits] |= bit(fd); }
  void clear(int count) {
    if (words_) std::fill_n(words_, words(count), Word{0});
  }

 private:
  Word* words_;
};

// As the kernel's select maps poll's events. A descriptor that was closed while the call slept is ready for all.
constexpr short kReadable = POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR | POLLNVAL;
constexpr short kWritable = POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR | POLLNVAL;
constexpr short kExceptional = POLLPRI | POLLNVAL;

}  // namespace

Answer<int> select(int count, fd_set* reads, fd_set* writes, fd_set* excepts, timespec* timeout, const sigset_t* mask) {
  if (idle() || count < 0) return Answer<int>::pass();
  const auto begun = now();
  Bits in(reads), out(writes), urgent(excepts);
  HeldVector<pollfd> fds;
  for (int fd = 0; fd < count; ++fd) {
    short events = 0;
    if (in.has(fd)) events |= POLLIN;
    if (out.has(fd)) events |= POLLOUT;
    if (urgent.has(fd)) events |= POLLPRI;
    if (events) fds.push_back({fd, events, 0});
  }
  bool was_bad = false;
  const auto answer = poll(fds, Limit::does_not, timeout, mask, was_bad);
  if (!answer.served()) return answer;
  if (timeout) take_off(*timeout, now() - begun);
  if (!answer.result()) return answer;
  if (was_bad) return Errno{EBADF};  // and the sets stay as they were
  for (auto* set : {&in, &out, &urgent}) set->clear(count);
  int bits = 0;
  const auto tell = [&](Bits& set, int fd, bool ready) {
    if (!ready) return;
    set.put(fd);
    ++bits;
  };
  for (const auto& fd : fds) {
    tell(in, fd.fd, (fd.events & POLLIN) && (fd.revents & kReadable));
    tell(out, fd.fd, (fd.events & POLLOUT) && (fd.revents & kWritable));
    tell(urgent, fd.fd, (fd.events & POLLPRI) && (fd.revents & kExceptional));
  }
  return bits;
}

}  // namespace rsock::sockets
