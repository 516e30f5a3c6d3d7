// epoll_ctl and epoll_wait find their set, and make it when the first flow comes into it.

#include "core/sockets/epoll_set.hpp"

namespace rsock::sockets {

Answer<int> epoll_ctl(int set, int operation, int fd, const epoll_event* event) {
  if (idle()) return Answer<int>::pass();
  Section section;
  take_over(section, fd);
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
  pthread_testcancel();
  const Masked masked(mask);
  Section section;
  auto* entry = entry_of(set, Entry::Kind::set);
  if (!entry) return Answer<int>::pass();
  const auto kept = entry->set;  // another thread may close the set while this one sleeps in it
  return kept->wait(section, events, capacity, deadline_of(timeout), mask);
}

}  // namespace rsock::sockets
