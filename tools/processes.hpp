#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "core/control/caller.hpp"

namespace rsock::tools {

/// Which processes a command is meant for; none named: all.
struct Selection {
  std::optional<pid_t> pid;
  std::string program;  ///< fnmatch(3) pattern on the program's name; empty: every program
};

/// A process in which librsock is active and that may be commanded.
class Process {
 public:
  /// All in this network namespace; one that is stopped is among them, with an unknown name.
  static std::vector<Process> find(const Selection& selection);

  /// Nothing when it does not answer in time, or not in order.
  std::optional<wire::ControlAnswer> ask(wire::Order order, std::uint16_t port = 0) const;

  /// "redis-server[4711]", printable.
  std::string name() const;
  const std::string& program() const { return program_; }
  pid_t pid() const { return pid_; }

 private:
  explicit Process(control::Caller&& caller) : caller_(std::move(caller)), pid_(caller_.process()) {}

  control::Caller caller_;
  pid_t pid_;
  std::string program_ = "?";
};

}  // namespace rsock::tools
