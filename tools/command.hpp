#pragma once

#include <functional>

#include "tools/exit_status.hpp"

namespace CLI {
class App;
}

namespace rsock::tools {

/// A command of `rsock` that adds itself to the command line, and keeps what was said there for itself.
struct Command {
  CLI::App* app;
  std::function<ExitStatus()> run;  ///< after `app` was parsed
};

}  // namespace rsock::tools
