#include "tools/loaded.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/base/proc.hpp"

namespace rsock::tools {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMappedLibrary = "/librsock.so";

std::string namespace_of(const std::string& folder) {
  std::error_code error;
  return fs::read_symlink(folder + "/ns/net", error).string();
}

/// Its name is the last field of a line of its mappings, with a word behind it if the file is no more.
bool has_library(const std::string& folder) {
  std::ifstream maps(folder + "/maps");
  for (std::string line; std::getline(maps, line);) {
    const auto at = line.rfind(kMappedLibrary);
    if (at == line.npos) continue;
    const auto rest = std::string_view(line).substr(at + kMappedLibrary.size());
    if (rest.empty() || rest == " (deleted)") return true;
  }
  return false;
}

/// As the library takes it: the program as it was called, without its folder.
std::string program_of(const std::string& folder) {
  std::ifstream words(folder + "/cmdline");
  std::string first;
  std::getline(words, first, '\0');
  first = first.substr(first.rfind('/') + 1);
  return on_one_line(first.empty() ? "?" : first);
}

}  // namespace

std::vector<Loaded> only_loaded(const Selection& selection, const std::vector<Process>& answering) {
  std::vector<Loaded> found;
  const auto here = namespace_of("/proc/self");
  for (const auto& name : sys::names_in("/proc")) {
    const pid_t pid = std::atoi(name.c_str());
    if (pid <= 0 || pid == ::getpid() || (selection.pid && pid != *selection.pid)) continue;
    if (std::ranges::find(answering, pid, &Process::pid) != answering.end()) continue;
    const auto folder = "/proc/" + name;
    if (namespace_of(folder) != here || !has_library(folder)) continue;
    Loaded one{pid, program_of(folder)};
    if (selection.fits(one.program)) found.push_back(std::move(one));
  }
  std::ranges::sort(found, {}, &Loaded::pid);
  return found;
}

bool holds_any(pid_t pid, std::span<const std::uint64_t> sockets) {
  const auto folder = fmt::format("/proc/{}/fd", pid);
  return std::ranges::any_of(sys::names_in(folder.c_str()), [&](const auto& number) {
    std::error_code error;
    const auto target = fs::read_symlink(folder + "/" + number, error).string();
    return std::ranges::any_of(sockets, [&](auto inode) { return target == fmt::format("socket:[{}]", inode); });
  });
}

}  // namespace rsock::tools
