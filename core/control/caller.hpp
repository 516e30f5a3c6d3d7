#pragma once
// The other side of a control socket (core/engine/control.hpp): how an operator's command reaches the processes in which librsock is
// active, and how a process that took a descriptor of another one's asks it to let go of the flow.
//
// Any thread, without the engine's lock. Blocks for as long as it is told.

#include <sys/types.h>

#include <optional>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/unique_fd.hpp"
#include "core/wire/control.hpp"

namespace rsock::control {

class Caller {
 public:
  // With every process of this network namespace that may be commanded: of this user, or of root, by what the kernel says of whoever
  // listens; for root of any user. `patience` with each.
  static std::vector<Caller> call_all(Duration patience);

  // 0 if it is in another namespace of processes.
  pid_t process() const { return process_; }
  // Nothing when it does not answer in time, or not in order.
  std::optional<wire::ControlAnswer> ask(const wire::ControlRequest& request, Duration patience) const;
  bool hung_up() const;

 private:
  Caller(UniqueFd fd, pid_t process) : fd_(std::move(fd)), process_(process) {}
  static std::optional<Caller> call(const char* name, Duration patience);

  UniqueFd fd_;
  pid_t process_;
};

}  // namespace rsock::control
