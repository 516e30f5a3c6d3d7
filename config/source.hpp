#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.hpp"
#include "core/base/file.hpp"

namespace rsock::config {

inline constexpr const char* kRulesVariable = "RSOCK_RULES";    ///< a configuration itself; `rsock run` sets it
inline constexpr const char* kConfigVariable = "RSOCK_CONFIG";  ///< the path of a configuration
inline constexpr const char* kDefaultPath = "/etc/rsock/rsock.toml";
inline constexpr const char* kPartsFolder =
    "conf.d";  ///< beside the file: its *.toml come after it, in the order of their names
inline constexpr std::size_t kPartsMost = 100;  ///< of these

/// Where a configuration is.
struct Source {
  enum class Kind { none, text, file };
  Kind kind = Kind::none;
  std::string text_or_path;
  bool must_exist = false;  ///< for a file: its absence is an error

  /// As diagnostics call it.
  std::string_view name() const noexcept {
    return kind == Kind::text ? kRulesVariable : std::string_view(text_or_path);
  }
};

/// getenv(3): the value of an environment variable, or null.
using Environment = std::function<const char*(const char* name)>;

/// What reads a configuration.
struct Reader {
  /// Whatever is at the path that was named; it may be a pipe. At most kTextLimit + 1 bytes, which parsing refuses
  /// then.
  std::function<Result<File>(const std::string& path)> file;
  uid_t user = 0;
  /// One that nobody named: a regular file, else without its bytes.
  std::function<Result<File>(const std::string& path)> part;
  using Trusted = std::function<bool(const struct stat& facts)>;
  /// The names in a folder for which is_part holds, at most kPartsMost + 1; none if it is not trusted.
  std::function<Result<Folder>(const std::string& path, const Trusted& trusted)> folder;
};

bool is_part(std::string_view name) noexcept;

/// RSOCK_RULES, else RSOCK_CONFIG, else the default path, which may be absent. A variable that is set but
/// empty means that there is no configuration: nothing is selected. Kind::none when out of memory.
Source find(const Environment& environment) noexcept;

/// The texts at `source`: RSOCK_RULES, or the file and what is in conf.d beside it. One that cannot be read has a fault
/// that names the reason, except that a file which need not exist may be absent, and so may the folder. Nobody named
/// what is in the folder: it and its files must belong to root, to the reader's user or to the owner of the file, and
/// others may not write to them. May throw std::bad_alloc.
std::vector<Part> read(const Source& source, const Reader& reader);

/// parse() of these; without a name of a program, for every one.
Parsed load(const Source& source, const Reader& reader, std::optional<std::string_view> program_name) noexcept;

}  // namespace rsock::config
