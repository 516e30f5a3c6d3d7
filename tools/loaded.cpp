#include "tools/loaded.hpp"

#include <elf.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "core/base/proc.hpp"
#include "tools/elf.hpp"

namespace rsock::tools {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMappedLibrary = "/librsock.so";

std::string namespace_of(const std::string& folder) {
  std::error_code error;
  return fs::read_symlink(folder + "/ns/net", error).string();
}

/// Its name is the last field of a line of its mappings, with a word behind it if the file is no more.
bool maps_library(const std::string& folder) {
  std::ifstream maps(folder + "/maps");
  for (std::string line; std::getline(maps, line);) {
    const auto at = line.rfind(kMappedLibrary);
    if (at == line.npos) continue;
    const auto rest = std::string_view(line).substr(at + kMappedLibrary.size());
    if (rest.empty() || rest == " (deleted)") return true;
  }
  return false;
}

std::string all_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string printable_name(const std::string& folder) {
  const auto name = program_called(folder);
  return name.empty() ? "?" : on_one_line(name);
}

/// Those of the selection in this network namespace, in the order of their ids.
std::vector<pid_t> selected(const Selection& selection) {
  std::vector<pid_t> found;
  const auto here = namespace_of("/proc/self");
  for (const auto& name : sys::names_in("/proc")) {
    const pid_t pid = std::atoi(name.c_str());
    if (pid <= 0 || pid == ::getpid() || (selection.pid && pid != *selection.pid)) continue;
    if (namespace_of("/proc/" + name) == here) found.push_back(pid);
  }
  std::ranges::sort(found);
  return found;
}

std::string why_unserved(const std::string& folder) {
  if (is_secure(all_of(folder + "/auxv"))) return "began with privileges: LD_PRELOAD was ignored";
  const auto elf = read_elf(folder + "/exe");
  if (elf && elf->kind == Elf::Kind::no_loader) return "is static: no preload reaches it";
  if (elf && elf->kind == Elf::Kind::foreign) return "is not for x86-64, as the library is";
  return "runs without the library, though LD_PRELOAD names it";
}

}  // namespace

bool has_library(pid_t pid) { return pid > 0 && maps_library(fmt::format("/proc/{}", pid)); }

std::string library_in(std::string_view preload) {
  for (std::size_t at = 0; at < preload.size();) {
    const auto end = std::min(preload.find_first_of(": ", at), preload.size());
    const auto entry = preload.substr(at, end - at);
    if (fs::path(entry).filename() == kMappedLibrary.substr(1)) return std::string(entry);
    at = end + 1;
  }
  return {};
}

std::string program_called(const fs::path& folder) {
  constexpr std::size_t kMostOfKernel = 15;
  const auto words = all_of(folder / "cmdline");
  const auto first = words.substr(0, words.find('\0'));
  const auto base = [](const std::string& path) { return path.substr(path.rfind('/') + 1); };
  auto known = all_of(folder / "comm");
  known.erase(std::min(known.find('\n'), known.size()));
  for (const auto& name : {base(first), base(first.substr(0, first.find_first_of(" :")))})
    if (!name.empty() && name.substr(0, kMostOfKernel) == known) return name;
  // The interpreter of a script is called by its own name.
  return first.find(' ') == first.npos && !first.empty() ? base(first) : known;
}

std::string environment_of(const fs::path& folder) {
  constexpr auto kIsName = [](unsigned char c) { return std::isalnum(c) || c == '_'; };
  const auto all = all_of(folder / "environ");
  bool seen = false;
  for (std::size_t at = 0; at < all.size() && !seen; at = std::min(all.find('\0', at), all.size() - 1) + 1) {
    const auto line = std::string_view(all).substr(at, all.find('\0', at) - at);
    const auto name = line.substr(0, std::min(line.find('='), line.size()));
    seen = name.size() < line.size() && !name.empty() && std::ranges::all_of(name, kIsName);
  }
  return seen ? all : "";
}

bool is_secure(const std::string& vector) {
  for (std::size_t at = 0; at + sizeof(Elf64_auxv_t) <= vector.size(); at += sizeof(Elf64_auxv_t)) {
    Elf64_auxv_t entry;
    std::memcpy(&entry, vector.data() + at, sizeof entry);
    if (entry.a_type == AT_SECURE) return entry.a_un.a_val != 0;
  }
  return false;
}

std::vector<Loaded> only_loaded(const Selection& selection, const std::vector<Process>& answering) {
  std::vector<Loaded> found;
  for (const auto pid : selected(selection)) {
    if (std::ranges::find(answering, pid, &Process::pid) != answering.end()) continue;
    if (!has_library(pid)) continue;
    Loaded one{pid, printable_name(fmt::format("/proc/{}", pid))};
    if (selection.fits(one.program)) found.push_back(std::move(one));
  }
  return found;
}

std::vector<Unserved> unserved(const Selection& selection) {
  constexpr std::string_view kPreload = "LD_PRELOAD=";
  std::vector<Unserved> found;
  for (const auto pid : selected(selection)) {
    const auto folder = fmt::format("/proc/{}", pid);
    const auto environment = environment_of(folder);
    const auto at = ('\0' + environment).find('\0' + std::string(kPreload));
    if (at == environment.npos || library_in(environment.c_str() + at + kPreload.size()).empty()) continue;
    // One that begins has it in a moment; one that ends has nothing any more.
    if (all_of(folder + "/maps").empty() || has_library(pid)) continue;
    Unserved one{pid, printable_name(folder), why_unserved(folder)};
    if (selection.fits(one.program)) found.push_back(std::move(one));
  }
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
