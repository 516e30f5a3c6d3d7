#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "core/wire/control.hpp"

namespace rsock::tools {

/// Which processes a command is meant for; none named: all.
struct Selection {
  std::optional<pid_t> pid;
  std::string program;  ///< fnmatch(3) pattern on the program's name; empty: every program
};

/// A process in which librsock is active, on the other side of its control socket (core/wire/control.hpp). Of this user, or of
/// root, by what the kernel says of whoever listens; for root of any user.
class Process {
 public:
  /// All in this network namespace that may be commanded; one that is stopped is among them, with an unknown name.
  static std::vector<Process> find(const Selection& selection);

  Process(Process&& other) noexcept;
  Process& operator=(Process&&) = delete;
  ~Process();

  /// Nothing when it does not answer in time, or not in order.
  std::optional<wire::ControlAnswer> ask(wire::Order order, std::uint16_t port = 0) const;

  /// "redis-server[4711]", printable.
  std::string name() const;
  const std::string& program() const { return program_; }
  pid_t pid() const { return pid_; }

 private:
  Process(int fd, pid_t pid) : fd_(fd), pid_(pid) {}
  static std::optional<Process> connect(const std::string& socket);
  bool hung_up() const;

  int fd_;
  pid_t pid_;
  std::string program_ = "?";
};

}  // namespace rsock::tools
