#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/option_table.hpp"
#include "tools/check_config.hpp"
#include "tools/exit_status.hpp"
#include "tools/run.hpp"

namespace rsock::tools {
namespace {

/// The command line as given.
struct CommandLine {
  CLI::App app{"Move selected TCP flows of unmodified programs onto RDMA", "rsock"};
  std::string config_path;
  bool man = false;
  RunArguments run_arguments;
  CLI::App* check = nullptr;
  CLI::App* run = nullptr;
  CLI::App* options = nullptr;

  CommandLine() {
    app.set_version_flag("--version", "rsock " RSOCK_VERSION);
    app.require_subcommand(0, 1);
    app.failure_message([](const CLI::App*, const CLI::Error& error) {
      return fmt::format("rsock: {}\nsee rsock --help\n", error.what());
    });
    add_check();
    add_run();
    options =
        app.add_subcommand("options", "Print the keys of the [options] table: defaults, ranges, meaning");
    options->add_flag("--man", man, "as the OPTIONS section of a manual page");
  }

 private:
  void add_check() {
    check =
        app.add_subcommand("check-config", "Check a configuration file, and print its rules in their order");
    check->add_option("FILE", config_path, "the configuration, in TOML")->required();
  }

  void add_run() {
    run = app.add_subcommand("run", "Run a program with librsock preloaded");
    add_list("--listen", run_arguments.listen,
             "flows accepted here: ADDRESS:PORT, as in a rule; may be repeated");
    add_list("--connect", run_arguments.connect,
             "flows connected to there: ADDRESS:PORT, as in a rule; may be repeated");
    run->add_option("--lane", run_arguments.lane, "lane of these flows: auto (default), rdma, shm or tcp")
        ->type_name("LANE");
    run->add_option("--stats", run_arguments.stats, "write the program's counters there")->type_name("FILE");
    run->add_option("--log", run_arguments.log, "what to log, and where")->type_name("LEVEL[:FILE]");
    run->prefix_command();
    run->footer(
        "PROGRAM and its arguments come last: rsock run --listen '*:6379' -- redis-server --save ''\n"
        "Without --listen and --connect, the configuration file says which flows are selected.");
  }

  void add_list(const char* name, std::vector<std::string>& list, const char* description) {
    run->add_option(name, list, description)->type_name("RULE")->allow_extra_args(false);
  }
};

/// Arguments before the first "--", which are ours, and those after it. CLI11 would read meaning into the
/// latter: it splits "[a,b]", for one. Commands other than run leave "--" to CLI11.
struct Split {
  explicit Split(std::span<char*> arguments) : ours(arguments) {
    const auto mark = std::ranges::find(arguments, std::string_view("--"));
    has_mark = mark != arguments.end() && arguments[1] == std::string_view("run");
    if (!has_mark) return;
    ours = {arguments.begin(), mark};
    after = {mark + 1, arguments.end()};
  }

  std::span<char*> ours;
  std::span<char*> after;
  bool has_mark = false;
};

/// PROGRAM and its arguments. It may also stand before the "--", which is then an argument of its own.
std::vector<std::string> command(const Split& split, std::vector<std::string> words) {
  if (!words.empty() && words.front().starts_with('-')) throw CLI::ExtrasError({words.front()});
  if (!words.empty() && split.has_mark) words.emplace_back("--");
  words.insert(words.end(), split.after.begin(), split.after.end());
  if (words.empty()) throw CLI::RequiredError("PROGRAM");
  return words;
}

ExitStatus dispatch(CommandLine& line, const Split& split) {
  line.app.parse(static_cast<int>(split.ours.size()), split.ours.data());
  if (line.run->parsed()) {
    line.run_arguments.command = command(split, line.run->remaining());
    return run(line.run_arguments);
  }
  if (line.check->parsed()) return check_config(line.config_path);
  if (!line.options->parsed()) throw CLI::RequiredError("A command");
  fmt::print("{}", line.man ? config::man_section() : config::describe_options());
  return kSuccess;
}

}  // namespace
}  // namespace rsock::tools

int main(int argc, char** argv) {
  using namespace rsock::tools;
  try {
    CommandLine line;
    try {
      return dispatch(line, Split({argv, static_cast<std::size_t>(argc)}));
    } catch (const CLI::ParseError& error) {
      return line.app.exit(error) == 0 ? kSuccess : kUsage;
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "rsock: {}\n", error.what());
    return kFailure;
  }
}
