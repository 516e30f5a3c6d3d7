#pragma once
// What the processes of one family, forked from one another, know in common of a flow, or of an epoll set with flows,
// whose descriptor several of them hold: a few words of memory that they share. A set is owned by its maker, and `tcp`
// once it is the kernel's alone.
//
// The maker is the process that had the flow when it first forked. It keeps the flow, in its lane if it is in one.
// Another process that uses the descriptor asks the maker to leave first, and waits; from then on the flow is the
// kernel's for all of them. A connection that was accepted and that nobody used yet is free: it belongs to whoever uses
// it first.
//
//   free ─▶ owned ─▶ wanted ─▶ tcp          lost: what the flow was cannot be had on TCP any more
//     ├───▶ taken   └───────────▶ tcp, lost
//     └───▶ tcp
//
// A child calls its maker by a line of its own: a pair of sockets that is made for it before it is forked. So it can
// fill or shut nobody else's, and what it can do to its own neither blocks nor deafens the maker. What the words say
// are hints to the maker: a child can write anything there, at any time, and nothing follows but that a flow leaves its
// lane.
//
// holders >= the processes that have a descriptor of it: one that was killed, or became another program, may still
// count. While others count, a process that closes the flow does not end the connection, and a taken flow stays on TCP.

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "core/base/clock.hpp"
#include "core/base/exposed.hpp"

namespace rsock::engine {

class Share {
 public:
  enum class Place : uint32_t {
    free,    // nobody used the connection
    owned,   // the maker has it, perhaps in a lane
    wanted,  // as owned, and another process waits for it to leave
    taken,   // another process than the maker used it first
    tcp,     // for good, whoever uses it
    lost,
  };
  Place place() const { return static_cast<Place>(place_.load(std::memory_order_acquire)); }
  // From one place to another; false if it is elsewhere by now.
  bool move(Place from, Place to);
  // The maker's word: whoever waits for it hears of it.
  void tell(Place where);
  // Waits until it is no longer wanted, or a signal or the deadline comes.
  void wait(Duration most) const;

  bool alone() const { return holders_.load(std::memory_order_acquire) <= 1; }
  bool held() const { return holders_.load(std::memory_order_acquire) > 0; }
  void hold() { holders_.fetch_add(1, std::memory_order_acq_rel); }
  // True if others hold it still.
  bool let_go() { return holders_.fetch_sub(1, std::memory_order_acq_rel) > 1; }
  void begin(Place where);

 private:
  std::atomic<uint32_t> place_;
  std::atomic<uint32_t> holders_;
};

// The shares that a process makes, and how its children call it. The memory outlives the process in its children, who
// only ask.
class Family {
 public:
  // nullptr if there is no memory to be had.
  static std::unique_ptr<Family> make(int process);

  // The maker, under the engine's lock.
  Share* new_share(Share::Place where);  // held by one; nullptr if there are no more
  bool called() { return memory_->called.exchange(0, std::memory_order_acq_rel) != 0; }

  // The maker, around a fork: the line of the child that is to come, and the maker's end of it. If there is no
  // descriptor for it the child writes its words without a call.
  void open_line();
  ExposedFd parents_end();
  // Anybody else: its end, -1 if there is none.
  int line() const { return line_.get(); }

  // Anybody else: where the flow is once the maker has left, or nothing if it did not answer in time. Blocks, for a
  // bounded time, without locks.
  std::optional<Share::Place> ask(Share& share) const;

 private:
  static constexpr size_t kShares = 1 << 20;
  struct Memory {
    std::atomic<uint32_t> called;
    Share shares[kShares];
  };
  Family(int process, Memory* memory) : process_(process), memory_(memory) {}

  const int process_;
  UniqueFd line_, parents_end_;
  Memory* const memory_;  // never given back: children may hold parts of it
  size_t used_ = 0, next_ = 0;
};

}  // namespace rsock::engine
