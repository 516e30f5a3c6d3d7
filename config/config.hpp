#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "config/diagnostic.hpp"
#include "config/options.hpp"
#include "config/rules.hpp"

/// What the user wants: which flows of which programs enter a lane, and with which options.
///
/// Nothing here opens a file, prints, keeps state or lets an exception out; texts come in, values go out.
/// Making a Config allocates and may be done once, by any one thread; a finished one is read by all (see
/// Rules).
namespace rsock::config {

struct Config {
  Rules rules;
  Options options;
};

/// Invariant: when there is an error, or memory ran out, `config` is Config{}: nothing is selected.
struct Parsed {
  Config config;
  std::vector<Diagnostic> errors;  ///< in the order of the text; all that were found
};

/// Reads a configuration in TOML, of which it keeps the rules for `program_name` (without its folder). Errors
/// in rules for other programs count too. `file_name` is used in diagnostics only. `text` may hold anything;
/// a text longer than kTextLimit, or one with a line longer than kLineLimit, is refused, which bounds the
/// stack that parsing takes. When the text is not TOML, the one error is where the TOML parser noticed it.
Parsed parse(std::string_view text, std::string_view file_name, std::string_view program_name) noexcept;

/// The same, with the rules for all programs: for showing them, not for matching.
Parsed parse_for_every_program(std::string_view text, std::string_view file_name) noexcept;

inline constexpr std::size_t kTextLimit = 256 * 1024;  ///< bytes
inline constexpr std::size_t kLineLimit = 1024;        ///< bytes

}  // namespace rsock::config
