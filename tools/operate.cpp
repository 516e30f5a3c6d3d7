#include "tools/operate.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "tools/configured.hpp"
#include "tools/loaded.hpp"

namespace rsock::tools {
namespace {

using Clock = std::chrono::steady_clock;
using wire::ControlAnswer;
using wire::Order;

/// A process that was told something, and what it says.
struct Told {
  Process* process;
  std::optional<ControlAnswer> answer;
  std::uint32_t moved = 0;
  Clock::time_point done{};
};

std::string_view s(std::uint32_t count) { return count == 1 ? "" : "s"; }

/// All are told before any is waited for.
std::vector<Told> tell(std::vector<Process>& processes, Order order, std::uint16_t port) {
  std::vector<Process*> asked;
  for (auto& process : processes) asked.push_back(&process);
  auto answers = Process::ask(asked, order, port);
  std::vector<Told> all;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const auto moved = answers[i] ? answers[i]->moved : 0;
    all.push_back({asked[i], std::move(answers[i]), moved, Clock::now()});
  }
  return all;
}

/// Until `settled` is true of what each says of its flows, or the time is over.
void await(std::vector<Told>& all, const OperateArguments& arguments,
           const std::function<bool(const wire::FlowCounts&)>& settled) {
  constexpr auto kFirstPause = std::chrono::microseconds(500), kLongestPause = std::chrono::microseconds(20000);
  const auto deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(arguments.timeout));
  auto pause = kFirstPause;
  for (;;) {
    std::vector<Process*> asked;
    std::vector<Told*> whose;
    for (auto& told : all) {
      if (!told.answer || told.answer->refused || settled(told.answer->flows)) continue;
      asked.push_back(told.process);
      whose.push_back(&told);
    }
    auto answers = Process::ask(asked, Order::tell, arguments.port);
    bool waiting = false;
    for (std::size_t i = 0; i < asked.size(); ++i) {
      whose[i]->answer = std::move(answers[i]);
      whose[i]->done = Clock::now();
      waiting = waiting || (whose[i]->answer && !settled(whose[i]->answer->flows));
    }
    if (!waiting || Clock::now() >= deadline) return;
    ::usleep(static_cast<useconds_t>(pause.count()));
    pause = std::min(2 * pause, kLongestPause);
  }
}

/// True if it answered.
bool answered(const Told& told) {
  if (!told.answer) silent(*told.process);
  return told.answer.has_value();
}

std::string reasons_of(const ControlAnswer& answer) {
  std::string text;
  for (const auto& [reason, flows] : answer.stay)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", reason, flows);
  return on_one_line(std::move(text));
}

ExitStatus to_tcp(std::vector<Process>& processes, const OperateArguments& arguments) {
  const auto begin = Clock::now();
  auto all = tell(processes, Order::leave, arguments.port);
  await(all, arguments, [](const auto& flows) { return flows.off_tcp() == 0; });
  auto status = kSuccess;
  for (const auto& told : all) {
    if (!answered(told)) {
      status = kFailure;
      continue;
    }
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(told.done - begin).count();
    const auto& flows = told.answer->flows;
    const auto left = flows.off_tcp();
    const auto moved = told.moved - std::min(told.moved, left);
    fmt::print("{}: {} flow{} left {} lane{} in {} ms, {} on TCP\n", told.process->name(), moved, s(moved),
               moved == 1 ? "its" : "their", s(moved), took, flows.tcp);
    if (left == 0) continue;
    fmt::print(
        stderr,
        "rsock: {}: {} flow{} did not come back to TCP within {} s: {} in a lane, {} entering, {} wait for the peer\n",
        told.process->name(), left, s(left), arguments.timeout, flows.rdma + flows.shm, flows.entering, flows.leaving);
    status = kFailure;
  }
  return status;
}

ExitStatus to_lanes(std::vector<Process>& processes, const OperateArguments& arguments) {
  auto status = kSuccess;
  for (const auto& told : tell(processes, Order::enter, arguments.port)) {
    if (!answered(told)) {
      status = kFailure;
      continue;
    }
    const auto why = reasons_of(*told.answer);
    fmt::print("{}: flows may enter a lane, {} will{}\n", told.process->name(), told.moved,
               why.empty() ? "" : "; these stay on TCP: " + why);
  }
  return status;
}

}  // namespace

