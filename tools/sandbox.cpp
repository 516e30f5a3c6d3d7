#include "tools/sandbox.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <string_view>

namespace rsock::tools {
namespace {

namespace fs = std::filesystem;

bool sets_preload(const fs::path& file) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);)
    if (line.starts_with("LD_PRELOAD=")) return true;
  return false;
}

class Examination {
 public:
  Examination(const Unit& unit, const Needs& needs) : unit_(unit), needs_(needs) {}

  std::vector<Hindrance> all() {
    families();
    calls();
    users();
    if (needs_.rdma) devices(), locked_memory();
    files();
    environment();
    return std::move(found_);
  }

 private:
  void add(const std::string& key, std::string what, std::vector<std::string> lines = {}, bool keeps_out = false) {
    found_.push_back(
        {fmt::format("{}={}", key, fmt::join(unit_.all(key), " ")), std::move(what), std::move(lines), keeps_out});
  }
  /// Without the library, or without its rules, no flow gets into a lane.
  void add_hidden(const char* key, const fs::path& file) {
    add(key, fmt::format("{} is hidden: put it elsewhere", file.string()), {}, true);
  }

  /// The first assignment says whether the list allows or forbids; families of later ones are added to it, or
  /// taken off (systemd.exec(5)).
  void families() {
    const auto lists = unit_.all("RestrictAddressFamilies");
    if (lists.empty()) return;
    const bool forbids = lists.front().starts_with('~');
    std::string missing;
    for (const std::string_view family : {"AF_UNIX", "AF_NETLINK"}) {
      bool listed = false, negated = false;
      for (const auto& list : lists) {
        negated = list.starts_with('~');
        for (const auto& word : split(list))
          if (word == family) listed = negated == forbids;
      }
      if (listed == forbids) missing += fmt::format("{}{}", missing.empty() ? "" : " ", family);
    }
    if (!missing.empty())
      add("RestrictAddressFamilies",
          "AF_UNIX is how links and operators find each other, AF_NETLINK tells whose a socket is",
          {"RestrictAddressFamilies=" + missing});
  }

  static std::vector<std::string> split(std::string_view list) {
    std::vector<std::string> words;
    std::string word;
    for (const char c : list) {
      if (c != ' ' && c != '\t' && c != '~') {
        word += c;
      } else if (!word.empty()) {
        words.push_back(std::move(word));
        word.clear();
      }
    }
    if (!word.empty()) words.push_back(std::move(word));
    return words;
  }

  void calls() {
    const auto lists = unit_.all("SystemCallFilter");
    if (lists.empty() || lists.front().starts_with('~')) return;
    for (const auto& list : lists)
      if (const auto words = split(list);
          !list.starts_with('~') && std::ranges::find(words, "@system-service") != words.end())
        return;
    add("SystemCallFilter",
        "the library makes system calls of @system-service, and the process is ended at one that is not "
        "listed",
        {"SystemCallFilter=@system-service"});
  }

  void users() {
    if (unit_.is_on("PrivateUsers"))
      add("PrivateUsers", "users at the other ends are unknown, and what needs their number stays on TCP",
          {"PrivateUsers=no"});
  }

  void devices() {
    const bool hidden = unit_.is_on("PrivateDevices");
    const auto policy = unit_.last("DevicePolicy");
    const auto allowed = unit_.words("DeviceAllow");
    const bool closed = policy == "closed" || policy == "strict" || !allowed.empty();
    if (!hidden && (!closed || std::ranges::find(allowed, "char-infiniband_verbs") != allowed.end())) return;
    std::vector<std::string> lines;
    if (hidden) lines.emplace_back("PrivateDevices=no");
    if (policy.empty() && hidden) lines.emplace_back("DevicePolicy=closed");
    lines.emplace_back("DeviceAllow=char-infiniband_verbs rw");
    lines.emplace_back("DeviceAllow=/dev/infiniband/rdma_cm rw");
    add(hidden           ? "PrivateDevices"
        : policy.empty() ? "DeviceAllow"
                         : "DevicePolicy",
        "RDMA needs /dev/infiniband; other devices stay closed", std::move(lines));
  }

