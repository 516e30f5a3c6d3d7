#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "config/option_table.hpp"
#include "core/base/kernel.hpp"
#include "tools/check_config.hpp"
#include "tools/exit_status.hpp"
#include "tools/operate.hpp"
#include "tools/run.hpp"

namespace rsock::tools {
namespace {

/// The command line as given.
struct CommandLine {
  CLI::App app{"Move selected TCP flows of unmodified programs onto RDMA", "rsock"};
  std::string config_path;
  bool man = false;
  bool all = false;
  RunArguments run_arguments;
  OperateArguments operate_arguments;
  CLI::App* check = nullptr;
  CLI::App* run = nullptr;
  CLI::App* options = nullptr;
  CLI::App* lane = nullptr;
  CLI::App* reload = nullptr;
  CLI::App* flows = nullptr;

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
    add_operators();
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

  void add_operators() {
    lane = app.add_subcommand("lane", "Move running flows off their lanes, or let them enter lanes again");
    lane->add_option("LANE", operate_arguments.lane, "tcp: back to TCP, and stay there; auto: lanes may be entered again")
        ->required()
        ->check(CLI::IsMember({"tcp", "auto"}));
    add_selection(lane);
    add_port(lane);
    add_timeout(lane);
    lane->footer(
        "`rsock lane tcp` returns when the flows are on TCP at both ends; no byte is lost. New flows stay on TCP as well,\n"
        "for that port if one is given, until `rsock lane auto`. One line is printed for each process.\n" +
        std::string(kWhoAndStatus));
    reload = app.add_subcommand("reload", "Make running programs read their rules again");
    add_selection(reload);
    add_timeout(reload);
    reload->footer(
        "Each process reads what it read at its start: the file of RSOCK_CONFIG, else /etc/rsock/rsock.toml. A file with\n"
        "a mistake changes nothing. The rules decide about new connections; flows that no rule selects any more go back\n"
        "to TCP. [options] take effect at the next start of the program only.\n" +
        std::string(kWhoAndStatus));
    flows = app.add_subcommand("list", "Print the programs in which librsock is active, and where their flows are");
    add_selection(flows);
    add_port(flows);
    flows->footer(kWhoAndStatus);
  }

  static constexpr const char* kWhoAndStatus =
      "Without --pid and --program it is for all processes of this user (of all users if run by root) in this network\n"
      "namespace that have flows or listeners selected by a rule.\n"
      "Exit status: 0 all was done, 1 a process or some flows failed, 2 no such process or a wrong command line.";

  void add_selection(CLI::App* command) {
    auto* pid = command->add_option("--pid", operate_arguments.selection.pid, "only the process with this id")
                    ->type_name("PID")
                    ->check(CLI::PositiveNumber);
    auto* program = command->add_option("--program", operate_arguments.selection.program,
                                        "only programs of this name, as in a rule: redis-*");
    program->type_name("PATTERN");
    auto* every = command->add_flag("--all", all, "all processes, which is the default");
    pid->excludes(program)->excludes(every);
    program->excludes(every);
  }
  void add_port(CLI::App* command) {
    command->add_option("--port", operate_arguments.port, "only flows that have this port at either end")
        ->type_name("N")
        ->check(CLI::Range(1, 65535));
  }
  void add_timeout(CLI::App* command) {
    command->add_option("--timeout", operate_arguments.timeout, "how long flows may take to leave (default 10)")
        ->type_name("SECONDS")
        ->check(CLI::Range(0.0, 3600.0));
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
  if (line.lane->parsed()) return lane(line.operate_arguments);
  if (line.reload->parsed()) return reload(line.operate_arguments);
  if (line.flows->parsed()) return list(line.operate_arguments);
  if (!line.options->parsed()) throw CLI::RequiredError("A command");
  fmt::print("{}", line.man ? config::man_section() : config::describe_options());
  return kSuccess;
}

}  // namespace
}  // namespace rsock::tools

int main(int argc, char** argv) {
  using namespace rsock::tools;
  rsock::kernel = {&::syscall, &::epoll_pwait2, &::ppoll};
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
