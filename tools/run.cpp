#include "tools/run.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <variant>

#include "config/diagnostic.hpp"
#include "config/endpoint.hpp"
#include "config/lane.hpp"
#include "config/source.hpp"
#include "core/base/log.hpp"
#include "tools/configured.hpp"

namespace rsock::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLibrary = "librsock.so";

/// What the user wrote makes no sense.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// One [[rule]]. `option` is "--listen" or "--connect", and the key in the rule is what follows the dashes.
std::string rule_text(std::string_view option, std::string_view endpoint, std::string_view lane) {
  const auto parsed = config::parse_endpoint(endpoint);
  if (const auto* complaint = std::get_if<config::Complaint>(&parsed))
    throw UsageError(fmt::format("{}: {}", option, complaint->text));
  const auto normalised = config::to_string(std::get<config::Endpoint>(parsed));
  return fmt::format("[[rule]]\n{} = \"{}\"\nlane = \"{}\"\n", option.substr(2), normalised, lane);
}

std::string rules_text(const RunArguments& arguments) {
  if (!arguments.lane.empty() && !config::parse_lane(arguments.lane))
    throw UsageError(
        fmt::format("--lane: unknown lane {}; lanes are: {}", config::quoted(arguments.lane), config::lane_words()));
  if (!arguments.lane.empty() && arguments.listen.empty() && arguments.connect.empty())
    throw UsageError("--lane says nothing without --listen or --connect");
  const std::string_view lane = arguments.lane.empty() ? "auto" : std::string_view(arguments.lane);
  std::string text;
  for (const std::string& endpoint : arguments.listen) text += rule_text("--listen", endpoint, lane);
  for (const std::string& endpoint : arguments.connect) text += rule_text("--connect", endpoint, lane);
  return text;
}

/// PROGRAM may change its working folder before the library opens the file.
std::string absolute(std::string_view path) { return fs::absolute(path).string(); }

std::string log_text(std::string_view setting) {
  const auto colon = setting.find(':');
  const std::string_view level = setting.substr(0, colon);
  if (!log::level_named(level))
    throw UsageError(fmt::format("--log: unknown level {}; levels are: {}", config::quoted(level), log::kLevelWords));
  if (colon == setting.npos) return std::string(setting);
  if (colon + 1 == setting.size()) throw UsageError("--log: a file name must follow the colon");
  return fmt::format("{}:{}", level, absolute(setting.substr(colon + 1)));
}

/// Where the library of this command may be.
std::vector<std::string> places() {
  std::error_code error;
  const fs::path folder = fs::read_symlink("/proc/self/exe", error).parent_path();
  std::vector<std::string> files;
  for (const fs::path& place : {folder, folder / ".." / "lib", folder / RSOCK_LIBRARY_FROM_COMMAND})
    files.push_back((place / kLibrary).lexically_normal().string());
  return files;
}

/// LD_PRELOAD separates by colons and spaces, and has no way to quote them (ld.so(8)).
std::string preload_text(const std::string& library) {
  if (!library.starts_with('/'))
    throw UsageError(fmt::format("{} is not found; it was looked for as {}", kLibrary, fmt::join(places(), ", ")));
  if (library.find_first_of(": ") != library.npos)
    throw std::runtime_error(fmt::format("{} cannot be preloaded: its path has a colon or a space", library));
  const char* others = std::getenv("LD_PRELOAD");
  return others != nullptr && *others != '\0' ? fmt::format("{}:{}", library, others) : library;
}

using Variable = std::pair<const char*, std::string>;

std::vector<Variable> environment(const RunArguments& arguments) {
  std::vector<Variable> variables;
  if (std::string rules = rules_text(arguments); !rules.empty())
    variables.emplace_back(config::kRulesVariable, std::move(rules));
  if (!arguments.stats.empty()) variables.emplace_back("RSOCK_STATS_FILE", absolute(arguments.stats));
  if (!arguments.log.empty()) variables.emplace_back("RSOCK_LOG", log_text(arguments.log));
  variables.emplace_back("LD_PRELOAD", preload_text(find_library()));
  return variables;
}

}  // namespace

std::string find_library() {
  std::error_code error;
  for (const auto& file : places())
    if (fs::exists(file, error)) return file;
  return kLibrary;
}

ExitStatus become(const std::vector<std::string>& command) {
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  const int error = errno;
  fmt::print(stderr, "rsock: {}: {}\n", command[0], std::strerror(error));
  return error == ENOENT ? kNoSuchProgram : kCannotRun;
}

ExitStatus run(const RunArguments& arguments) {
  try {
    for (const auto& [name, value] : environment(arguments)) ::setenv(name, value.c_str(), 1);
    if (arguments.listen.empty() && arguments.connect.empty()) tell_of_configuration(arguments.command.front());
    if (!arguments.requirement.lane.empty()) return run_required(arguments.requirement, arguments.command);
    return become(arguments.command);
  } catch (const UsageError& error) {
    fmt::print(stderr, "rsock: {}\n", error.what());
    return kUsage;
  } catch (const std::exception& error) {
    fmt::print(stderr, "rsock: {}\n", error.what());
    return kCannotRun;
  }
}

}  // namespace rsock::tools