  void locked_memory() {
    constexpr std::uint64_t kDefault = 8 << 20;  // of systemd
    const auto text = unit_.last("LimitMEMLOCK");
    if (limit_of(text, kDefault) == UINT64_MAX) return;
    found_.push_back({text.empty() ? "LimitMEMLOCK= (8M is the default)" : "LimitMEMLOCK=" + text,
                      "rings for RDMA are locked memory; `max_pinned` still bounds them",
                      {"LimitMEMLOCK=infinity"},
                      false});
  }

  /// "-/a" is /a, which may be absent; "+/a" is /a of the host's root.
  static fs::path path_in(const std::string& word) {
    return word.substr(std::min(word.find_first_not_of("-+"), word.size()));
  }

  static bool is_below(const fs::path& path, const fs::path& folder) {
    if (folder.empty()) return false;
    const auto from = folder.lexically_normal(), at = path.lexically_normal();
    const auto [end, rest] = std::mismatch(from.begin(), from.end(), at.begin(), at.end());
    return end == from.end() || (std::next(end) == from.end() && end->empty());
  }

  void files() {
    for (const auto& file : {needs_.library, needs_.config}) {
      const auto home = unit_.last("ProtectHome");
      const bool in_home = is_below(file, "/home") || is_below(file, "/root") || is_below(file, "/run/user");
      if (in_home && is_on(home) && home != "read-only") add_hidden("ProtectHome", file);
      if (is_below(file, "/tmp") && unit_.is_on("PrivateTmp")) add_hidden("PrivateTmp", file);
      for (const auto& word : unit_.words("InaccessiblePaths"))
        if (is_below(file, path_in(word))) add_hidden("InaccessiblePaths", file);
    }
    const auto may_run = [&](const std::string& word) { return is_below(needs_.library, path_in(word)); };
    const auto no = unit_.words("NoExecPaths"), yes = unit_.words("ExecPaths");
    if (std::ranges::any_of(no, may_run) && std::ranges::none_of(yes, may_run))
      add("NoExecPaths", "the library cannot be loaded", {fmt::format("ExecPaths={}", needs_.library.string())}, true);
    for (const char* key : {"RootDirectory", "RootImage"})
      if (!unit_.last(key).empty()) add(key, "the library and the configuration have to be there, too");
  }

  void environment() {
    for (const auto& word : unit_.words("UnsetEnvironment"))
      if (word == "LD_PRELOAD" || word == "RSOCK_CONFIG")
        add("UnsetEnvironment", fmt::format("{} does not reach the program", word), {}, word == "LD_PRELOAD");
    for (const auto& word : unit_.words("EnvironmentFile"))
      if (sets_preload(needs_.root / fs::path(word.substr(word.starts_with('-'))).relative_path()))
        add("EnvironmentFile", "its LD_PRELOAD has the last word: name the library there");
  }

  const Unit& unit_;
  const Needs& needs_;
  std::vector<Hindrance> found_;
};

}  // namespace

std::vector<Hindrance> hindrances(const Unit& unit, const Needs& needs) { return Examination(unit, needs).all(); }

std::uint64_t limit_of(const std::string& text, std::uint64_t otherwise) {
  const auto hard = text.substr(text.find(':') + 1);
  if (hard == "infinity") return UINT64_MAX;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(hard.data(), hard.data() + hard.size(), value);
  if (error != std::errc{}) return otherwise;
  constexpr std::string_view kUnits = "KMGTPE";
  const auto rest = std::string_view(end, static_cast<std::size_t>(hard.data() + hard.size() - end));
  const auto unit = rest.empty() ? kUnits.npos : kUnits.find(rest.front());
  return unit == kUnits.npos ? value : value << 10 * (unit + 1);
}

}  // namespace rsock::tools
