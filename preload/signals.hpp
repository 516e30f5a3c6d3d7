#pragma once
// The program's handlers of signals, and what stands in for them.

namespace rsock::preload {

// For the handlers that were installed before the library started. Once.
void stand_in_for_handlers();
// In a child of fork.
void forget_other_threads_handlers();
// While one lives, a signal that the program ignores, and for which there is a stand-in all the same, is
// ignored by the kernel: a program that is started inherits that.
class Starting {
 public:
  Starting();
  ~Starting();
  Starting(const Starting&) = delete;
  Starting& operator=(const Starting&) = delete;
};

}  // namespace rsock::preload
