#pragma once
// The lowest free number of a descriptor is the program's. What the library makes has that number for a moment, before
// it is moved out of the way: whoever makes a descriptor for the program meanwhile waits until it is over.
//
// Any thread, without a lock. A child of fork begins anew.

#include <atomic>
#include <cstdint>

namespace rsock::numbers {

// How many are at it. From kForsaken on nobody waits for them any more.
inline constexpr uint32_t kForsaken = uint32_t{1} << 31;
inline constinit std::atomic<uint32_t> taken{0};

void take();
void give_back();
void forked();
inline bool are_taken() {
  const auto by = taken.load(std::memory_order_relaxed);
  return by != 0 && by < kForsaken;
}
// Returns when all are given back, or after a second: then nobody waits until they are.
void await();

// Threads of the library's own take them: one of the program's would have its own signal handlers wait for it.
class Taken {
 public:
  Taken();
  ~Taken();
  Taken(const Taken&) = delete;
  Taken& operator=(const Taken&) = delete;

 private:
  const bool takes_;
};

}  // namespace rsock::numbers
