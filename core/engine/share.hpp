#pragma once
// What the processes of one family, forked from one another, know in common of a flow, or of an epoll set with flows, whose descriptor
// several of them hold: a few words of memory that they share. A set is owned by its maker, and `tcp` once it is the kernel's alone.
//
// The maker is the process that had the flow when it first forked. It keeps the flow, in its lane if it is in one. Who else uses the
// descriptor asks the maker to leave first, and waits; from then on the flow is the kernel's for all of them. A connection that
// was accepted and that nobody used yet is free: it belongs to whoever uses it first.
//
//   free ─▶ owned ─▶ wanted ─▶ tcp          lost: what the flow was cannot be had on TCP any more
//     ├───▶ taken   └───────────▶ tcp, lost
//     └───▶ tcp
//
// holders >= the processes that have a descriptor of it: one that was killed, or became another program, may still count. While
// others count, a process that closes the flow does not end the connection, and a taken flow stays on TCP.

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "core/base/clock.hpp"

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

// The shares that a process makes, and how its children call it. The memory and the bell outlive the process in its children, who
// only ask.
class Family {
 public:
  // `bell`: what the maker's service thread listens to. nullptr if there is no memory to be had.
  static std::unique_ptr<Family> make(int process, int bell);

  // The maker, under the engine's lock.
  Share* new_share(Share::Place where);  // held by one; nullptr if there are no more
  bool called() { return memory_->called.exchange(0, std::memory_order_acq_rel) != 0; }

  // Anybody else: where the flow is once the maker has left, or nothing if it did not answer in time. Blocks, for a bounded time,
  // without locks.
  std::optional<Share::Place> ask(Share& share) const;
  int bell() const { return bell_; }

 private:
  static constexpr size_t kShares = 1 << 20;
  struct Memory {
    std::atomic<uint32_t> called;
    Share shares[kShares];
  };
  Family(int process, int bell, Memory* memory) : process_(process), bell_(bell), memory_(memory) {}

  const int process_, bell_;
  Memory* const memory_;  // never given back: children may hold parts of it
  size_t used_ = 0, next_ = 0;
};

}  // namespace rsock::engine
