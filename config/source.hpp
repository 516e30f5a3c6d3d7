#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <variant>

#include "config/config.hpp"

namespace rsock::config {

inline constexpr const char* kRulesVariable = "RSOCK_RULES";  ///< a configuration itself; `rsock run` sets it
inline constexpr const char* kConfigVariable = "RSOCK_CONFIG";  ///< the path of a configuration
inline constexpr const char* kDefaultPath = "/etc/rsock/rsock.toml";

/// Where a configuration is.
struct Source {
  enum class Kind { none, text, file };
  Kind kind = Kind::none;
  std::string text_or_path;
  bool must_exist = false;  ///< for a file: its absence is an error
};

/// getenv(3): the value of an environment variable, or null.
using Environment = std::function<const char*(const char* name)>;

/// Reads the file at a path: its text, or an errno.
using Reader = std::function<std::variant<std::string, int>(const std::string& path)>;

/// RSOCK_RULES, else RSOCK_CONFIG, else the default path, which may be absent. A variable that is set but
/// empty means that there is no configuration: nothing is selected. Kind::none when out of memory.
Source find(const Environment& environment) noexcept;

/// parse() of what is at `source`. The file name in diagnostics is the path, or RSOCK_RULES. A file that
/// cannot be read is an error that names the reason, except that one which need not exist may be absent.
Parsed load(const Source& source, const Reader& reader, std::string_view program_name) noexcept;

}  // namespace rsock::config
