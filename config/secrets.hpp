#pragma once

#include <sys/types.h>

#include <string_view>

#include "config/config.hpp"
#include "core/base/file.hpp"

namespace rsock::config {

/// Enough of a file to see that it is too long.
inline constexpr std::size_t kSecretsMost = 2 * sizeof(Secret) + 1;  ///< bytes

/// Whether a program with that configuration reads them: one that no rule selects may not be allowed to, and needs
/// none.
bool wants_secrets(const Config& config) noexcept;

/// Puts what `file` holds into `parsed.config.secrets`, if `user`, who read it at the path that the option
/// `secret` gives, may trust it: a regular file that is root's or its own, with no permission for group and
/// others, of one or two secrets. The rules are ssh's for keys: symbolic links are followed, and it is the
/// file that they lead to that counts. Else `parsed` has an error that says why, and selects nothing. No
/// message tells what is in the file. `file_name` is the configuration's. Does nothing if it has errors
/// already.
void take_secrets(Parsed& parsed, std::string_view file_name, const Result<File>& file, uid_t user) noexcept;

}  // namespace rsock::config
