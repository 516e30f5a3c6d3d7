#pragma once

#include "tools/command.hpp"

namespace rsock::tools {

/// `rsock config [--json]`: the values of all options and the rules of all programs, as the library would
/// find them in this environment, each with where it is written. kFailure if there is a mistake, as for
/// `rsock check-config`.
Command add_config(CLI::App& app);

}  // namespace rsock::tools
