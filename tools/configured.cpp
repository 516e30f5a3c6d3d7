#include "tools/configured.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "config/host_reader.hpp"
#include "config/secrets.hpp"
#include "config/source.hpp"
#include "core/base/kernel.hpp"
#include "tools/check_config.hpp"
#include "tools/doctor/checks.hpp"

namespace rsock::tools {
namespace {

using config::Source;

/// What is read from a pipe is not there for the program any more.
bool is_pipe(const Source& source) {
  std::error_code error;
  const auto type = std::filesystem::status(source.text_or_path, error).type();
  return source.kind == Source::Kind::file &&
         (type == std::filesystem::file_type::fifo || type == std::filesystem::file_type::socket);
}

/// One that has a name: /dev/fd/9 is the caller's, who has filled it.
bool is_named(const std::string& path) {
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error).string();
  return !error && !real.starts_with("/proc/");
}

/// As the library does it.
config::Parsed as_read_by(const std::string& program, const Source& source) {
  auto parsed = config::load(source, config::host_reader(sys::effective_user()), program);
  if (!config::wants_secrets(parsed.config)) return parsed;
  const auto file = rsock::read_file(parsed.config.options.secret.c_str(), config::kSecretsMost);
  config::take_secrets(parsed, source.name(), file, sys::effective_user());
  return parsed;
}

/// For whatever programs, since PROGRAM may start others.
bool selects_something(const Source& source) {
  const auto parsed = config::load(source, config::host_reader(sys::effective_user()), std::nullopt);
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
  if (is_pipe(source)) {
    if (is_named(source.text_or_path))
      fmt::print(stderr, "rsock: {} is a pipe: a process reads what is in it as it starts, and waits for nothing\n",
                 source.text_or_path);
    return;
  }
  const auto name = std::filesystem::path(program).filename().string();
  if (const auto parsed = as_read_by(name, source); !parsed.errors.empty()) {
    complain(parsed.errors);
    fmt::print(stderr, "rsock: nothing is selected, because of the mistake in the configuration\n");
  } else if (!selects_something(source)) {
    fmt::print(stderr, "rsock: nothing is selected: {}\n", why_nothing(source));
  }
}

std::string mistake_of(pid_t process) {
  const auto subject = doctor::Subject::find("/", std::to_string(process));
  if (!subject || !subject->why_unseen().empty()) return {};
  const auto source = doctor::configuration_of(*subject);
  std::error_code error;
  using Type = std::filesystem::file_type;
  const auto type = std::filesystem::status(subject->seen(source.text_or_path), error).type();
  // What a device or a pipe gives is not to be had twice.
  if (source.kind == Source::Kind::file && type != Type::regular && type != Type::directory && type != Type::not_found)
    return {};
  const auto parsed = doctor::read_configuration(*subject);
  return parsed.errors.empty() ? "" : config::to_string(parsed.errors.front());
}

}  // namespace rsock::tools
