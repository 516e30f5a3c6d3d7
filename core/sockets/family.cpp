// Descriptors that a child has from its parent.
//
// A flow that was, or might come to be, in a lane of the parent's is inherited: closing it is harmless, using it makes
// the parent leave the lane first, and this process waits for that. An accepted connection that nobody used yet becomes
// a flow of the process that uses it first. All others are ordinary sockets. An epoll set with flows is inherited, too:
// using it makes the parent give it up. The parent's flows and sets stay in the child's memory, for what can be read
// there.

#include <fcntl.h>

#include <new>
#include <vector>

#include "core/sockets/epoll_set.hpp"

namespace rsock::sockets {
namespace {

using engine::Share;

uint64_t generation = 0;

// Calls `visit` for each entry once, whatever descriptors name it. Writes to few of them: after a fork each first write
// to a page is a fault.
template <class Visit>
void for_each_entry(Visit visit) {
  ++generation;
  for (auto& slot : used_table()) {
    auto* entry = slot.load(std::memory_order_relaxed);
    if (!entry || (entry->descriptors > 1 && std::exchange(entry->generation, generation) == generation)) continue;
    visit(*entry);
  }
}

Share* share_of(const Entry& entry) {
  if (entry.set) return entry.set->share();
  return entry.flow ? entry.flow->share() : entry.share;
}

bool for_good(const engine::Flow& flow) { return !flow.selected() || (flow.settled() && flow.on_kernel()); }

void become_inherited(Entry& entry, const engine::Family* maker) {
  entry.kind = Entry::Kind::inherited;
  entry.share = entry.flow->share();
  entry.maker = maker;
  entry.original = entry.flow.get();
  new (&entry.flow) std::shared_ptr<engine::Flow>;  // never destroyed: it would close what is this process's now
}

void become_inherited_set(Entry& entry, const engine::Family* maker) {
  entry.kind = Entry::Kind::inherited_set;
  entry.share = entry.set->share();
  entry.maker = maker;
  entry.original_set = entry.set.get();
  new (&entry.set) std::shared_ptr<EpollSet>;  // the same
}

// Once it is the kernel's it stays so while others hold it; who is alone with it begins anew.
void take_set_over(Section&, int fd) {
  auto* entry = find(fd);
  auto& share = *entry->share;
  if (!entry->passes.load(std::memory_order_relaxed)) {
    std::optional<Share::Place> place;
    {
      const auto* maker = entry->maker;
      const Section::Outside outside;
      place = maker->ask(share);
    }
    entry = entry_of(fd, Entry::Kind::inherited_set);
    if (!entry || entry->share != &share || !place) return;  // closed meanwhile; or asked again at the next use
    if (place == Share::Place::lost) entry->original_set->mend(fd);
    entry->passes.store(true, std::memory_order_release);
  }
  if (!share.alone()) return;
  const auto slots = used_table();
  for (size_t name = 0; name < slots.size(); ++name)
    if (slots[name].load(std::memory_order_relaxed) == entry) release(static_cast<int>(name));
}

void adopt(engine::Engine& engine, Entry& entry, int fd) {
  auto& share = *std::exchange(entry.share, nullptr);
  const auto& original = *std::exchange(entry.original, nullptr);
  entry.kind = Entry::Kind::flow;
  entry.flow = engine.make_flow(original.role(), fd);
  entry.flow->set_endpoints(original.local(), original.remote());
  entry.flow->select(original.candidacy().wanted());
  entry.flow->take(share);
  if (!engine.start_service()) entry.flow->settle(Reason::descriptors);
}

bool closes_on_exec(int fd) {
  const auto flags = sys::fcntl(fd, F_GETFD, 0);
  return !flags || (*flags & FD_CLOEXEC);
}

}  // namespace

void share_with_child(engine::Engine& engine) {
  for_each_entry([&](Entry& entry) {
    if (entry.share) return entry.share->hold();
    if (entry.set) {
      if (auto* family = engine.family()) entry.set->share_with_child(*family);
      return;
    }
    if (!entry.flow || for_good(*entry.flow)) return;
    if (auto* family = engine.family()) entry.flow->share_with_child(*family);
  });
}

void inherit(engine::Engine& parents) {
  for (auto& slot : used_table()) {
    auto* entry = slot.load(std::memory_order_relaxed);
    if (!entry || entry->kind == Entry::Kind::listener || entry->kind == Entry::Kind::inherited ||
        entry->kind == Entry::Kind::inherited_set)
      continue;
    if (entry->set && entry->set->share()) {
      become_inherited_set(*entry, parents.family());
      continue;
    }
    if (entry->flow && !for_good(*entry->flow)) {
      become_inherited(*entry, parents.family());
      continue;
    }
    slot.store(nullptr, std::memory_order_relaxed);
    concerned.fetch_sub(1, std::memory_order_relaxed);
  }
}

void take_over(Section& section, int fd, By by) {
  if (entry_of(fd, Entry::Kind::inherited_set)) return take_set_over(section, fd);
  auto* entry = entry_of(fd, Entry::Kind::inherited);
  if (!entry || entry->passes.load(std::memory_order_relaxed) || !entry->share) return;
  auto& share = *entry->share;
  if (by == By::here && share.move(Share::Place::free, Share::Place::taken)) return adopt(section.engine(), *entry, fd);
  (void)share.move(Share::Place::free, Share::Place::tcp);
  std::optional<Share::Place> place;
  {
    const auto* maker = entry->maker;
    const Section::Outside outside;
    place = maker->ask(share);
  }
  entry = entry_of(fd, Entry::Kind::inherited);
  if (!entry || entry->share != &share) return;  // another thread closed it meanwhile
  if (place == Share::Place::tcp || place == Share::Place::taken)
    entry->passes.store(true, std::memory_order_release);
  else {
    std::exchange(entry->share, nullptr)->let_go();
    if (by == By::others) sys::dissolve(fd);  // whose bytes would come in front of what is in the lane
  }
}

void give_up_and_wait(Section& section, std::shared_ptr<EpollSet> set) {
  set->give_up();
  const auto deadline = now() + kLeaveBound;
  for (const auto& flow : set->flows()) (void)leave_and_wait(section, flow, Reason::shared, deadline);
}

void give_up_shared_sets(Section& section) {
  std::vector<std::shared_ptr<EpollSet>> shared;
  for_each_entry([&](Entry& entry) {
    if (entry.set && entry.set->share() && !entry.set->share()->alone()) shared.push_back(entry.set);
  });
  for (const auto& set : shared) give_up_and_wait(section, set);
}

namespace {

bool is_kernels(Entry& entry) {
  switch (entry.kind) {
    case Entry::Kind::flow: return !lane_flow(entry);
    case Entry::Kind::set: return entry.set->kernels();
    case Entry::Kind::inherited:
    case Entry::Kind::inherited_set: return entry.passes.load(std::memory_order_relaxed);
    case Entry::Kind::listener:
    case Entry::Kind::unused: break;
  }
  return true;
}

}  // namespace

void leave_to_kernel(Section& section) {
  std::vector<std::shared_ptr<EpollSet>> sets;
  for_each_entry([&](Entry& entry) {
    if (entry.kind == Entry::Kind::set) sets.push_back(entry.set);
  });
  for (const auto& set : sets) give_up_and_wait(section, set);
  for (size_t fd = 0; fd < used_table().size(); ++fd) take_over(section, static_cast<int>(fd), By::others);
  for (size_t fd = 0; fd < used_table().size(); ++fd)
    if (auto* entry = find(static_cast<int>(fd)); entry && is_kernels(*entry)) disown(static_cast<int>(fd));
}

void let_go_of_sets(Section& section) {
  give_up_shared_sets(section);
  for_each_entry([](Entry& entry) {
    if (entry.set && entry.set->share()) entry.set->share()->let_go();
  });
}

void let_go_of_inherited() {
  for_each_entry([](Entry& entry) {
    if (auto* share = std::exchange(entry.share, nullptr)) share->let_go();
  });
}

// What closes on exec is no longer held by then; what was meant for the next program is on TCP. What merely leaks to it
// stays with its owner.
void hand_to_next_program(Section& section) {
  const auto slots = used_table();
  for (size_t fd = 0; fd < slots.size(); ++fd) {
    const auto* entry = entry_of(static_cast<int>(fd), Entry::Kind::inherited);
    if (entry && (fd <= 2 || entry->meant) && !closes_on_exec(static_cast<int>(fd)))
      take_over(section, static_cast<int>(fd), By::others);
  }
  for_each_entry([](Entry& entry) { entry.leaves_with_program = share_of(entry) != nullptr; });
  for (size_t fd = 0; fd < slots.size(); ++fd)
    if (auto* entry = find(static_cast<int>(fd));
        entry && entry->leaves_with_program && !closes_on_exec(static_cast<int>(fd)))
      entry->leaves_with_program = false;
  for_each_entry([](Entry& entry) {
    if (entry.leaves_with_program) share_of(entry)->let_go();
  });
}

void let_go_for_parent() {
  for_each_entry([](Entry& entry) {
    if (entry.share) entry.share->let_go();
  });
}

void keep_after_all() {
  for_each_entry([](Entry& entry) {
    if (std::exchange(entry.leaves_with_program, false)) share_of(entry)->hold();
  });
}

}  // namespace rsock::sockets
