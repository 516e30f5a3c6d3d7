#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tools/exit_status.hpp"
#include "tools/require.hpp"

namespace rsock::tools {

struct RunArguments {
  std::vector<std::string> listen;   ///< endpoints, as after `listen` in a rule
  std::vector<std::string> connect;  ///< endpoints, as after `connect` in a rule
  std::string lane;                  ///< for all of them; empty: not given
  std::string stats;                 ///< where the program's counters go; empty: nowhere
  std::string log;                   ///< LEVEL or LEVEL:FILE; empty: as the environment says
  Requirement requirement;           ///< without a lane: none
  std::vector<std::string> command;  ///< PROGRAM and its arguments; not empty
};

/// `rsock run`: becomes PROGRAM with librsock.so preloaded before whatever LD_PRELOAD named already. Rules on
/// the command line replace the configuration file; without any, the file applies, and stderr has what is wrong
/// with it. Returns only when it failed, having said why on stderr, or with a requirement, when PROGRAM has ended.
ExitStatus run(const RunArguments& arguments);

/// The library that belongs to this command, as built or as installed; its plain name, for ld.so to search, when it is
/// in none of its places.
std::string find_library();

/// Becomes `command`. Returns only when that failed, having said why on stderr.
ExitStatus become(const std::vector<std::string>& command);

}  // namespace rsock::tools
