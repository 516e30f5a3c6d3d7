// poll, select and blocking calls wait for flows and kernel descriptors together.

#include <poll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/syscall.h>

#include <algorithm>
#include <vector>

#include "core/sockets/epoll_set.hpp"

namespace rsock::sockets {
namespace {

// A thread without a descriptor for a bell waits in turns of this length.
constexpr auto kTurn = milliseconds(10);

// Wakes a thread when a flow that it waits for changes.
class Waiter final : public engine::Observer {
 public:
  ~Waiter() {
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

// One poll(2): the program's descriptors and the flows behind them. What the kernel does not know of is taken out of what it is
// asked.
class Round {
 public:
  explicit Round(std::span<pollfd> fds) : fds_(fds), asked_(fds.begin(), fds.end()), flows_(fds.size()) {
    for (size_t i = 0; i < fds.size(); ++i) {
      auto* entry = find(fds[i].fd);
      if (!entry) continue;
      flows_[i] = lane_flow(fds[i].fd);
      if (!entry->set) continue;
      entry->set->expose();
      sets_.push_back(entry->set);
    }
  }
  Round(pollfd& one, std::shared_ptr<engine::Flow> flow) : fds_(&one, 1), asked_{one}, flows_{std::move(flow)} {}
  // Nothing here is of concern, so far.
  bool kernel_serves() const {
    return std::all_of(flows_.begin(), flows_.end(), [](const auto& flow) { return flow == nullptr; }) && sets_.empty();
  }
  bool in_lanes() const {
    return std::any_of(flows_.begin(), flows_.end(), [](const auto& flow) { return flow && !flow->on_kernel(); }) ||
           std::any_of(sets_.begin(), sets_.end(), [](const auto& set) { return set->in_lanes(); });
  }
  void observe(Waiter& waiter) {
    for (const auto& flow : flows_)
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
      fds_[i].revents = static_cast<short>(ready & (fds_[i].events | POLLERR | POLLHUP));
      count += fds_[i].revents != 0;
    }
    return count;
  }
  // What to ask the kernel now, and `more` descriptors of ours behind it.
  std::vector<pollfd>& ask(std::span<const pollfd> more) {
    asked_.assign(fds_.begin(), fds_.end());
    for (size_t i = 0; i < fds_.size(); ++i) {
      asked_[i].revents = 0;
      if (flows_[i] && !flows_[i]->on_kernel()) asked_[i].fd = -1;
    }
    asked_.insert(asked_.end(), more.begin(), more.end());
    return asked_;
  }
  // Asks the kernel what is ready now, about those that are its own.
  Result<int> look() {
    for (const auto& set : sets_) set->refresh();
    const auto& asked = ask({});
    if (std::all_of(asked.begin(), asked.end(), [](const auto& one) { return one.fd < 0; })) return take();
    const timespec none{};
    // A signal that is put off ends even a look: nothing was found, and the wait that follows has its handler run.
    if (kernel.syscall(SYS_ppoll, asked_.data(), asked_.size(), &none, nullptr, 0) < 0 && errno != EINTR) return Errno{errno};
    return take();
  }
  // Takes the kernel's answer over for the descriptors that it was asked for; how many have any.
  int take() {
    int count = 0;
    for (size_t i = 0; i < fds_.size(); ++i) {
      if (asked_[i].fd < 0 && flows_[i]) continue;
      fds_[i].revents = asked_[i].revents;
      count += fds_[i].revents != 0;
    }
    return count;
  }

 private:
  std::span<pollfd> fds_;
  std::vector<pollfd> asked_;
  std::vector<std::shared_ptr<engine::Flow>> flows_;
  std::vector<std::shared_ptr<EpollSet>> sets_;
};

// Until a descriptor is ready: how many are, 0 after the deadline, an errno as of ppoll. Also ends, with 0, when a flow enters or
// leaves its lane, if `until_moved`. `may_spin`: the caller has not done so already.
Result<int> wait(Section& section, Round& round, std::optional<Time> deadline, const sigset_t* mask, bool until_moved,
                 bool may_spin, const Handled& since) {
  auto& engine = section.engine();
  std::optional<Attendance> attendance;
  std::optional<Waiter> waiter;
  Looks looks;
  bool slept = !may_spin, let_in = !mask;  // a mask may let signals in, also of a call that does not wait
  for (const bool lanes_first = round.in_lanes();;) {
    const bool lanes = round.in_lanes();
    if (until_moved && lanes != lanes_first) return 0;
    if (lanes && !attendance) attendance.emplace(engine);
    if (lanes) {
      engine.flush();
      engine.poll();
    }
    Result<int> found = round.look();
    looks.looked(found && *found > 0);
    const auto something = [&] { return round.collect() > 0 || round.in_lanes() != lanes; };
    const bool over = deadline && now() >= *deadline;
    if (found && *found == 0 && !something() && lanes && !slept && !over)
      spin(section, deadline, [&](Time time) {
        if (something()) return true;
        if (!looks.due(time)) return false;
        found = round.look();
        looks.looked(found && *found > 0);
        return !found || *found > 0;
      });
    if (!found) return found;
    if (const int ready = *found + round.collect(); ready > 0) return ready;
    if (over && let_in) return 0;

    if (!waiter) round.observe(waiter.emplace());
    std::vector<pollfd> ours{{waiter->fd(), POLLIN, 0}};
    if (lanes)
      for (const int source : engine.sources()) ours.push_back({source, POLLIN, 0});
    auto& asked = round.ask(ours);
    auto turn_ends = deadline;
    if (waiter->fd() < 0) turn_ends = std::min(deadline.value_or(Time::max()), now() + kTurn);
    timespec storage;
    Nap nap(asked, remaining(turn_ends, storage), mask);
    const auto woken = sleep(section, lanes, waiter->asleep, something, nap, since);
    slept = true;
    waiter->silence();
    if (!woken) continue;
    if (!*woken) return *woken;
    let_in |= **woken == 0;  // where a descriptor of ours was ready, the kernel let no signal in
    for (auto at = asked.end() - static_cast<ptrdiff_t>(ours.size() - 1); at != asked.end(); ++at)
      if (at->revents) engine.acknowledge();
  }
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
    const auto shows = [&](Time) { return flow->on_kernel() || (flow->readiness() & (wanted | EPOLLERR | EPOLLHUP)) != 0; };
    if (shows({}) || spin(section, deadline, shows)) return Done{};
  }
  pollfd one{flow->shadow(), static_cast<short>(wanted), 0};
  Round round(one, flow);
  const auto waited = wait(section, round, deadline, nullptr, true, !lane, since);
  if (!waited) return Errno{waited.error()};
  if (*waited == 0 && deadline && now() >= *deadline) return Errno{ETIMEDOUT};
  return Done{};
}

Status wait_until(Section& section, const std::shared_ptr<engine::Flow>& flow, Time deadline, const std::function<bool()>& done) {
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
    if (!woken || !*woken) continue;
    for (const auto& one : std::span(asked).subspan(1))
      if (one.revents) engine.acknowledge();
  }
}

namespace {

// The kernel takes no more entries than a process may have descriptors. It is asked only where there are so many that the question
// does not count.
bool more_than_allowed(nfds_t count) {
  constexpr nfds_t kMany = 64;
  if (count < kMany) return false;
  rlimit limit{};
  return kernel.syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit) == 0 && count > limit.rlim_cur;
}

}  // namespace

