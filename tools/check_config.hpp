#pragma once

#include <string>

#include "config/source.hpp"
#include "tools/exit_status.hpp"

namespace rsock::tools {

/// `rsock check-config FILE`: prints the rules for all programs in FILE and in conf.d beside it, normalised, one a
/// line, to stdout; or everything that is wrong, as the library would log it, to stderr.
ExitStatus check_config(const std::string& path);

/// Reads as the library does, but waits up to five seconds for a pipe whose writer is slow: the file that was named has
/// at most one byte more than it may have, so that devices and pipes without end are refused, too.
config::Reader patient_reader();

/// Says all of them on stderr. kFailure.
ExitStatus complain(const std::vector<config::Diagnostic>& errors);

}  // namespace rsock::tools
