#include "config/secrets.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace rsock::config {
namespace {

constexpr std::size_t kSize = sizeof(Secret);

/// What is wrong with it.
std::optional<std::string> fault(const Result<File>& file, uid_t user) {
  if (!file) return fmt::format("cannot be read: {}", reason(file.error()));
  const auto& facts = file->facts;
  if (!S_ISREG(facts.st_mode)) return "is no regular file";
  if (facts.st_uid != 0 && facts.st_uid != user)
    return fmt::format("belongs to user {}, neither to root nor to user {}, who reads it", facts.st_uid, user);
  if ((facts.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    return fmt::format("has mode {:04o}: group and others may have no permission", facts.st_mode & 07777);
  if (file->bytes.size() != kSize && file->bytes.size() != 2 * kSize)
    return fmt::format("must hold {} or {} bytes: one or two secrets of {} each", kSize, 2 * kSize, kSize);
  return std::nullopt;
}

std::vector<Secret> secrets_in(std::string_view bytes) {
  std::vector<Secret> secrets(bytes.size() / kSize);
  for (std::size_t i = 0; i < secrets.size(); ++i)
    std::ranges::copy(bytes.substr(i * kSize, kSize), secrets[i].begin());
  return secrets;
}

}  // namespace

bool wants_secrets(const Config& config) noexcept {
  return !config.options.secret.empty() && (config.rules.any_listen() || config.rules.any_connect());
}

void take_secrets(Parsed& parsed, std::string_view file_name, const Result<File>& file, uid_t user) noexcept {
  if (!parsed.errors.empty()) return;
  try {
    if (const auto wrong = fault(file, user)) {
      parsed.errors.push_back(
          {std::string(file_name), 0, 0, fmt::format("secret = {} {}", quoted(parsed.config.options.secret), *wrong)});
      parsed.config = {};
    } else {
      parsed.config.secrets = secrets_in(file->bytes);
    }
  } catch (...) {
    parsed = {};
  }
}

}  // namespace rsock::config
