#pragma once
// The library starts in its constructor, or in the first call that could bring it a flow if that comes
// earlier, from the constructor of another library.

#include <atomic>

namespace rsock::preload {

inline constinit std::atomic<bool> started{false};

// Any thread. Does its work once; a call while that is under way returns at once, and its descriptor stays
// with libc.
void start();

inline void ensure_started() {
  if (!started.load(std::memory_order_acquire)) [[unlikely]]
    start();
}

}  // namespace rsock::preload
