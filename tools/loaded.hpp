#pragma once

#include <cstdint>
#include <span>
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

/// Whether the process has any of these sockets open, by their inodes; false where this user may not know.
bool holds_any(pid_t pid, std::span<const std::uint64_t> sockets);

}  // namespace rsock::tools
