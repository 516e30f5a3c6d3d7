#pragma once
// What the service's thread sleeps on: an epoll set, whose members say what they are. Without descriptors it
// is closed, and the thread hears of calls alone.
//
// Members come and go in any thread, under the engine's lock or the service's at_work; it is opened, closed
// and slept on by the service's thread, closed under the engine's lock. Only sleep() blocks. A child of fork
// closes its copy.

#include <sys/epoll.h>

#include <cstdint>
#include <span>

#include "core/base/duration.hpp"
#include "core/base/unique_fd.hpp"

namespace rsock::engine {

class Summons;

class Events {
 public:
  enum class Kind : uint8_t {
    bell,     // somebody calls
    dialler,  // of a lane
    shadow,   // the socket of a flow, which left TCP
    source,   // of completions, by the engine's number
    control,  // the control socket, or one who calls there
    thread,   // that is watched has ended
    child,    // calls by its line
  };
  // The kind above, a number below it.
  static constexpr uint64_t tag(Kind kind, uint64_t number = 0) {
    return static_cast<uint64_t>(kind) << kKindShift | number;
  }
  static constexpr Kind kind_of(uint64_t tag) { return static_cast<Kind>(tag >> kKindShift); }
  static constexpr uint64_t number_of(uint64_t tag) { return tag & ((1ull << kKindShift) - 1); }

  // With the calls of `summons`. Errors as of epoll_create(2) and eventfd(2): then it stays closed.
  Status open(Summons& summons);
  void close() { set_.reset(); }
  bool is_open() const { return static_cast<bool>(set_); }
  int set() const { return set_.get(); }

  // `events`, and errors, as of epoll_ctl(2).
  Status add(int fd, uint32_t events, uint64_t tag) { return control(EPOLL_CTL_ADD, fd, events, tag); }
  Status change(int fd, uint32_t events, uint64_t tag) { return control(EPOLL_CTL_MOD, fd, events, tag); }
  void remove(int fd) { (void)control(EPOLL_CTL_DEL, fd, 0, 0); }

  // How many events there are, after `most` or before; Duration::max() is for ever. Closed, it waits for a
  // call by `summons`. Errors as of epoll_wait(2).
  Result<int> sleep(std::span<epoll_event> events, Duration most, Summons& summons) const;

 private:
  static constexpr int kKindShift = 56;
  Status control(int operation, int fd, uint32_t events, uint64_t tag);

  UniqueFd set_;
};

}  // namespace rsock::engine
