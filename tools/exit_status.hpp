#pragma once

namespace rsock::tools {

/// Exit statuses of the `rsock` command; the last two are those of env(1).
enum ExitStatus : int {
  kSuccess = 0,
  kFailure = 1,         ///< what was asked about is not in order
  kUsage = 2,           ///< the command line makes no sense
  kNoLane = 3,          ///< no flow got where --require wants one
  kCannotRun = 126,     ///< PROGRAM was found but cannot be run
  kNoSuchProgram = 127  ///< PROGRAM was not found
};

}  // namespace rsock::tools
