#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>

namespace rsock::tools {

/// What an option takes as a time: 5s, 500ms, 2m, or a number of seconds; it becomes seconds, no more than `most`.
inline CLI::Validator seconds_up_to(double most) {
  return CLI::AsNumberWithUnit(std::map<std::string, double>{{"ms", 0.001}, {"s", 1}, {"m", 60}}) &
         CLI::Range(0.0, most);
}

}  // namespace rsock::tools
