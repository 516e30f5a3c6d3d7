#pragma once

#include <string>

#include "tools/operate.hpp"

namespace rsock::tools {

struct CaptureArguments {
  std::string file;           ///< "" or "-": standard output
  std::uint64_t count = 0;    ///< of packets, after which it ends; 0: none
  std::uint64_t buffer = 16;  ///< MiB for each process
};

/// `rsock capture`: what goes through the lanes of processes, as a pcapng file, until it is told to end.
/// kFailure when it is not root's, or cannot write; kUsage when there is no such process, or nowhere to write
/// to.
ExitStatus capture(const OperateArguments& whose, const CaptureArguments& how);

}  // namespace rsock::tools
