#pragma once
// What a descriptor of concern stands for. Entries are found without a lock, so their memory is never given back: an
// entry that is not in use waits in a pool. Whoever found one takes the lock and looks again before trusting it.

#include <pthread.h>

#include <atomic>
#include <memory>
#include <mutex>

#include "core/engine/engine.hpp"
#include "core/sockets/signals.hpp"
#include "core/sockets/sockets.hpp"

namespace rsock::sockets {

class EpollSet;

class Entry {
 public:
  // inherited: a flow of the parent's, or an epoll set of its (family.cpp)
  enum class Kind { unused, listener, flow, set, inherited, inherited_set };

  // The kernel serves every call: read without the lock, and never taken back while the entry is in use.
  std::atomic<bool> passes{false};
  engine::Flow::Passed passed;  // since then

  // Below: under the engine's lock.
  Kind kind = Kind::unused;
  std::shared_ptr<engine::Flow> flow;
  std::shared_ptr<EpollSet> set;
  int descriptors = 0;  // that name it
  bool nonblocking = false;
  bool corked = false;  // TCP_CORK
  // SO_RCVTIMEO and SO_SNDTIMEO, zero if there is none; not known until a call waits, unless it is negative: then no
  // call waits, and the kernel does not tell.
  std::optional<Duration> receive_limit, send_limit;
  std::optional<bool> tells_unread;  // TCP_INQ; not known until a message is received
  // inherited:
  engine::Share* share = nullptr;          // nullptr: it cannot be had
  const engine::Family* maker = nullptr;   // to be asked for it
  const engine::Flow* original = nullptr;  // the parent's, as it was when it forked; to be read only
  const EpollSet* original_set = nullptr;  // the same
  bool meant = false;                      // for the next program: it was copied, or its close-on-exec cleared
  bool leaves_with_program = false;        // an exec is under way, which closes it
  uint64_t generation = 0;                 // of the last walk over the table that saw it
  Entry* next_free = nullptr;
};

// The state of the library, from start() on; a child of fork starts afresh.
struct State {
  engine::Engine* engine = nullptr;
  // Replaced as a whole by reload(), while application threads read it; the old ones stay.
  std::atomic<const config::Config*> config{nullptr};
  int process = 0;
};
extern State state;

// A stretch under the engine's lock, in which no thread is cancelled, no handler of a signal runs, and errno is kept.
class Section {
 public:
  Section() {
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_);
    enter();
  }
  // The lock is held already.
  explicit Section(std::adopt_lock_t) { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_); }
  ~Section() noexcept(false) {  // here an asynchronous cancellation that came meanwhile ends the thread
    state.engine->bury_flows();
    state.engine->lock.unlock();
    errno = errno_;
    pthread_setcancelstate(cancel_, nullptr);
  }
  Section(const Section&) = delete;
  Section& operator=(const Section&) = delete;

  engine::Engine& engine() const { return *state.engine; }
  int cancel_state() const { return cancel_; }

  // A stretch within, without the lock.
  class Outside {
   public:
    Outside() { state.engine->lock.unlock(); }
    ~Outside() { enter(); }
    Outside(const Outside&) = delete;
    Outside& operator=(const Outside&) = delete;
  };

 private:
  // The process ends: its flows are closed, and none of its threads but the one that ends it is to see that.
  static void enter() {
    state.engine->lock.lock();
    if (state.engine->ended_by.load(std::memory_order_relaxed) != 0) await_end();
  }
  static void await_end();

  const Held held_;
  int cancel_ = 0;
  int errno_ = errno;
};

// The rules are read again: for connections from now on; flows that they no longer select leave their lanes. Options
// stay.
engine::Program::Reloaded reload(const Again& again);

// ---- under the lock

Entry& new_entry(Entry::Kind kind);
void set_entry(int fd, Entry* entry);
// The part of the table that was ever used.
std::span<TableSlot> used_table();
// The entry of a descriptor, if it is still that and of this kind.
Entry* entry_of(int fd, Entry::Kind kind);
// Of a socket for connections, which is known from here on if it was not; nullptr for what is none.
Entry* known_socket(Section& section, int fd);
// The flow behind a descriptor, unless the kernel serves it: then the entry is marked so.
std::shared_ptr<engine::Flow> lane_flow(int fd);
// The same of an entry that is a flow's; safe until the lock is let go.
engine::Flow* lane_flow(Entry& entry);
void release(int fd);
// The descriptor stays the program's, and is nothing to us: the kernel serves it, for good.
void disown(int fd);
// What came from the parent is used: `here` by this process's program, or by somebody else to whom it is handed.
// Afterwards the entry is a flow of this process, or the kernel serves it; if it is still inherited, it is lost. Does
// nothing to other entries. Blocks for a bounded time, without the lock.
enum class By { here, others };
void take_over(Section& section, int fd, By by = By::here);
// Sets of this process that others hold become the kernel's alone: before this process goes on without them. Blocks for
// a bounded time, without the lock.
void give_up_shared_sets(Section& section);
void give_up_and_wait(Section& section, std::shared_ptr<EpollSet> set);
void let_go_of_sets(Section& section);
// All flows are leaving. Nothing is known any more but flows of whose bytes some are here, unread, and the sets that
// they are in. Blocks for a bounded time, without the lock.
void leave_to_kernel(Section& section);
// The descriptors of this process that others in its family know of, as fork, exec and exit see them.
void share_with_child(engine::Engine& engine);
void inherit(engine::Engine& parents);
void let_go_of_inherited();
void hand_to_next_program(Section& section);
void keep_after_all();
void let_go_for_parent();  // which ended unseen
// The two ends of the connection at a descriptor, as the kernel knows them. False if there is none.
bool endpoints_of(int fd, Endpoint& local, Endpoint& remote);
bool endpoints_of(int fd, Endpoint& local, Endpoint& remote,
                  sockaddr_storage& here);  // `local` as the kernel gives it, too
// Brings the flow back to TCP for good; waits for that, until kLeaveBound from now or the deadline. False if it is not
// there: its peer does not answer.
inline constexpr auto kLeaveBound = milliseconds(2000);
bool leave_and_wait(Section& section, std::shared_ptr<engine::Flow> flow, Reason reason,
                    std::optional<Time> deadline = {});
// The same before somebody uses the kernel's socket, whose bytes would come in front of the lane's: a flow that is not
// there in time is reset.
void leave_or_break(Section& section, std::shared_ptr<engine::Flow> flow, Reason reason,
                    std::optional<Time> deadline = {});

}  // namespace rsock::sockets
