#pragma once
// Notices when the service's thread is the only one left in the process.
//
// The kernel keeps a process as long as it has a thread, and libc calls exit() in the last one that ends; the service's
// counts with both. Nothing tells a thread of the ends of the others, so this is what is known, and how:
//
//   main ends    by libc's hands (pthread_exit, pthread_cancel) or by syscall(SYS_exit): the shell says so, ending().
//                By a system call of its own: it is looked for, after 100 ms at first, then twice as long each time, a
//                minute at most; the service's being at work begins that anew. A process at rest has the library's
//                thread wake once a minute.
//   others end   while main lives that does not matter. Afterwards one of them is watched until it ends, then another:
//   by a pidfd of the
//                thread where the kernel has them (6.9), else by looking, as above.
//
// The service's thread only, but for ending().

#include <sys/types.h>

#include <atomic>
#include <optional>

#include "core/base/clock.hpp"
#include "core/base/unique_fd.hpp"

namespace rsock::engine {

class LastThread {
 public:
  // `tag`: what the epoll set says when the thread that is watched has ended.
  explicit LastThread(uint64_t tag);
  // By that epoll set from now on; by none, without a descriptor of its own, if it is -1.
  void watch_by(int epoll);

  // The calling thread is about to end, with this status as of _exit. Also from a handler of a signal. True if the
  // service has to be woken.
  bool ending(int status);
  void watched_ended() { due_ = now(), watching_ = false; }
  // After each turn of the service: whether its thread is alone.
  bool alone();
  // When it wants to be asked next; nothing if not before watched_ended().
  std::optional<Time> due() const { return watching_ ? std::nullopt : std::optional(due_); }

  // How the last one ended: by libc's hands, as all before it, so that libc would have called exit(0); else the status
  // that it gave.
  bool ended_in_libc() const;
  int status() const;

 private:
  bool watch(pid_t thread);

  int epoll_ = -1;
  const uint64_t tag_;
  const unsigned* const libcs_count_;  // of threads; nullptr: not known
  UniqueFd watched_;                   // a pidfd
  bool watching_ = false;
  pid_t last_ = 0;  // that was seen alive when main had ended, or was about to
  std::atomic<bool> hint_{false}, main_ends_{false};
  std::atomic<uint64_t> said_{0};  // by ending(): the thread above, the status below
  Duration pause_;
  Time due_;
};

}  // namespace rsock::engine
