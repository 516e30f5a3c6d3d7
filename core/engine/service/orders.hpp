#pragma once
// What other threads ask of the service's thread, for it to do in its next turn, and how they wake it. It
// outlives that thread, and is there before it: then nobody takes what is asked.
//
// Any thread, under the engine's lock; call() also without it, and in a handler of a signal. Nothing blocks.
// A child of fork has an engine of its own, and so its own orders.

#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "core/engine/service/summons.hpp"

namespace rsock::engine {

class Orders {
 public:
  // Flows, by number.
  struct Lists {
    std::set<uint64_t> ask_owner;      // whose is its peer's socket? A peer may ask for that without end
    std::vector<uint64_t> seek;        // accepted and used: its peer is to be found
    std::vector<uint64_t> expect;      // connected: its rendezvous point is to be opened
    std::vector<uint64_t> again;       // it had a lane: another is looked for, after a while
    std::vector<uint64_t> not_wanted;  // it waits for none any more
    std::vector<uint64_t> in_cutover;  // which must not last
    std::vector<uint64_t> corked;      // bytes wait for more, not for long
    std::vector<uint64_t> unsent;      // the kernel had no memory for what has to go by TCP
  };

  void ask_owner(uint64_t flow) {
    if (lists_.ask_owner.insert(flow).second) wake();
  }
  void seek(uint64_t flow) { add(lists_.seek, flow); }
  void expect(uint64_t flow) { add(lists_.expect, flow); }
  void again(uint64_t flow) { add(lists_.again, flow); }
  void not_wanted(uint64_t flow) { add(lists_.not_wanted, flow); }
  void in_cutover(uint64_t flow) { add(lists_.in_cutover, flow); }
  void corked(uint64_t flow) { add(lists_.corked, flow); }
  void unsent(uint64_t flow) { add(lists_.unsent, flow); }

  // The thread has a turn soon. It is called once until it has heard.
  void wake() {
    if (!std::exchange(called_, true)) summons_.call();
  }
  void call() { summons_.call(); }

  // ---- the service's thread
  Summons& summons() { return summons_; }
  void heard() {
    summons_.answer();
    called_ = false;
  }
  Lists take() { return std::exchange(lists_, {}); }

 private:
  void add(std::vector<uint64_t>& list, uint64_t flow) { list.push_back(flow), wake(); }

  Summons summons_;
  bool called_ = false;
  Lists lists_;
};

}  // namespace rsock::engine
