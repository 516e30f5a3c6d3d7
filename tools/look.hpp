#pragma once

#include "tools/operate.hpp"

namespace rsock::tools {

struct LookArguments {
  bool json = false;
  bool prometheus = false;  ///< of `rsock stats`
  unsigned count = 0;       ///< of `rsock top`: how often it draws; 0: until it is interrupted
};

/// `rsock flows`, `rsock links`, `rsock stats`, `rsock top`: what running processes tell of themselves.
/// kSuccess; kFailure when a process did not answer, and is missing; kUsage when there is no such process.
ExitStatus flows(const OperateArguments& whose, const LookArguments& how);
ExitStatus links(const OperateArguments& whose, const LookArguments& how);
ExitStatus statistics(const OperateArguments& whose, const LookArguments& how);
ExitStatus top(const OperateArguments& whose, const LookArguments& how);

}  // namespace rsock::tools
