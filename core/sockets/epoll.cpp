// epoll_ctl and epoll_wait find their set, and make it when the first flow comes into it.

#include "core/sockets/epoll_set.hpp"

namespace rsock::sockets {
namespace {

Entry* known_set(int set);

void add_name(Entry& entry, int fd) {
  set_entry(fd, &entry);
  entry.set->named(fd);
}

// The set gets its first flow, or a set with flows: from now on it is known here, by all its descriptors, and so is who
// contains it.
Result<Entry*> make_set(int set) {
  const auto made = EpollSet::make(set);
  if (!made) return Errno{made.error()};
  auto& entry = new_entry(Entry::Kind::set);
  entry.set = *made;
  add_name(entry, set);
  // A thread that goes to sleep in it sees the entry, or is seen: this comes between the entry and any look at the
  // counts.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const auto relatives = entry.set->find_relatives(set);
  for (const int copy : relatives.copies)
    if (!find(copy)) add_name(entry, copy);
  for (const int outer : relatives.outer)
    if (auto* around = known_set(outer)) around->set->nest(entry.set);
  return &entry;
}

Entry* known_set(int set) {
  if (auto* entry = find(set)) return entry->kind == Entry::Kind::set ? entry : nullptr;
  const auto made = make_set(set);
  return made ? *made : nullptr;
}

// Where the flow cannot be watched here, it goes to TCP and is watched there.
void watch_in_kernel(Section& section, std::shared_ptr<engine::Flow> flow, Reason reason) {
  if (flow->on_kernel()) return flow->settle(reason);
  (void)leave_and_wait(section, std::move(flow), reason);
}

// Several processes use it.
bool is_kernels(const Entry& entry) {
  return entry.kind == Entry::Kind::inherited_set || (entry.set && entry.set->given_up());
}

}  // namespace

Answer<int> epoll_ctl(int set, int operation, int fd, const epoll_event* event) {
  if (idle()) return Answer<int>::pass();
  Section section;
  take_over(section, fd);
  take_over(section, set);
  auto* member = find(fd);
  auto* entry = find(set);
  if (entry && is_kernels(*entry)) {
    const auto flow = operation == EPOLL_CTL_ADD ? lane_flow(fd) : nullptr;
    if (flow) watch_in_kernel(section, flow, Reason::shared);
    return Answer<int>::pass();
  }
  if (entry && entry->kind != Entry::Kind::set) return Answer<int>::pass();
  if (member && member->set && operation == EPOLL_CTL_ADD) {
    const auto inner = member->set;
    epoll_event copy = *event;
    if (const auto done = sys::epoll_ctl(set, operation, fd, &copy); !done) return Errno{done.error()};
    if (auto* outer = known_set(set)) outer->set->nest(inner);
    return 0;
  }
  const auto flow = member && member->kind == Entry::Kind::flow ? member->flow : nullptr;
  const bool watched = flow && entry && entry->set->watches(fd, *flow);
  const bool comes = flow && operation == EPOLL_CTL_ADD && !member->passes.load(std::memory_order_relaxed);
  if (!watched && !comes) {  // the kernel's, or it knows the errno
    if (entry) entry->set->others_changed();
    return Answer<int>::pass();
  }
  if (!entry) {
    const auto made = make_set(set);
    if (!made) {
      if (!made.is(EINVAL) && !made.is(EBADF)) watch_in_kernel(section, flow, Reason::descriptors);
      return Answer<int>::pass();
    }
    entry = *made;
  }
  const auto done = entry->set->control(operation, fd, flow, event);
  if (!done) return Errno{done.error()};
  return 0;
}

Answer<int> epoll_wait(int set, epoll_event* events, int capacity, const timespec* timeout, const sigset_t* mask) {
  if (idle() || capacity <= 0) return Answer<int>::pass();
  pthread_testcancel();
  const Masked masked(mask);
  Section section;
  auto* entry = entry_of(set, Entry::Kind::set);
  if (!entry) take_over(section, set);
  if (!entry || entry->set->kernels()) return Answer<int>::pass();
  const auto kept = entry->set;  // another thread may close the set while this one sleeps in it
  return kept->wait(section, events, capacity, deadline_of(timeout), mask);
}

int epoll_waited(int set, epoll_event* events, int count) {
  if (idle()) return count;
  const Section section;
  auto* entry = entry_of(set, Entry::Kind::set);
  return entry ? entry->set->translate(events, count) : count;
}

}  // namespace rsock::sockets
