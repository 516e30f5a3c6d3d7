#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/option_table.hpp"
#include "core/base/kernel.hpp"
#include "tools/capture/capture.hpp"
#include "tools/check.hpp"
#include "tools/check_config.hpp"
#include "tools/command.hpp"
#include "tools/completion.hpp"
#include "tools/doctor/doctor.hpp"
#include "tools/enable.hpp"
#include "tools/exit_status.hpp"
#include "tools/explain.hpp"
#include "tools/look.hpp"
#include "tools/manual.hpp"
#include "tools/operate.hpp"
#include "tools/run.hpp"
#include "tools/show_config.hpp"
#include "tools/time_option.hpp"

namespace rsock::tools {
namespace {

/// What the caller closed would be the first that is opened here. The program of `rsock run` has it closed as before.
void keep_standard_streams() {
  for (int fd = 0; fd <= STDERR_FILENO; ++fd)
    if (::fcntl(fd, F_GETFD) < 0) (void)::open("/dev/null", (fd == 0 ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
}

/// What was printed counts once it is written.
ExitStatus written(ExitStatus status) {
  const bool failed_before = std::ferror(stdout) != 0;
  errno = EIO;
  if (std::fflush(stdout) == 0 && !failed_before) return status;
  fmt::print(stderr, "rsock: standard output cannot be written: {}\n", std::strerror(errno));
  return status == kSuccess ? kFailure : status;
}

/// NaN is in every range.
CLI::Validator a_number() {
  return {[](std::string& text) {
            char* end = nullptr;
            return std::isfinite(std::strtod(text.c_str(), &end)) ? std::string() : text + " is no number";
          },
          ""};
}

/// PROGRAM is nothing that CLI11 knows of.
class HelpOfRun : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App*, std::string name) const override {
    return fmt::format("Usage: {} [OPTIONS] [--] PROGRAM [ARGUMENT...]\n", name);
  }
};

/// The command line as given.
struct CommandLine {
  CLI::App app{"Move selected TCP flows of unmodified programs onto RDMA", "rsock"};
  std::string config_path;
  bool man = false, manual = false;
  bool all = false;
  double within = 10;  // seconds
  RunArguments run_arguments;
  OperateArguments operate_arguments;
  LookArguments look_arguments;
  ExplainArguments explain_arguments;
  CaptureArguments capture_arguments;
  CLI::App* check = nullptr;
  CLI::App* run = nullptr;
  CLI::App* options = nullptr;
  CLI::App* lane = nullptr;
  CLI::App* reload = nullptr;
  CLI::App* list = nullptr;
  CLI::App* flows = nullptr;
  CLI::App* links = nullptr;
  CLI::App* stats = nullptr;
  CLI::App* top = nullptr;
  CLI::App* capture = nullptr;
  CLI::App* explain = nullptr;
  CLI::App* completions = nullptr;
  std::string shell;
  std::vector<Command> others;

  CommandLine() {
    app.set_version_flag("--version", "rsock " RSOCK_VERSION);
    app.require_subcommand(0, 1);
    app.add_flag("--man", manual, "Print the COMMANDS section of the manual page")->group("");
    app.failure_message([](const CLI::App*, const CLI::Error& error) {
      return fmt::format("rsock: {}\nsee rsock --help\n", error.what());
    });
    add_check_config();
    add_run();
    options = app.add_subcommand("options", "Print the keys of the [options] table: defaults, ranges, meaning");
    options->add_flag("--man", man, "as the OPTIONS section of a manual page");
    add_operators();
    add_lookers();
    add_capture();
    add_explain();
    add_completion();
    others.push_back(add_config(app));
    others.push_back(add_check(app));
    others.push_back(add_doctor(app));
    for (auto& command : add_units(app)) others.push_back(std::move(command));
  }

  /// What takes flows off their lanes is not for all processes by mistake.
  const OperateArguments& selected_processes() const {
    const auto& [pid, which, program] = operate_arguments.selection;
    if (operate_arguments.lane == "tcp" && !pid && program.empty() && !all)
      throw CLI::RequiredError("--pid, --program or --all");
    return operate_arguments;
  }

