#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "tools/exit_status.hpp"
#include "tools/processes.hpp"

namespace rsock::tools {

struct OperateArguments {
  Selection selection;
  std::string lane;        ///< of `rsock lane`: tcp or auto
  std::uint16_t port = 0;  ///< at either end of a flow; 0: all flows
  double timeout = 10;     ///< seconds that flows may take to leave their lanes
};

/// Says on stderr that there is no such process.
ExitStatus nobody(const Selection& selection);
/// Says on stderr that it does not answer.
ExitStatus silent(const Process& process);

/// Says on stderr which processes of the selection have the library, and a configuration with a mistake.
void tell_of_mistakes(const Selection& selection, const std::vector<Process>& answering);

/// `rsock lane`, `rsock reload`, `rsock list`: one line on stdout for each process, what went wrong on stderr. kSuccess
/// when all was done; kFailure when a process did not do it, or flows did not leave in time; kUsage when there is no
/// such process.
ExitStatus lane(const OperateArguments& arguments);
ExitStatus reload(const OperateArguments& arguments);
ExitStatus list(const OperateArguments& arguments);

}  // namespace rsock::tools
