#include "tools/evidence.hpp"

#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tools/explain.hpp"
#include "tools/processes.hpp"

namespace rsock::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kVariable = "RSOCK_STATS_FILE";
constexpr const char* kUnsettled = "on TCP as yet, not used or looking for a lane";

std::uintmax_t size_of(const fs::path& file) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  return error ? 0 : size;
}

fs::path new_folder() {
  auto name = (fs::temp_directory_path() / "rsock-XXXXXX").string();
  return ::mkdtemp(name.data()) ? fs::path(name) : fs::path();
}

}  // namespace

// /proc/PID/stat: pid (name) state ppid …; the name may hold anything.
pid_t parent_of(pid_t process) {
  std::ifstream file(fmt::format("/proc/{}/stat", process));
  std::string line;
  std::getline(file, line, '\0');
  const auto name = line.rfind(')');
  pid_t parent = 0;
  if (name != line.npos && name + 4 < line.size()) parent = std::atoi(line.c_str() + name + 4);
  return parent;
}

Evidence::Evidence(std::string lane, pid_t ancestor) : lane_(std::move(lane)), ancestor_(ancestor) {
  if (const char* given = ::getenv(kVariable); given && *given) {
    statistics_ = given;
    begin_ = size_of(statistics_);
    return;
  }
  own_folder_ = new_folder();
  if (own_folder_.empty()) return;
  statistics_ = own_folder_ / "statistics";
  ::setenv(kVariable, statistics_.c_str(), 1);
}

Evidence::~Evidence() {
  std::error_code error;
  if (!own_folder_.empty()) fs::remove_all(own_folder_, error);
}

bool Evidence::is_descendant(pid_t process) const {
  constexpr int kDeepest = 1000;  // ids of processes that end are used again
  for (int depth = 0; process > 1 && depth < kDeepest; ++depth)
    if ((process = parent_of(process)) == ancestor_) return true;
  return false;
}

bool Evidence::look() {
  auto processes = Process::find({.which = [this](pid_t process) { return is_descendant(process); }});
  std::vector<Process*> asked;
  for (auto& process : processes) asked.push_back(&process), count(process.pid());
  std::map<std::string, std::uint64_t> stay, elsewhere;
  for (const auto& answer : Process::ask(asked, wire::Order::tell)) {
    if (!answer) continue;
    const auto& flows = answer->flows;
    std::uint64_t unsettled = flows.tcp;
    for (const auto& [reason, count] : answer->stay)
      stay[reason] += count, unsettled -= std::min<std::uint64_t>(unsettled, count);
    elsewhere[kUnsettled] += unsettled;
    elsewhere["entering a lane"] += flows.entering;
    elsewhere["leaving a lane"] += flows.leaving;
    elsewhere["in rdma"] += flows.rdma;
    elsewhere["in shm"] += flows.shm;
    got_there_ = got_there_ || (is_lane("rdma") && flows.rdma) || (is_lane("shm") && flows.shm);
  }
  std::erase_if(elsewhere, [](const auto& one) { return one.second == 0; });
  if (!stay.empty() || !elsewhere.empty()) stay_ = std::move(stay), elsewhere_ = std::move(elsewhere);
  return got_there_;
}

bool Evidence::read_statistics() {
  std::error_code error;
  if (statistics_.empty() || !fs::is_regular_file(statistics_, error)) return got_there_;
  std::ifstream file(statistics_);
  file.seekg(static_cast<std::streamoff>(begin_));
  std::map<std::string, std::uint64_t> stay;
  for (std::string line; std::getline(file, line);) {
    const auto told = nlohmann::json::parse(line, nullptr, false);
    if (!told.is_object() || (own_folder_.empty() && !processes_.contains(told.value("pid", 0)))) continue;
    const auto lanes = told.value("flows", nlohmann::json::object()),
               reasons = told.value("fallback", nlohmann::json::object());
    for (const auto& [lane, flows] : lanes.items()) got_there_ = got_there_ || (is_lane(lane) && flows > 0);
    for (const auto& [reason, flows] : reasons.items()) stay[reason] += flows.get<std::uint64_t>();
  }
  // What was seen of flows while they lived says more.
  if (!stay_.empty()) return got_there_;
  stay_ = std::move(stay);
  // Those that had no reason then have one now.
  if (const auto unsettled = elsewhere_.find(kUnsettled); unsettled != elsewhere_.end())
    for (const auto& [reason, flows] : stay_) unsettled->second -= std::min(unsettled->second, flows);
  std::erase_if(elsewhere_, [](const auto& one) { return one.second == 0; });
  return got_there_;
}

std::string Evidence::tell() const {
  std::string text;
  const auto add = [&](std::uint64_t flows, const std::string& where) {
    text += fmt::format("  {} flow{}: {}\n", flows, flows == 1 ? "" : "s", printable(where));
  };
  for (const auto& [reason, flows] : stay_) add(flows, with_meaning(reason));
  for (const auto& [where, flows] : elsewhere_) add(flows, where);
  return text.empty() ? "  it had no flow that a rule selects, or does not run with the library\n" : text;
}

}  // namespace rsock::tools
