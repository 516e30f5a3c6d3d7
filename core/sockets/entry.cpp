#include "core/sockets/entry.hpp"

#include <sys/syscall.h>

#include <algorithm>

#include "core/base/clock.hpp"
#include "core/base/own.hpp"
#include "core/sockets/epoll_set.hpp"
#include "core/sockets/wait.hpp"

namespace rsock::sockets {

TableSlot table[kTableSize];
constinit std::atomic<int> concerned{0};
constinit State state{};
constinit std::atomic<int> Unaware::counts[kTableSize]{};

namespace {

constinit Entry* pool = nullptr;
constinit int highest = -1;

}  // namespace

// Not for ever: whoever ends the process may wait for this thread, in a destructor that runs after ours.
void Section::await_end() {
  constexpr auto kMore = milliseconds(1000);
  auto& engine = *state.engine;
  if (own::trusted || engine.ended_by == sys::thread_id()) return;
  engine.lock.unlock();
  const auto deadline = now() + engine.settings.drain + kMore;
  for (timespec left; now() < deadline;) kernel.syscall(SYS_nanosleep, remaining(deadline, left), nullptr);
  engine.lock.lock();
}

Entry& new_entry(Entry::Kind kind) {
  auto* entry = pool;
  if (entry)
    pool = entry->next_free;
  else
    entry = new Entry;
  entry->kind = kind;
  entry->next_free = nullptr;
  entry->passes.store(false, std::memory_order_relaxed);
  entry->passed.in.store(0, std::memory_order_relaxed), entry->passed.out.store(0, std::memory_order_relaxed);
  entry->nonblocking = entry->corked = false;
  entry->receive_limit.reset(), entry->send_limit.reset(), entry->tells_unread.reset();
  entry->share = nullptr, entry->maker = nullptr, entry->original = nullptr, entry->original_set = nullptr,
  entry->meant = false;
  return *entry;
}

void set_entry(int fd, Entry* entry) {
  if (entry) ++entry->descriptors;
  highest = std::max(highest, fd);
  concerned.fetch_add((entry != nullptr) - (find(fd) != nullptr), std::memory_order_relaxed);
  table[fd].store(entry, std::memory_order_release);
}

std::span<TableSlot> used_table() { return {table, static_cast<size_t>(highest + 1)}; }

Entry* entry_of(int fd, Entry::Kind kind) {
  auto* entry = find(fd);
  return entry && entry->kind == kind ? entry : nullptr;
}

engine::Flow* lane_flow(Entry& entry) {
  auto& flow = *entry.flow;
  if (!flow.selected()) return nullptr;
  if (flow.settled() && flow.on_kernel() && !flow.awaits_rest()) {
    flow.forgo_rest();
    flow.note_passed(&entry.passed);
    entry.passes.store(true, std::memory_order_release);
    return nullptr;
  }
  return &flow;
}

std::shared_ptr<engine::Flow> lane_flow(int fd) {
  auto* entry = entry_of(fd, Entry::Kind::flow);
  return entry && lane_flow(*entry) ? entry->flow : nullptr;
}

namespace {

// Nothing names it any more.
void give_back(Entry& entry) {
  if (entry.share) entry.share->let_go();
  if (entry.set && entry.set->share()) entry.set->share()->let_go();
  entry.set.reset();
  entry.kind = Entry::Kind::unused;
  entry.next_free = pool;
  pool = &entry;
}

}  // namespace

void release(int fd) {
  auto* entry = find(fd);
  set_entry(fd, nullptr);
  if (!entry) return;
  if (--entry->descriptors > 0) {
    if (entry->flow) EpollSet::descriptor_closed(*entry->flow, fd);
    // The kernel's calls on the flow go by a descriptor that is still its own.
    const auto slots = used_table();
    for (size_t other = 0; entry->flow && other < slots.size(); ++other)
      if (slots[other].load(std::memory_order_relaxed) == entry)
        return entry->flow->renamed(fd, static_cast<int>(other));
    return;
  }
  if (entry->flow) {
    EpollSet::forget_flow(*entry->flow);
    entry->flow->note_passed(nullptr);
    entry->flow->close_when_free();
    entry->flow.reset();
  }
  give_back(*entry);
}

void disown(int fd) {
  auto* entry = find(fd);
  set_entry(fd, nullptr);
  if (!entry || --entry->descriptors > 0) return;
  if (entry->flow) entry->flow->note_passed(nullptr), entry->flow->disown();
  entry->flow.reset();
  give_back(*entry);
}

}  // namespace rsock::sockets
