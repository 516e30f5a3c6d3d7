#include "tools/show_config.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "config/option_table.hpp"
#include "config/secrets.hpp"
#include "config/source.hpp"
#include "core/base/kernel.hpp"
#include "tools/check_config.hpp"
#include "tools/processes.hpp"

namespace rsock::tools {
namespace {

using config::Parsed;
using config::Place;
using config::Source;
using Json = nlohmann::ordered_json;

/// The variable that says what is read; null: none does.
const char* variable_in_force() {
  for (const char* name : {config::kRulesVariable, config::kConfigVariable})
    if (std::getenv(name) != nullptr) return name;
  return nullptr;
}

std::string told_of(const Source& source) {
  const char* variable = variable_in_force();
  if (source.kind == Source::Kind::none) return fmt::format("none, since {} is set and empty", variable);
  if (source.kind == Source::Kind::text) return fmt::format("the environment variable {}", variable);
  return fmt::format("{}, {}", source.text_or_path,
                     variable ? fmt::format("as the environment variable {} says", variable) : "the default");
}

std::string told_of(const Place& place) {
  return place.file.empty() ? "default" : printable(fmt::format("{}:{}", place.file, place.line));
}

using Lines = std::vector<std::pair<std::string, std::string>>;  // what, and where it is from

void print(const Lines& lines) {
  constexpr std::size_t kWidth = 60;
  std::size_t width = 0;
  for (const auto& [what, from] : lines) width = std::max(width, std::min(what.size(), kWidth));
  for (const auto& [what, from] : lines) fmt::print("{:<{}}  {}\n", printable(what), width, from);
}

void print(const Source& source, const Parsed& parsed) {
  fmt::print("configuration: {}\n", printable(told_of(source)));
  if (source.kind == Source::Kind::file) {
    for (const auto& file : parsed.files) fmt::print("read: {}\n", printable(file));
    if (parsed.files.empty()) fmt::print("read: nothing, there is no such file\n");
  }
  Lines lines;
  const auto& [rules, options, secrets] = parsed.config;
  for (std::size_t i = 0; const auto& option : config::option_table())
    lines.emplace_back(fmt::format("{} = {}", option.name, config::shown(options, option)),
                       told_of(parsed.options[i++]));
  fmt::print("\noptions:\n");
  print(lines);
  lines.clear();
  for (std::size_t i = 0; const auto& rule : rules.all())
    lines.emplace_back(config::to_string(rule), told_of(parsed.rules[i++]));
  fmt::print("\nrules, of which the first that fits decides:\n");
  print(lines);
  if (lines.empty()) fmt::print("no rules: nothing is selected\n");
}

Json json_of(const Place& place) {
  if (place.file.empty()) return {{"from", "default"}};
  if (place.file == config::kRulesVariable)
    return {{"from", "environment"}, {"variable", place.file}, {"line", place.line}};
  return {{"from", "file"}, {"file", place.file}, {"line", place.line}};
}

Json json_of(const config::OptionValue& value) {
  return std::visit([](const auto& one) { return Json(one); }, value);
}

Json json_of(const config::Rule& rule) {
  Json json = {{rule.side == config::Rule::Side::listen ? "listen" : "connect", config::to_string(rule.endpoint)},
               {"lane", config::to_string(rule.lane)}};
  if (!rule.program.empty()) json["program"] = rule.program;
  return json;
}

Json json_of(const Source& source, const Parsed& parsed) {
  const char* variable = variable_in_force();
  Json json = {{"variable", variable ? Json(variable) : Json()}, {"path", Json()}, {"files", Json::array()}};
  if (source.kind == Source::Kind::file) json["path"] = source.text_or_path, json["files"] = parsed.files;
  auto& errors = json["errors"] = Json::array();
  for (const auto& error : parsed.errors)
    errors.push_back(
        {{"file", error.file}, {"line", error.line}, {"column", error.column}, {"message", error.message}});
  json["options"] = Json::object();
  json["rules"] = Json::array();
  if (parsed.options.empty()) return json;
  const auto place = [](Json&& what, const Place& where) {
    what.update(json_of(where));
    return what;
  };
  for (std::size_t i = 0; const auto& option : config::option_table())
    json["options"][std::string(option.name)] =
        place({{"value", json_of(config::value_of(parsed.config.options, option))}}, parsed.options[i++]);
  for (std::size_t i = 0; const auto& rule : parsed.config.rules.all())
    json["rules"].push_back(place(json_of(rule), parsed.rules[i++]));
  return json;
}

/// The values are shown, also where the secret that they name is none.
std::vector<config::Diagnostic> wrong_with_secret(Parsed parsed, const Source& source) {
  const auto path = parsed.config.options.secret;
  if (path.empty()) return {};
  config::take_secrets(parsed, source.name(), rsock::read_file(path.c_str(), config::kSecretsMost),
                       sys::effective_user());
  return parsed.errors;
}

ExitStatus show(bool json) {
  const auto source = config::find([](const char* name) -> const char* { return std::getenv(name); });
  auto parsed = source.kind == Source::Kind::none ? config::parse("", "", "")
                                                  : config::load(source, patient_reader(), std::nullopt);
  if (parsed.errors.empty()) parsed.errors = wrong_with_secret(parsed, source);
  if (json)
    fmt::print("{}\n", json_of(source, parsed).dump(2, ' ', false, Json::error_handler_t::replace));
  else if (!parsed.options.empty())
    print(source, parsed);
  return parsed.errors.empty() ? kSuccess : complain(parsed.errors);
}

}  // namespace

Command add_config(CLI::App& app) {
  auto* command =
      app.add_subcommand("config", "Print the options and rules that are in force, and where each is written");
  const auto json = std::make_shared<bool>();
  command->add_flag("--json", *json, "as JSON; sizes are in bytes");
  command->footer(
      "It reads what a program would read that is started here: RSOCK_RULES, else the file of RSOCK_CONFIG, "
      "else\n"
      "/etc/rsock/rsock.toml, and after a file the files conf.d/*.toml beside it.\n"
      "Exit status: 0 printed, 1 the configuration has a mistake, 2 a wrong command line.");
  return {command, [json] { return show(*json); }};
}

}  // namespace rsock::tools
