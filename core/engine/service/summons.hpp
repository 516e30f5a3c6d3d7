#pragma once
// How the service's thread is called: by an eventfd among what it waits for, and while it has no descriptors
// by a futex.
//
// Handlers of signals call, too, without the lock. So the eventfd is closed only when nobody is about to
// write to it: its number may be another file's at once.

#include <atomic>
#include <cstdint>

#include "core/base/clock.hpp"
#include "core/base/unique_fd.hpp"

namespace rsock::engine {

class Summons {
 public:
  // Any thread, also in a handler.
  void call();

  // ---- the service's thread
  // `epoll` says `tag` of a call from now on.
  Status open(int epoll, uint64_t tag);
  // False if somebody is about to write to it and does not come to that: then it stays.
  bool close();
  void answer();
  // Closed: sleeps until a call comes, or for a while. Whether one came since the last time.
  bool doze(Duration most);

 private:
  UniqueFd bell_;
  std::atomic<int> number_{-1};
  std::atomic<uint32_t> begun_{0}, ended_{0};  // calls
  uint32_t heard_ = 0;                         // of those that had begun
};

}  // namespace rsock::engine