 private:
  void add_check_config() {
    check = app.add_subcommand("check-config", "Check a configuration file, and print its rules in their order");
    check->add_option("FILE", config_path, "the configuration, in TOML")->required();
  }

  void add_run() {
    run = app.add_subcommand("run", "Run a program with librsock preloaded");
    add_list("--listen", run_arguments.listen, "flows accepted here: ADDRESS:PORT, as in a rule; may be repeated");
    add_list("--connect", run_arguments.connect,
             "flows connected to there: ADDRESS:PORT, as in a rule; may be repeated");
    run->add_option("--lane", run_arguments.lane, "lane of these flows: auto (default), rdma, shm or tcp")
        ->type_name("LANE");
    run->add_option("--stats", run_arguments.stats, "write the program's counters there")->type_name("FILE");
    run->add_option("--log", run_arguments.log, "what to log, and where")->type_name("LEVEL[:FILE]");
    auto* require =
        run->add_option("--require", run_arguments.requirement.lane,
                        "end the program if no flow of it gets there in time: rdma, shm, or auto for either");
    require->check(CLI::IsMember({"auto", "rdma", "shm"}))->type_name("LANE");
    run->add_option("--within", within, "the time for --require (default 10s): 5s, 500ms, 2m")
        ->needs(require)
        ->transform(seconds_up_to(86400))
        ->type_name("TIME");
    run->prefix_command();
    run->formatter(std::make_shared<HelpOfRun>());
    run->footer(
        "PROGRAM and its arguments come last: rsock run --listen '*:6379' -- redis-server --save ''\n"
        "Without --listen and --connect, the configuration file says which flows are selected.\n"
        "With --require, rsock stays beside PROGRAM, hands on signals, and looks where the flows of it and of its "
        "children are.\n"
        "Exit status: that of PROGRAM; 126 it cannot be run, 127 there is none, 2 a wrong command line, or no "
        "librsock.so. "
        "With --require\n"
        "also: "
        "128+N signal N ended PROGRAM, 3 no flow got into LANE.");
  }

  void add_operators() {
    lane = app.add_subcommand("lane", "Move running flows off their lanes, or let them enter lanes again");
    lane->add_option("LANE", operate_arguments.lane,
                     "tcp: back to TCP, and stay there; auto: lanes may be entered again")
        ->required()
        ->check(CLI::IsMember({"tcp", "auto"}));
    add_selection(lane);
    add_port(lane);
    add_timeout(lane);
    lane->footer(
        "`rsock lane tcp` has to be told for which processes it is: --pid, --program or --all. Without these `rsock "
        "lane "
        "auto` is\n"
        "for all. Only processes of this user (of all users if run by root) in this network namespace that have flows "
        "or "
        "listeners\n"
        "selected by a rule are reached.\n"
        "It returns when the flows are on TCP at both ends; no byte is lost, and it is enough to say it at one end. "
        "New flows stay\n"
        "on TCP as well, for that port if one is given, and so do those of children, until `rsock lane auto`. Then "
        "flows enter lanes\n"
        "again, also those that never were in one: at once if it was said to the end that accepted them, else within "
        "five seconds.\n"
        "One line is printed for each process.\n" +
        std::string(kStatus));
    reload = app.add_subcommand("reload", "Make running programs read their rules again");
    add_selection(reload);
    add_timeout(reload);
    reload->footer(
        "Each process reads what it read at its start: the file of RSOCK_CONFIG, else /etc/rsock/rsock.toml, and the "
        "files\n"
        "conf.d/*.toml beside it. A file with a mistake changes nothing. The rules decide about new connections; flows "
        "that no rule selects any more go back\n"
        "to TCP. [options] take effect at the next start of the program only.\n" +
        std::string(kWhoAndStatus));
    list = app.add_subcommand("list", "Print the programs in which librsock is active, and where their flows are");
    add_selection(list);
    add_port(list);
    list->footer(
        "`rsock explain REASON` tells what is behind a reason in the last column. Programs that have the library and "
        "no control\n"
        "socket come last, and no other command reaches them: no rule has selected a flow or listener of theirs yet, "
        "or they\n"
        "have no descriptor left. A mistake in the configuration that they would read now is told. Behind them come "
        "those "
        "whose\n"
        "LD_PRELOAD names the library and that do not have it, with the reason.\n" +
        std::string(kWhoAndStatus));
  }

