#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
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

/// What the ends of links know and others do not.
using Secret = std::array<std::uint8_t, 32>;

struct Config {
  Rules rules;
  Options options;
  std::vector<Secret> secrets;  ///< in the file that options.secret names (secrets.hpp): none, one or two
};

/// Where something is written. No file: nowhere, it is the default.
struct Place {
  std::string file;  ///< as diagnostics call it
  unsigned line = 0;
};

/// Invariant: when there is an error, or memory ran out, `config` is Config{}: nothing is selected.
struct Parsed {
  Config config;
  std::vector<Diagnostic> errors;  ///< in the order of the text; all that were found
  std::vector<std::string> files;  ///< that were read
  std::vector<Place> rules;        ///< of each of config.rules.all()
  std::vector<Place> options;      ///< of each row of the option table
};

/// Reads a configuration in TOML, of which it keeps the rules for `program_name` (without its folder). Errors
/// in rules for other programs count too. `file_name` is used in diagnostics only. `text` may hold anything;
/// a text longer than kTextLimit, or one with a line longer than kLineLimit, is refused, which bounds the
/// stack that parsing takes. When the text is not TOML, the one error is where the TOML parser noticed it.
Parsed parse(std::string_view text, std::string_view file_name, std::string_view program_name) noexcept;

/// The same, with the rules for all programs: for showing them, not for matching.
Parsed parse_for_every_program(std::string_view text, std::string_view file_name) noexcept;

/// One of several texts that make a configuration together.
struct Part {
  std::string file_name;  ///< used in diagnostics and places
  std::string text;
  std::string fault;  ///< why there is no text that could be read; empty: there is
};

/// The same for all parts, one after the other: their rules stand in this order, and of an option that several set the
/// last counts. A part with a fault is an error. Without a name of a program: for every one.
Parsed parse(std::span<const Part> parts, std::optional<std::string_view> program_name) noexcept;

inline constexpr std::size_t kTextLimit = 256 * 1024;  ///< bytes
inline constexpr std::size_t kLineLimit = 1024;        ///< bytes

}  // namespace rsock::config
