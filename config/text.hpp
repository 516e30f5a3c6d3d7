#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace rsock::config {

/// Why a text is refused before it is parsed, and where; line 0 means as a whole.
struct Refusal {
  unsigned line = 0;
  unsigned column = 0;
  std::string message;
};

/// Looks for what the TOML parser does not handle or does not place exactly: NUL, which it takes for the end,
/// bytes that are not UTF-8 (RFC 3629), a text beyond kTextLimit and lines beyond kLineLimit. Keys of many
/// parts nest tables that are destroyed recursively, and the bound on a line bounds that depth. May throw
/// std::bad_alloc.
std::optional<Refusal> refuse(std::string_view text);

}  // namespace rsock::config
