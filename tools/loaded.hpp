#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/processes.hpp"

namespace rsock::tools {

/// A process that has the library, by what /proc says of it.
struct Loaded {
  pid_t pid;
  std::string program;  ///< printable
};

/// Those of the selection, in this network namespace, that do not answer on a control socket: they have no
/// selected flow or listener yet, or their configuration has a mistake. As far as this user may know of them.
std::vector<Loaded> only_loaded(const Selection& selection, const std::vector<Process>& answering);

/// Processes of the selection, in this network namespace, whose environment as they began has LD_PRELOAD with the
/// library, and that do not have it. As far as this user may know of them.
struct Unserved {
  pid_t pid;
  std::string program;  ///< printable
  std::string why;
};
std::vector<Unserved> unserved(const Selection& selection);

/// Whether the file is mapped there; false where this user may not know.
bool has_library(pid_t pid);

/// The entry of a value of LD_PRELOAD that is this library; empty: none.
std::string library_in(std::string_view preload);

/// What a program is called whose folder in /proc this is: as it was started, without its folder. Programs write over
/// that (setproctitle(3)): then it is what the kernel knows. Empty: that cannot be seen.
std::string program_called(const std::filesystem::path& folder);

/// The environment that it began with, each NAME=value with a zero byte behind it; empty where it cannot be seen, or
/// where the program wrote over it.
std::string environment_of(const std::filesystem::path& folder);

/// AT_SECURE in what the kernel gave a process, by the bytes of its auxv.
bool is_secure(const std::string& vector);

/// Whether the process has any of these sockets open, by their inodes; false where this user may not know.
bool holds_any(pid_t pid, std::span<const std::uint64_t> sockets);

}  // namespace rsock::tools
