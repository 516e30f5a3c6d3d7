#pragma once
// While one lives, its thread has all signals blocked but libc's own two. A thread that it starts keeps them
// blocked. By number: libc's functions for it are taken over.

#include <signal.h>
#include <sys/syscall.h>

#include <cstdint>

#include "core/base/system_call.hpp"

namespace rsock {

inline void set_signal_mask(uint64_t mask, uint64_t* before = nullptr) {
  system_call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, before, sizeof mask);
}

class SignalsBlocked {
 public:
  SignalsBlocked() { set_signal_mask(~(uint64_t{3} << 31), &before_); }
  ~SignalsBlocked() { set_signal_mask(before_); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  uint64_t before() const { return before_; }

 private:
  uint64_t before_ = 0;
};

}  // namespace rsock
