#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/exit_status.hpp"

namespace rsock::tools {

struct RunArguments {
  std::vector<std::string> listen;   ///< endpoints, as after `listen` in a rule
  std::vector<std::string> connect;  ///< endpoints, as after `connect` in a rule
  std::string lane;                  ///< for all of them; empty: not given
  std::string stats;                 ///< where the program's counters go; empty: nowhere
  std::string log;                   ///< LEVEL or LEVEL:FILE; empty: as the environment says
  std::vector<std::string> command;  ///< PROGRAM and its arguments; not empty
};

/// `rsock run`: becomes PROGRAM with librsock.so preloaded before whatever LD_PRELOAD named already. Rules on
/// the command line replace the configuration file; without any, the file applies. Returns only when it
/// failed, having said why on stderr.
ExitStatus run(const RunArguments& arguments);

}  // namespace rsock::tools
