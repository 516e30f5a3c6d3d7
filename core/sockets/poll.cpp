// poll, select and blocking calls wait for flows and kernel descriptors together.

#include <poll.h>
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

short poll_events(uint32_t ready) {
  if (ready & EPOLLIN) ready |= EPOLLRDNORM;
  if (ready & EPOLLOUT) ready |= EPOLLWRNORM;
  return static_cast<short>(ready);
}

std::vector<std::shared_ptr<engine::Flow>> flows_of(Section& section, std::span<const pollfd> fds) {
  std::vector<std::shared_ptr<engine::Flow>> flows(fds.size());
  for (size_t i = 0; i < fds.size(); ++i) {
    take_over(section, fds[i].fd);
    auto* entry = find(fds[i].fd);
    if (!entry) continue;
    if (entry->set) entry->set->expose();
    flows[i] = lane_flow(fds[i].fd);
  }
  return flows;
}

// One poll(2): the program's descriptors and the flows behind them. What the kernel does not know of is taken out of what it is
// asked.
class Round {
 public:
  Round(std::span<pollfd> fds, std::vector<std::shared_ptr<engine::Flow>> flows)
      : fds_(fds), asked_(fds.begin(), fds.end()), flows_(std::move(flows)) {}
  bool has_flows() const {
    return std::any_of(flows_.begin(), flows_.end(), [](const auto& flow) { return flow != nullptr; });
  }
  bool in_lanes() const {
    return std::any_of(flows_.begin(), flows_.end(), [](const auto& flow) { return flow && !flow->on_kernel(); });
  }
  void observe(Waiter& waiter) {
    for (const auto& flow : flows_)
      if (flow) waiter.observe(flow);
  }
  // Writes the results for flows in lanes; how many descriptors have any.
  int collect() {
    int count = 0;
    for (size_t i = 0; i < fds_.size(); ++i) {
      if (!flows_[i] || flows_[i]->on_kernel()) continue;
      const auto ready = poll_events(flows_[i]->readiness());
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
    const auto& asked = ask({});
    if (std::all_of(asked.begin(), asked.end(), [](const auto& one) { return one.fd < 0; })) return take();
    const timespec none{};
    if (kernel.syscall(SYS_ppoll, asked_.data(), asked_.size(), &none, nullptr, 0) < 0) return Errno{errno};
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
};

// Until a descriptor is ready: how many are, 0 after the deadline, an errno as of ppoll. Also ends, with 0, when a flow enters or
// leaves its lane, if `until_moved`. `may_spin`: the caller has not done so already.
Result<int> wait(Section& section, Round& round, std::optional<Time> deadline, const sigset_t* mask, bool until_moved,
                 bool may_spin, const Handled& since) {
  auto& engine = section.engine();
  std::optional<Attendance> attendance;
  std::optional<Waiter> waiter;
  Looks looks;
  bool slept = !may_spin;
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
    if (over && (!mask || slept)) return 0;  // a mask may let signals in, also of a call that does not wait

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
    for (auto at = asked.end() - static_cast<ptrdiff_t>(ours.size() - 1); at != asked.end(); ++at)
      if (at->revents) engine.acknowledge();
  }
}

}  // namespace

Status wait_for(Section& section, const std::shared_ptr<engine::Flow>& flow, int fd, uint32_t wanted,
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
  pollfd one{fd, static_cast<short>(wanted), 0};
  Round round({&one, 1}, {flow});
  const auto waited = wait(section, round, deadline, nullptr, true, !lane, since);
  if (!waited) return Errno{waited.error()};
  if (*waited == 0 && deadline && now() >= *deadline) return Errno{ETIMEDOUT};
  return Done{};
}

Answer<int> poll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  if (idle()) return Answer<int>::pass();
  pthread_testcancel();
  const Masked masked(mask);
  Section section;
  Round round({fds, count}, flows_of(section, {fds, count}));
  if (!round.has_flows()) return Answer<int>::pass();
  const auto waited = wait(section, round, deadline_of(timeout), mask, false, true, {});
  if (!waited) return Errno{waited.error()};
  return *waited;
}

Answer<int> select(int count, fd_set* reads, fd_set* writes, fd_set* excepts, timespec* timeout, const sigset_t* mask) {
  if (idle() || count < 0 || count > FD_SETSIZE) return Answer<int>::pass();
  const auto deadline = deadline_of(timeout);
  std::vector<pollfd> fds;
  for (int fd = 0; fd < count; ++fd) {
    short events = 0;
    if (reads && FD_ISSET(fd, reads)) events |= POLLIN;
    if (writes && FD_ISSET(fd, writes)) events |= POLLOUT;
    if (excepts && FD_ISSET(fd, excepts)) events |= POLLPRI;
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
  for (auto* set : {reads, writes, excepts})
    if (set) FD_ZERO(set);
  int bits = 0;
  for (const auto& fd : fds) {
    const bool in = (fd.events & POLLIN) && (fd.revents & (POLLIN | POLLHUP | POLLERR));
    const bool out = (fd.events & POLLOUT) && (fd.revents & (POLLOUT | POLLERR));
    const bool except = (fd.events & POLLPRI) && (fd.revents & POLLPRI);
    if (in) FD_SET(fd.fd, reads);
    if (out) FD_SET(fd.fd, writes);
    if (except) FD_SET(fd.fd, excepts);
    bits += in + out + except;
  }
  return bits;
}

}  // namespace rsock::sockets
