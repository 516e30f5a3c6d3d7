#include "tools/processes.hpp"

#include <fmt/format.h>
#include <fnmatch.h>
#include <sys/resource.h>

#include <algorithm>
#include <cctype>
#include <iterator>
#include <utility>

#include "tools/loaded.hpp"

namespace rsock::tools {
namespace {

constexpr auto kDoorPatience = std::chrono::milliseconds(1000);  // where many others knock
constexpr control::Caller::Patience kPatience{std::chrono::milliseconds(1000), std::chrono::milliseconds(3000)};
constexpr auto kReading = std::chrono::seconds(30);  // all pages

}  // namespace

std::string printable(std::string text) {
  for (char& c : text)
    if (c != '\n' && !std::isprint(static_cast<unsigned char>(c))) c = '?';
  return text;
}

std::string on_one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', '?');
  return printable(std::move(text));
}

std::vector<std::optional<wire::ControlAnswer>> Process::ask(std::span<Process* const> processes, wire::Order order,
                                                             std::uint16_t port) {
  std::vector<control::Caller*> callers;
  for (auto* process : processes) callers.push_back(&process->caller_);
  return control::Caller::ask_all(callers, {order, port}, kPatience);
}

namespace {

/// Reads pages until there is no more of them. A process may go on for ever: it is read so far.
class Reading {
 public:
  Reading(wire::Order order, std::uint16_t port) : request{order, port} {}
  bool goes_on() const { return more_ && pages_ < kMostPages; }
  void take(const std::optional<wire::ControlPage>& page) {
    more_ = page && page->next > request.number;
    told.complete = page && page->next == 0;
    if (!page) return;
    ++pages_;
    request.number = page->next;
    std::string_view text = page->text;
    for (std::size_t end; (end = text.find('\n')) != text.npos; text.remove_prefix(end + 1))
      told.lines.emplace_back(text.substr(0, end));
  }

  wire::ControlRequest request;
  Process::Told told;

 private:
  static constexpr int kMostPages = 8192;
  bool more_ = true;
  int pages_ = 0;
};

}  // namespace

std::vector<Process::Told> Process::read(std::span<Process> processes, wire::Order order, std::uint16_t port) {
  std::vector<Reading> readings(processes.size(), Reading(order, port));
  const auto deadline = std::chrono::steady_clock::now() + kReading;
  for (;;) {
    std::vector<control::Caller*> callers;
    std::vector<wire::ControlRequest> requests;
    std::vector<Reading*> whose;
    for (std::size_t i = 0; i < processes.size(); ++i) {
      if (!readings[i].goes_on()) continue;
      callers.push_back(&processes[i].caller_);
      requests.push_back(readings[i].request);
      whose.push_back(&readings[i]);
    }
    if (whose.empty() || std::chrono::steady_clock::now() >= deadline) break;
    const auto pages = control::Caller::ask_pages(callers, requests, kPatience);
    for (std::size_t i = 0; i < whose.size(); ++i) whose[i]->take(pages[i]);
  }
  std::vector<Told> all;
  for (auto& reading : readings) all.push_back(std::move(reading.told));
  return all;
}

std::optional<control::Caller::Handed> Process::capture(std::uint16_t port, std::uint64_t size) {
  return caller_.ask_for_memory({wire::Order::capture, port, size}, kPatience.with_all);
}

std::string Process::name() const { return fmt::format("{}[{}]", printable(program_), pid_); }

namespace {

// Each process costs a descriptor.
void raise_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

bool Selection::fits(const std::string& called) const {
  return program.empty() || ::fnmatch(program.c_str(), called.c_str(), 0) == 0;
}

std::vector<Process> Process::find(const Selection& selection) {
  raise_limit();
  std::vector<std::uint64_t> crowded_sockets;
  auto called = control::Caller::call_all(kDoorPatience, &crowded_sockets);
  if (selection.pid)
    std::erase_if(called, [&](const auto& one) { return one.process() != 0 && one.process() != *selection.pid; });
  if (selection.which) std::erase_if(called, [&](const auto& one) { return !selection.which(one.process()); });
  std::vector<control::Caller*> callers;
  for (auto& one : called) callers.push_back(&one);
  const auto told = control::Caller::ask_all(callers, {wire::Order::tell}, kPatience);
  std::vector<Process> found;
  for (std::size_t i = 0; i < called.size(); ++i) {
    // It does not hear us, has ended, or is something else: anybody may listen at such a name, and be silent for ever.
    // One of ours that is silent may be stopped.
    if (!told[i] && (called[i].hung_up() || !(called[i].likely() || has_library(called[i].process())))) continue;
    Process process(std::move(called[i]));
    if (told[i]) {
      process.program_ = told[i]->program.substr(0, told[i]->program.find('\n'));
      // The process ids of another namespace are not known here.
      if (process.pid_ == 0) process.pid_ = static_cast<pid_t>(told[i]->process);
    }
    if (selection.pid && process.pid_ != *selection.pid) continue;
    if (!selection.fits(process.program_)) continue;
    found.push_back(std::move(process));
  }
  std::ranges::move(crowded(selection, found, crowded_sockets), std::back_inserter(found));
  return found;
}

/// Those that are stopped, or busy, while others have called already: whose socket it is only their descriptors tell.
std::vector<Process> Process::crowded(const Selection& selection, const std::vector<Process>& found,
                                      const std::vector<std::uint64_t>& sockets) {
  std::vector<Process> all;
  if (sockets.empty()) return all;
  for (const auto& one : only_loaded(selection, found)) {
    if ((selection.which && !selection.which(one.pid)) || !holds_any(one.pid, sockets)) continue;
    Process process(control::Caller::of_silent(one.pid));
    process.program_ = one.program;
    all.push_back(std::move(process));
  }
  return all;
}

}  // namespace rsock::tools
