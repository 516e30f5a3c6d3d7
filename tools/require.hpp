#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "tools/exit_status.hpp"

namespace rsock::tools {

/// What `rsock run --require` asks of a program: that a flow of it, or of a process that it started, gets there in
/// time.
struct Requirement {
  std::string lane;  ///< rdma or shm; auto: any of the two
  std::chrono::duration<double> within{};
};

/// Runs `command` with this process's environment and stays beside it: signals that are sent to this process reach the
/// program, which keeps the terminal. Where no flow got into the lane in time, all that the program started is ended
/// (SIGTERM, SIGKILL five seconds later), stderr has the reasons of its flows, and the answer is kNoLane. So it is if
/// the program ends before with status 0 and its statistics know of no such flow. If it ends with another status stderr
/// has the reasons, too. Else the answer is the program's exit status, 128 + N if signal N ended it.
ExitStatus run_required(const Requirement& requirement, const std::vector<std::string>& command);

}  // namespace rsock::tools