  void add_lookers() {
    flows = app.add_subcommand(
        "flows", "Print each flow of running programs: its lane, its ends, its bytes, and why it is on TCP");
    add_selection(flows);
    add_port(flows);
    add_json(flows);
    flows->footer(
        "Bytes are those that the program read and wrote, by whatever way, since a rule selected the flow; the rings "
        "are in bytes.\n"
        "full: how often a write found no room for all of it in the ring. `rsock explain REASON` tells what is behind "
        "a reason.\n" +
        std::string(kWhoAndStatus));
    links = app.add_subcommand("links", "Print the links of running programs, each of which carries flows to one peer");
    add_selection(links);
    add_json(links);
    links->footer(
        "credits: messages that the peer can take now. memory: bytes that count against the option max_pinned; over "
        "RDMA they are\n"
        "pinned. inline: bytes of a message that the device takes with the order. returns: flows that went from the "
        "link back to TCP.\n" +
        std::string(kWhoAndStatus));
    stats = app.add_subcommand("stats", "Print the counters of running programs, summed by program");
    add_selection(stats);
    auto* json = add_json(stats);
    stats->add_flag("--prometheus", look_arguments.prometheus, "in the text format of Prometheus")->excludes(json);
    stats->footer(
        "They are those of the statistics that a process writes at its end, see librsock(7), of the processes that run "
        "now.\n"
        "For node_exporter's textfile collector: rsock stats --prometheus >FILE.tmp; mv FILE.tmp FILE.prom\n" +
        std::string(kWhoAndStatus));
    top = app.add_subcommand("top", "Show flows of running programs and their rates, anew each second");
    add_selection(top);
    add_port(top);
    add_json(top)->description("as JSON, a list in a line each second");
    top->add_option("--count", look_arguments.count, "end after so many times (default: at SIGINT)")
        ->type_name("N")
        ->check(CLI::Range(1, 1000000000));
    top->footer("The fastest flows come first; rates are in bytes a second.\n" + std::string(kWhoAndStatus));
  }

  void add_capture() {
    capture = app.add_subcommand("capture", "Write what goes through lanes as a capture for Wireshark");
    add_selection(capture);
    add_port(capture);
    capture->add_option("-w", capture_arguments.file, "the file, in pcapng; -, or none: standard output")
        ->type_name("FILE");
    capture->add_option("--count", capture_arguments.count, "end after so many packets")
        ->type_name("N")
        ->check(CLI::Range(1, 1000000000));
    capture->add_option("--buffer", capture_arguments.buffer, "memory for each process (default 16)")
        ->type_name("MIB")
        ->check(CLI::Range(1, 1024));
    capture->footer(
        "Only root may capture; the bytes are in the file as programs wrote them. It ends at SIGINT or\n"
        "SIGTERM. Processes that begin meanwhile are captured within a second. What a flow sends and\n"
        "receives while it is on TCP is not captured: tcpdump sees that.\n"
        "The headers of IP and TCP are made up: addresses and ports are the flow's, a handshake stands\n"
        "where it is first seen, and sequence numbers count the program's bytes, so that what is missing\n"
        "shows as a gap. Each process is an interface. A connection whose two ends are captured is in the\n"
        "file once.\n"
        "No program waits for its capture. What finds no room in the buffer is lost; how much is said at\n"
        "the end and in the file. What a capture costs is in librsock(7).\n"
        "To look at it as it comes: rsock capture --port 6379 | tshark -r - -Y resp\n" +
        std::string(kWhoAndStatus));
  }

  CLI::Option* add_json(CLI::App* command) { return command->add_flag("--json", look_arguments.json, "as JSON"); }

  void add_completion() {
    completions =
        app.add_subcommand("completion", "Print a script that completes the command line of rsock in a shell");
    completions->add_option("SHELL", shell, "whose script it is")
        ->required()
        ->check(CLI::IsMember(std::vector<std::string>(std::begin(kShells), std::end(kShells))));
    completions->footer("In bash, for the shell that runs: source <(rsock completion bash)");
  }

