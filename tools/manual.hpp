#pragma once

#include <string>

namespace CLI {
class App;
}

namespace rsock::tools {

/// The COMMANDS section of rsock(1), made from the tree of the command line.
std::string manual_of_commands(const CLI::App& app);

/// The REASONS section of librsock(7), from the table of reasons.
std::string manual_of_reasons();

}  // namespace rsock::tools
