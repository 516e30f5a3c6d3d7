#pragma once

#include "tools/command.hpp"

namespace rsock::tools {

/// `rsock check HOST:PORT`: a connection of its own, and its way into a lane, stage by stage. kSuccess in the lane;
/// kNoLane on TCP, with the reason; kFailure without a connection.
Command add_check(CLI::App& app);

}  // namespace rsock::tools