Answer<int> poll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  if (idle()) return Answer<int>::pass();
  pthread_testcancel();
  const Masked masked(mask);
  Section section;
  if (more_than_allowed(count)) return Answer<int>::pass();
  for (nfds_t i = 0; i < count; ++i) take_over(section, fds[i].fd);
  Round round({fds, count});
  if (round.kernel_serves()) return Answer<int>::pass();
  const auto waited = wait(section, round, deadline_of(timeout), mask, false, true, {});
  if (!waited) return Errno{waited.error()};
  return *waited;
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

// As the kernel's select maps poll's events.
constexpr short kReadable = POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR;
constexpr short kWritable = POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR;

}  // namespace

Answer<int> select(int count, fd_set* reads, fd_set* writes, fd_set* excepts, timespec* timeout, const sigset_t* mask) {
  if (idle() || count < 0) return Answer<int>::pass();
  const auto deadline = deadline_of(timeout);
  Bits in(reads), out(writes), urgent(excepts);
  std::vector<pollfd> fds;
  for (int fd = 0; fd < count; ++fd) {
    short events = 0;
    if (in.has(fd)) events |= POLLIN;
    if (out.has(fd)) events |= POLLOUT;
    if (urgent.has(fd)) events |= POLLPRI;
    if (events) fds.push_back({fd, events, 0});
  }
  const auto answer = poll(fds.data(), fds.size(), timeout, mask);
  if (!answer.served()) return answer;
  if (timeout && deadline) {
    timespec storage;
    *timeout = *remaining(deadline, storage);
  }
  if (!answer.result()) return answer;
  // select knows no POLLNVAL: a bad descriptor is an error, and the sets stay as they were.
  for (const auto& fd : fds)
    if (fd.revents & POLLNVAL) return Errno{EBADF};
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
    tell(urgent, fd.fd, (fd.events & POLLPRI) && (fd.revents & POLLPRI));
  }
  return bits;
}

}  // namespace rsock::sockets
