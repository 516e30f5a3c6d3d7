#include "config/source.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace rsock::config {
namespace {

/// strerror(3) without its shared buffer and its locale.
std::string reason(int error) {
  const char* description = ::strerrordesc_np(error);
  return description != nullptr ? description : fmt::format("error {}", error);
}

bool is_absence(int error) {
  return error == ENOENT || error == ENOTDIR;
}

Parsed load_file(const Source& source, const Reader& reader, std::string_view program_name) {
  const auto text = reader(source.text_or_path);
  if (const auto* content = std::get_if<std::string>(&text))
    return parse(*content, source.text_or_path, program_name);
  const int error = std::get<int>(text);
  Parsed parsed;
  if (source.must_exist || !is_absence(error))
    parsed.errors.push_back({source.text_or_path, 0, 0, fmt::format("cannot be opened: {}", reason(error))});
  return parsed;
}

}  // namespace

Source find(const Environment& environment) noexcept {
  try {
    if (const char* rules = environment(kRulesVariable))
      return *rules != '\0' ? Source{Source::Kind::text, rules, true} : Source{};
    if (const char* path = environment(kConfigVariable))
      return *path != '\0' ? Source{Source::Kind::file, path, true} : Source{};
    return {Source::Kind::file, kDefaultPath, false};
  } catch (...) {
    return {};
  }
}

Parsed load(const Source& source, const Reader& reader, std::string_view program_name) noexcept {
  try {
    switch (source.kind) {
      case Source::Kind::none:
        return {};
      case Source::Kind::text:
        return parse(source.text_or_path, kRulesVariable, program_name);
      case Source::Kind::file:
        return load_file(source, reader, program_name);
    }
  } catch (...) {
  }
  return {};
}

}  // namespace rsock::config
