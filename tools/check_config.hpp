#pragma once

#include <string>

#include "tools/exit_status.hpp"

namespace rsock::tools {

/// `rsock check-config FILE`: prints the rules for all programs, normalised, one a line, to stdout; or
/// everything that is wrong, as the library would log it, to stderr.
ExitStatus check_config(const std::string& path);

}  // namespace rsock::tools
