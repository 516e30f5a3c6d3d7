#pragma once
// The log, silent unless RSOCK_LOG=level[:file] asks for it. One line per event, written by one write(2), so that
// lines of several processes may share a file; a line for which there is no room is lost (see lines.hpp). Never on the
// hot path. Any thread; a child of fork goes on writing to it.

#include <fmt/core.h>

#include <optional>
#include <string_view>

namespace rsock::log {

enum class Level { off, error, warning, info, debug };

// off, error, warn (or warning), info or debug; nothing for other words.
std::optional<Level> level_named(std::string_view word);
inline constexpr std::string_view kLevelWords = "off, error, warn, info, debug";

// `setting` as in RSOCK_LOG: off, error, warn, info or debug, then optionally a colon and a file; standard error if
// none. An unreadable setting leaves the log off. The file is opened for appending.
void configure(std::string_view setting, std::string_view program);

// The library's own descriptor to which lines go; -1 if there is none.
int descriptor();

bool enabled(Level level);
void write_line(Level level, fmt::string_view text, fmt::format_args arguments);

template <class... Arguments>
void print(Level level, fmt::format_string<Arguments...> text, Arguments&&... arguments) {
  if (enabled(level)) write_line(level, text, fmt::make_format_args(arguments...));
}
template <class... Arguments>
void error(fmt::format_string<Arguments...> text, Arguments&&... arguments) {
  print(Level::error, text, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void warning(fmt::format_string<Arguments...> text, Arguments&&... arguments) {
  print(Level::warning, text, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void info(fmt::format_string<Arguments...> text, Arguments&&... arguments) {
  print(Level::info, text, std::forward<Arguments>(arguments)...);
}
template <class... Arguments>
void debug(fmt::format_string<Arguments...> text, Arguments&&... arguments) {
  print(Level::debug, text, std::forward<Arguments>(arguments)...);
}

}  // namespace rsock::log
