#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/control/caller.hpp"

namespace rsock::tools {

/// What another process says may be anything: here without what a terminal obeys, but for the ends of lines.
std::string printable(std::string text);
/// The same for a text that has to be one line.
std::string on_one_line(std::string text);

/// Which processes a command is meant for; none named: all.
struct Selection {
  std::optional<pid_t> pid = {};
  std::function<bool(pid_t)> which = {};  ///< those whose id it accepts; none: all
  std::string program = {};               ///< fnmatch(3) pattern on the program's name; empty: every program

  bool fits(const std::string& called) const;  ///< by `program` alone
};

/// A process in which librsock is active and that may be commanded.
class Process {
 public:
  /// All in this network namespace; one that is stopped is among them, with an unknown name. Whoever does not answer,
  /// and has neither the library nor a thread of its name, is not one.
  static std::vector<Process> find(const Selection& selection);

  /// All at once, with one time limit. Nothing from one that does not answer in time, or not in order.
  static std::vector<std::optional<wire::ControlAnswer>> ask(std::span<Process* const> processes, wire::Order order,
                                                             std::uint16_t port = 0);

  struct Told {
    std::vector<std::string> lines;
    bool complete = false;  ///< it answered to the end
  };
  /// What is told a page at a time, of all at once; in lines, of which nothing is known.
  static std::vector<Told> read(std::span<Process> processes, wire::Order order, std::uint16_t port = 0);

  /// The bytes that go through its lanes: a ring of `size` bytes for them, or why not. Nothing if it does not
  /// answer. As long as this object is there the process puts them into it.
  std::optional<control::Caller::Handed> capture(std::uint16_t port, std::uint64_t size);
  bool gone() const { return caller_.hung_up(); }

  /// "redis-server[4711]", printable.
  std::string name() const;
  std::string program() const { return printable(program_); }
  pid_t pid() const { return pid_; }

 private:
  explicit Process(control::Caller&& caller) : caller_(std::move(caller)), pid_(caller_.process()) {}
  static std::vector<Process> crowded(const Selection& selection, const std::vector<Process>& found,
                                      const std::vector<std::uint64_t>& sockets);

  control::Caller caller_;
  pid_t pid_;
  std::string program_ = "?";
};

}  // namespace rsock::tools
