#pragma once

#include <CLI/App.hpp>
#include <string>

namespace rsock::tools {

/// The shells that `rsock completion` knows.
inline constexpr const char* kShells[] = {"bash", "zsh", "fish"};

/// A script for one of kShells that completes the command line of `app`: its commands, their options, and values where
/// they are words of a list, or files. What follows a command that becomes another program is left to the shell's own
/// completion.
std::string completion(const CLI::App& app, const std::string& shell);

}  // namespace rsock::tools
