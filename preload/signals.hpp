#pragma once
// The program's handlers of signals, and what stands in for them.

namespace rsock::preload {

// For the handlers that were installed before the library started. Once.
void stand_in_for_handlers();
// In a child of fork.
void forget_other_threads_handlers();

}  // namespace rsock::preload