  void add_explain() {
    explain = app.add_subcommand("explain", "Tell why flows are on TCP, how to see that, and what helps");
    explain
        ->add_option("REASON", explain_arguments.reason,
                     "as `rsock list` and the statistics name it; none: all are listed")
        ->type_name("");
    auto* json = explain->add_flag("--json", explain_arguments.json, "as JSON");
    auto* markdown = explain->add_flag("--markdown", explain_arguments.markdown,
                                       "the list of all as a table in Markdown, as in the README");
    auto* in_manual =
        explain->add_flag("--man", explain_arguments.man, "the list of all as a section of a manual page");
    markdown->excludes(json)->excludes(explain->get_option("REASON"));
    in_manual->excludes(json)->excludes(markdown)->excludes(explain->get_option("REASON"));
    explain->footer("Exit status: 0 told, 2 there is no such reason, or a wrong command line.");
  }

  static constexpr const char* kStatus =
      "Exit status: 0 all was done, 1 a process or some flows failed, 2 no such process or a wrong command line.";
  static constexpr const char* kWhoAndStatus =
      "Without --pid and --program it is for all processes of this user (of all users if run by root) in this network\n"
      "namespace that have flows or listeners selected by a rule.\n"
      "Exit status: 0 all was done, 1 a process or some flows failed, 2 no such process or a wrong command line.";

  void add_selection(CLI::App* command) {
    auto* pid = command->add_option("--pid", operate_arguments.selection.pid, "only the process with this id")
                    ->type_name("PID")
                    ->check(CLI::Range(1, INT_MAX));
    auto* program = command->add_option("--program", operate_arguments.selection.program,
                                        "only programs of this name, as in a rule: redis-*");
    program->type_name("PATTERN");
    auto* every = command->add_flag("--all", all, "all processes, which is the default but of `lane tcp`");
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
        ->check(a_number() & CLI::Range(0.0, 3600.0));
  }

  void add_list(const char* name, std::vector<std::string>& rules, const char* description) {
    run->add_option(name, rules, description)->type_name("RULE")->option_text("RULE")->allow_extra_args(false);
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
    line.run_arguments.requirement.within = std::chrono::duration<double>(line.within);
    return run(line.run_arguments);
  }
  if (line.check->parsed()) return check_config(line.config_path);
  if (line.lane->parsed()) return lane(line.selected_processes());
  if (line.reload->parsed()) return reload(line.operate_arguments);
  if (line.list->parsed()) return list(line.operate_arguments);
  if (line.flows->parsed()) return flows(line.operate_arguments, line.look_arguments);
  if (line.links->parsed()) return links(line.operate_arguments, line.look_arguments);
  if (line.stats->parsed()) return statistics(line.operate_arguments, line.look_arguments);
  if (line.top->parsed()) return top(line.operate_arguments, line.look_arguments);
  if (line.capture->parsed()) return capture(line.operate_arguments, line.capture_arguments);
  if (line.explain->parsed()) return explain(line.explain_arguments);
  if (line.completions->parsed()) {
    fmt::print("{}", completion(line.app, line.shell));
    return kSuccess;
  }
  for (const auto& [command, run] : line.others)
    if (command->parsed()) return run();
  if (line.manual) {
    fmt::print("{}", manual_of_commands(line.app));
    return kSuccess;
  }
  if (!line.options->parsed()) throw CLI::RequiredError("A command");
  fmt::print("{}", line.man ? config::man_section() : config::describe_options());
  return kSuccess;
}

}  // namespace
}  // namespace rsock::tools

int main(int argc, char** argv) {
  using namespace rsock::tools;
  rsock::kernel = {nullptr, &::ppoll, &::clock_gettime};
  keep_standard_streams();
  try {
    CommandLine line;
    try {
      return written(dispatch(line, Split({argv, static_cast<std::size_t>(argc)})));
    } catch (const CLI::ParseError& error) {
      return written(line.app.exit(error) == 0 ? kSuccess : kUsage);
    }
  } catch (const std::exception& error) {
    if (std::ferror(stdout) != 0) return written(kFailure);
    fmt::print(stderr, "rsock: {}\n", error.what());
    return kFailure;
  }
}
