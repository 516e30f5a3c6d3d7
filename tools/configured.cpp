#include "tools/configured.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "config/secrets.hpp"
#include "config/source.hpp"
#include "core/base/kernel.hpp"
#include "tools/check_config.hpp"

namespace rsock::tools {
namespace {

using config::Source;

/// Where it could be read from once only, the program is left to do that.
bool may_be_read(const Source& source) {
  std::error_code error;
  const auto status = std::filesystem::status(source.text_or_path, error);
  return source.kind != Source::Kind::file || !std::filesystem::exists(status) ||
         std::filesystem::is_regular_file(status);
}

/// As the library does it.
config::Parsed as_read_by(const std::string& program, const Source& source) {
  auto parsed = config::load(source, patient_reader(), program);
  if (!config::wants_secrets(parsed.config)) return parsed;
  const auto file = rsock::read_file(parsed.config.options.secret.c_str(), config::kSecretsMost);
  config::take_secrets(parsed, source.name(), file, sys::effective_user());
  return parsed;
}

/// For whatever programs, since PROGRAM may start others.
bool selects_something(const Source& source) {
  const auto parsed = config::load(source, patient_reader(), std::nullopt);
  return std::ranges::any_of(parsed.config.rules.all(),
                             [](const auto& rule) { return rule.lane != config::Lane::tcp; });
}

std::string why_nothing(const Source& source) {
  std::error_code error;
  if (source.kind == Source::Kind::none)
    return fmt::format("{} or {} is set and empty", config::kRulesVariable, config::kConfigVariable);
  if (source.kind == Source::Kind::file && !std::filesystem::exists(source.text_or_path, error))
    return fmt::format("there is no {}, and neither --listen nor --connect was given", source.text_or_path);
  return fmt::format("{} has no rule that lets a flow into a lane", source.name());
}

}  // namespace

void tell_of_configuration(const std::string& program) {
  const auto source = config::find([](const char* name) -> const char* { return std::getenv(name); });
  if (!may_be_read(source)) return;
  const auto name = std::filesystem::path(program).filename().string();
  if (const auto parsed = as_read_by(name, source); !parsed.errors.empty()) {
    complain(parsed.errors);
    fmt::print(stderr, "rsock: nothing is selected, because of the mistake in the configuration\n");
  } else if (!selects_something(source)) {
    fmt::print(stderr, "rsock: nothing is selected: {}\n", why_nothing(source));
  }
}

}  // namespace rsock::tools
