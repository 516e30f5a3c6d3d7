// epoll_ctl and epoll_wait find their set; poll and select wait for flows and kernel descriptors together.

#include <poll.h>
#include <sys/select.h>
#include <sys/syscall.h>

#include <algorithm>
#include <vector>

#include "core/sockets/epoll_set.hpp"

namespace rsock::sockets {
namespace {

class Waiter final : public engine::Observer {
 public:
  explicit Waiter(Bell& bell) : bell_(bell) {}
  ~Waiter() {
    for (const auto& flow : flows_) flow->unobserve(*this);
  }
  void observe(const std::shared_ptr<engine::Flow>& flow) {
    flow->observe(*this);
    flows_.push_back(flow);
  }
  void flow_changed(engine::Flow&, uint32_t) override { bell_.ring(); }

 private:
  Bell& bell_;
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

// One poll(2): the program's descriptors, with flows that the kernel does not know of taken out of what it is asked.
class Round {
 public:
  Round(std::span<pollfd> fds) : fds_(fds), asked_(fds.begin(), fds.end()), flows_(fds.size()) {
    for (size_t i = 0; i < fds_.size(); ++i) {
      auto* entry = find(fds_[i].fd);
      if (!entry) continue;
      if (entry->set) entry->set->expose();
      flows_[i] = lane_flow(fds_[i].fd);
    }
  }
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

}  // namespace

Answer<int> epoll_ctl(int set, int operation, int fd, const epoll_event* event) {
  if (idle()) return Answer<int>::pass();
  const Section section;
  auto* member = find(fd);
  auto* entry = find(set);
  if (entry && entry->kind != Entry::Kind::set) return Answer<int>::pass();
  if (member && member->set) {
    member->set->expose();
    return Answer<int>::pass();
  }
  const bool watched = entry && entry->set->watches(fd);
  const bool flow = member && member->kind == Entry::Kind::flow && !member->passes.load(std::memory_order_relaxed);
  if (!watched && !flow) return Answer<int>::pass();
  if (!watched && operation != EPOLL_CTL_ADD) return Answer<int>::pass();  // the kernel knows the errno
  if (!entry) {
    auto made = EpollSet::make(set);  // the first flow of this set
    if (!made) {
      if (member->flow->on_kernel()) member->flow->settle(Reason::descriptors);
      return Answer<int>::pass();
    }
    entry = &new_entry(Entry::Kind::set);
    entry->set = std::move(made);
    set_entry(set, entry);
  }
  const auto done = entry->set->control(operation, fd, member ? member->flow : nullptr, event);
  if (!done) return Errno{done.error()};
  return 0;
}

Answer<int> epoll_wait(int set, epoll_event* events, int capacity, const timespec* timeout, const sigset_t* mask) {
  if (idle() || capacity <= 0) return Answer<int>::pass();
  Section section;
  auto* entry = entry_of(set, Entry::Kind::set);
  if (!entry) return Answer<int>::pass();
  const auto kept = entry->set;  // another thread may close the set while this one sleeps in it
  return kept->wait(section, events, capacity, deadline_of(timeout), mask);
}

Answer<int> poll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  if (idle()) return Answer<int>::pass();
  Section section;
  auto& engine = section.engine();
  Round round({fds, count});
  if (!round.has_flows()) return Answer<int>::pass();
  const auto deadline = deadline_of(timeout);
  const auto bell = Bell::borrow();
  if (!bell) return Errno{ENOMEM};
  Waiter waiter(*bell);
  round.observe(waiter);
  std::optional<Attendance> attendance;
  Looks looks;
  bool slept = false;
  for (;;) {
    const bool lanes = round.in_lanes();
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
      spin(section, deadline, [&] {
        if (something()) return true;
        if (!looks.due()) return false;
        found = round.look();
        looks.looked(found && *found > 0);
        return !found || *found > 0;
      });
    if (!found) return Errno{found.error()};
    if (const int ready = *found + round.collect(); ready > 0) return ready;
    if (over) return 0;
    std::vector<pollfd> ours{{bell->fd(), POLLIN, 0}};
    if (lanes)
      for (const int source : engine.sources()) ours.push_back({source, POLLIN, 0});
    auto& asked = round.ask(ours);
    timespec storage;
    int error = 0;
    const auto woken = sleep(section, lanes, something, [&] {
      const int answered = kernel.ppoll(asked.data(), asked.size(), remaining(deadline, storage), mask);
      error = errno;
      return answered;
    });
    slept = true;
    bell->silence();
    if (!woken) continue;
    if (*woken < 0) return Errno{error};
    for (size_t i = count + 1; i < asked.size(); ++i)
      if (asked[i].revents) engine.acknowledge();
  }
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