ExitStatus nobody(const Selection& selection) {
  std::string who = "no process with librsock active";
  if (selection.pid) who += fmt::format(" has the id {}", *selection.pid);
  if (!selection.program.empty()) who += fmt::format(" is called {}", selection.program);
  fmt::print(stderr, "rsock: {} here, or it is not yours\n", who);
  return kUsage;
}

ExitStatus silent(const Process& process) {
  fmt::print(stderr, "rsock: {} does not answer\n", process.name());
  return kFailure;
}

ExitStatus lane(const OperateArguments& arguments) {
  auto processes = Process::find(arguments.selection);
  if (processes.empty()) return nobody(arguments.selection);
  return arguments.lane == "tcp" ? to_tcp(processes, arguments) : to_lanes(processes, arguments);
}

ExitStatus reload(const OperateArguments& arguments) {
  auto processes = Process::find(arguments.selection);
  if (processes.empty()) return nobody(arguments.selection);
  auto all = tell(processes, Order::reload, 0);
  await(all, arguments, [](const auto& flows) { return flows.leaving == 0; });
  auto status = kSuccess;
  for (const auto& told : all) {
    if (!answered(told)) {
      status = kFailure;
    } else if (told.answer->refused) {
      fmt::print(stderr, "{}rsock: {} keeps its rules\n", printable(told.answer->complaint), told.process->name());
      status = kFailure;
    } else {
      const auto& flows = told.answer->flows;
      fmt::print("{}: new rules, {} flow{} selected no more\n", told.process->name(), told.moved, s(told.moved));
      if (flows.leaving == 0) continue;
      fmt::print(stderr, "rsock: {}: {} flow{} did not come back to TCP within {} s\n", told.process->name(),
                 flows.leaving, s(flows.leaving), arguments.timeout);
      status = kFailure;
    }
  }
  return status;
}

ExitStatus list(const OperateArguments& arguments) {
  auto processes = Process::find(arguments.selection);
  const auto waiting = only_loaded(arguments.selection, processes);
  const auto lacking = unserved(arguments.selection);
  if (processes.empty() && waiting.empty() && lacking.empty()) return nobody(arguments.selection);
  fmt::print("{:>8} {:<20} {:>7} {:>7} {:>7} {:>7} {:>7}  {}\n", "pid", "program", "rdma", "shm", "tcp", "enter",
             "leave", "why on tcp");
  auto status = kSuccess;
  for (const auto& told : tell(processes, Order::tell, arguments.port)) {
    if (!answered(told)) {
      status = kFailure;
      continue;
    }
    const auto& flows = told.answer->flows;
    const auto name = told.process->name();
    fmt::print("{:>8} {:<20} {:>7} {:>7} {:>7} {:>7} {:>7}  {}\n", told.process->pid(), name.substr(0, name.rfind('[')),
               flows.rdma, flows.shm, flows.tcp, flows.entering, flows.leaving, reasons_of(*told.answer));
  }
  const auto print_without = [](pid_t pid, const std::string& program, const std::string& why) {
    fmt::print("{:>8} {:<20} {:>7} {:>7} {:>7} {:>7} {:>7}  {}\n", pid, program, "-", "-", "-", "-", "-",
               on_one_line(why));
  };
  for (const auto& [pid, program] : waiting) {
    const auto mistake = mistake_of(pid);
    print_without(pid, program, mistake.empty() ? "no control socket" : "mistake in its configuration: " + mistake);
  }
  for (const auto& [pid, program, why] : lacking) print_without(pid, program, why);
  return status;
}

void tell_of_mistakes(const Selection& selection, const std::vector<Process>& answering) {
  for (const auto& [pid, program] : only_loaded(selection, answering))
    if (const auto mistake = mistake_of(pid); !mistake.empty())
      fmt::print(stderr, "rsock: {}[{}] has a mistake in its configuration, and selects nothing: {}\n", program, pid,
                 on_one_line(mistake));
}

}  // namespace rsock::tools
