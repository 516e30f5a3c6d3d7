#pragma once

#include <span>
#include <string>
#include <string_view>

namespace rsock::config {

/// One thing that is wrong with a configuration, and where.
/// Lines and columns count from 1, columns in code points; line 0 means the file as a whole.
struct Diagnostic {
  std::string file;
  unsigned line = 0;
  unsigned column = 0;
  std::string message;
};

/// "FILE:LINE:COLUMN: message", or "FILE: message" when it is about the file as a whole.
/// One line, printable whatever the configuration contained. Empty when out of memory.
std::string to_string(const Diagnostic& diagnostic) noexcept;

/// `text` in double quotes, cut when long, with every byte that could disturb a log or a terminal escaped.
/// May throw std::bad_alloc.
std::string quoted(std::string_view text);

/// What errno `error` means: strerror(3) without its shared buffer and its locale. May throw std::bad_alloc.
std::string reason(int error);

/// The one of `known` that `word` is most likely a slip for; empty when none is close.
/// Close is a number of inserted, deleted, replaced or swapped letters up to a third of the word, at least
/// one.
std::string_view nearest(std::string_view word, std::span<const std::string_view> known) noexcept;

}  // namespace rsock::config
