#pragma once

#include <string>
#include <vector>

namespace CLI {
class Option;
}

namespace rsock::tools {

/// The names of an option that is none by its place, with their dashes, short ones first.
std::vector<std::string> option_names(const CLI::Option& option);

/// What the help calls its value, "PID" or "LEVEL[:FILE]", without what CLI11 puts behind that; empty for a flag. By
/// its place: its name.
std::string value_name(const CLI::Option& option);

}  // namespace rsock::tools
