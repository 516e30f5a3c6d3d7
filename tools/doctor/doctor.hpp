#pragma once

#include "tools/command.hpp"

namespace rsock::tools {

/// `rsock doctor [UNIT|PID] [--json]`: what would keep a program's flows from their lanes on this host, a
/// line for each thing that was looked at. kFailure if one of them fails; kUsage if there is no such unit or
/// process.
Command add_doctor(CLI::App& app);

}  // namespace rsock::tools
