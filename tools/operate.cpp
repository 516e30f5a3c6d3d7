#include "tools/operate.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

namespace rsock::tools {
namespace {

using Clock = std::chrono::steady_clock;
using wire::ControlAnswer;
using wire::Order;

/// A process that was told something, and what it says.
struct Told {
  const Process* process;
  std::optional<ControlAnswer> answer;
  std::uint32_t moved = 0;
  Clock::time_point done{};
};

std::uint32_t off_tcp(const wire::FlowCounts& flows) { return flows.rdma + flows.shm + flows.entering + flows.leaving; }

std::string_view s(std::uint32_t count) { return count == 1 ? "" : "s"; }

/// All are told before any is waited for.
std::vector<Told> tell(const std::vector<Process>& processes, Order order, std::uint16_t port) {
  std::vector<Told> all;
  for (const auto& process : processes) {
    auto answer = process.ask(order, port);
    const auto moved = answer ? answer->moved : 0;
    all.push_back({&process, std::move(answer), moved, Clock::now()});
  }
  return all;
}

/// Until `settled` is true of what each says of its flows, or the time is over.
void await(std::vector<Told>& all, const OperateArguments& arguments,
           const std::function<bool(const wire::FlowCounts&)>& settled) {
  constexpr auto kFirstPause = std::chrono::microseconds(500), kLongestPause = std::chrono::microseconds(20000);
  const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(arguments.timeout));
  auto pause = kFirstPause;
  for (;;) {
    bool waiting = false;
    for (auto& told : all) {
      if (!told.answer || told.answer->refused || settled(told.answer->flows)) continue;
      told.answer = told.process->ask(Order::tell, arguments.port);
      told.done = Clock::now();
      waiting = waiting || (told.answer && !settled(told.answer->flows));
    }
    if (!waiting || Clock::now() >= deadline) return;
    ::usleep(static_cast<useconds_t>(pause.count()));
    pause = std::min(2 * pause, kLongestPause);
  }
}

ExitStatus nobody(const Selection& selection) {
  std::string who = "no process with librsock active";
  if (selection.pid) who += fmt::format(" has the id {}", *selection.pid);
  if (!selection.program.empty()) who += fmt::format(" is called {}", selection.program);
  fmt::print(stderr, "rsock: {} here, or it is not yours\n", who);
  return kUsage;
}

/// True if it answered.
bool answered(const Told& told) {
  if (!told.answer) fmt::print(stderr, "rsock: {} does not answer\n", told.process->name());
  return told.answer.has_value();
}

std::string reasons(const ControlAnswer& answer) {
  std::string text;
  for (const auto& [reason, flows] : answer.stay) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", reason, flows);
  return text;
}

ExitStatus to_tcp(const std::vector<Process>& processes, const OperateArguments& arguments) {
  const auto begin = Clock::now();
  auto all = tell(processes, Order::leave, arguments.port);
  await(all, arguments, [](const auto& flows) { return off_tcp(flows) == 0; });
  auto status = kSuccess;
  for (const auto& told : all) {
    if (!answered(told)) {
      status = kFailure;
      continue;
    }
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(told.done - begin).count();
    const auto& flows = told.answer->flows;
    const auto left = off_tcp(flows);
    const auto moved = told.moved - std::min(told.moved, left);
    fmt::print("{}: {} flow{} left their lanes in {} ms, {} on TCP\n", told.process->name(), moved, s(moved), took, flows.tcp);
    if (left == 0) continue;
    fmt::print(stderr, "rsock: {}: {} flow{} did not come back to TCP within {} s: {} in a lane, {} entering, {} wait for the peer\n",
               told.process->name(), left, s(left), arguments.timeout, flows.rdma + flows.shm, flows.entering, flows.leaving);
    status = kFailure;
  }
  return status;
}

ExitStatus to_lanes(const std::vector<Process>& processes, const OperateArguments& arguments) {
  auto status = kSuccess;
  for (const auto& told : tell(processes, Order::enter, arguments.port)) {
    if (!answered(told)) {
      status = kFailure;
      continue;
    }
    const auto why = reasons(*told.answer);
    fmt::print("{}: flows may enter a lane, {} will{}\n", told.process->name(), told.moved,
               why.empty() ? "" : "; these stay on TCP: " + why);
  }
  return status;
}

}  // namespace

ExitStatus lane(const OperateArguments& arguments) {
  const auto processes = Process::find(arguments.selection);
  if (processes.empty()) return nobody(arguments.selection);
  return arguments.lane == "tcp" ? to_tcp(processes, arguments) : to_lanes(processes, arguments);
}

ExitStatus reload(const OperateArguments& arguments) {
  const auto processes = Process::find(arguments.selection);
  if (processes.empty()) return nobody(arguments.selection);
  auto all = tell(processes, Order::reload, 0);
  await(all, arguments, [](const auto& flows) { return flows.leaving == 0; });
  auto status = kSuccess;
  for (const auto& told : all) {
    if (!answered(told)) {
      status = kFailure;
    } else if (told.answer->refused) {
      fmt::print(stderr, "{}rsock: {} keeps its rules\n", told.answer->complaint, told.process->name());
      status = kFailure;
    } else {
      const auto& flows = told.answer->flows;
      fmt::print("{}: new rules, {} flow{} selected no more\n", told.process->name(), told.moved, s(told.moved));
      if (flows.leaving == 0) continue;
      fmt::print(stderr, "rsock: {}: {} flow{} did not come back to TCP within {} s\n", told.process->name(), flows.leaving,
                 s(flows.leaving), arguments.timeout);
      status = kFailure;
    }
  }
  return status;
}

ExitStatus list(const OperateArguments& arguments) {
  const auto processes = Process::find(arguments.selection);
  if (processes.empty()) return nobody(arguments.selection);
  fmt::print("{:>8} {:<20} {:>7} {:>7} {:>7} {:>7} {:>7}  {}\n", "pid", "program", "rdma", "shm", "tcp", "enter", "leave", "why on tcp");
  auto status = kSuccess;
  for (const auto& told : tell(processes, Order::tell, arguments.port)) {
    if (!answered(told)) {
      status = kFailure;
      continue;
    }
    const auto& flows = told.answer->flows;
    const auto name = told.process->name();
    fmt::print("{:>8} {:<20} {:>7} {:>7} {:>7} {:>7} {:>7}  {}\n", told.process->pid(), name.substr(0, name.rfind('[')), flows.rdma,
               flows.shm, flows.tcp, flows.entering, flows.leaving, reasons(*told.answer));
  }
  return status;
}

}  // namespace rsock::tools
