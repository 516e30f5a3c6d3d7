#include "tools/processes.hpp"

#include <fmt/format.h>
#include <fnmatch.h>

#include <cctype>
#include <utility>

namespace rsock::tools {
namespace {

constexpr auto kPatience = std::chrono::milliseconds(3000);  // with a process that is to answer

/// Its program may call itself whatever it likes.
std::string printable(std::string text) {
  for (char& c : text)
    if (!std::isprint(static_cast<unsigned char>(c))) c = '?';
  return text;
}

}  // namespace

std::optional<wire::ControlAnswer> Process::ask(wire::Order order, std::uint16_t port) const {
  return caller_.ask({order, port}, kPatience);
}

std::string Process::name() const { return fmt::format("{}[{}]", printable(program_), pid_); }

std::vector<Process> Process::find(const Selection& selection) {
  std::vector<Process> found;
  for (auto& caller : control::Caller::call_all(kPatience)) {
    Process process(std::move(caller));
    if (selection.pid && process.pid_ != *selection.pid) continue;
    if (const auto told = process.ask(wire::Order::tell)) {
      process.program_ = told->program;
      // The process ids of another namespace are not known here.
      if (process.pid_ == 0) process.pid_ = static_cast<pid_t>(told->process);
    } else if (process.caller_.hung_up()) {
      continue;  // it does not hear us, or has ended
    }
    if (!selection.program.empty() && ::fnmatch(selection.program.c_str(), process.program_.c_str(), 0) != 0) continue;
    found.push_back(std::move(process));
  }
  return found;
}

}  // namespace rsock::tools
