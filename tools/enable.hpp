#pragma once

#include <vector>

#include "tools/command.hpp"

namespace rsock::tools {

/// `rsock enable`, `disable` and `status`: a service of systemd gets the library by a drop-in, and loses it
/// with that. The unit itself is never written to, and nobody talks to systemd. kFailure when a file cannot
/// be written or is another's, and for status when the service or a process of it lacks the library; kUsage
/// if there is no such unit.
std::vector<Command> add_units(CLI::App& app);

}  // namespace rsock::tools
