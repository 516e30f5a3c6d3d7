#include "tools/enable.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "config/source.hpp"
#include "tools/loaded.hpp"
#include "tools/processes.hpp"
#include "tools/run.hpp"
#include "tools/sandbox.hpp"
#include "tools/unit_file.hpp"

namespace rsock::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFile = "50-rsock.conf";
constexpr std::string_view kMark = "# Made by `rsock enable`; `rsock disable` takes it away.\n";

struct UnitArguments {
  std::string unit;
  std::string root = "/";
  std::string library;  ///< empty: the one that belongs to this command
  std::string config;   ///< empty: the default path
  std::string lane = "auto";
};

fs::path drop_in(const UnitArguments& arguments, const Unit& unit) {
  return fs::path(arguments.root) / "etc/systemd/system" / (unit.name() + ".d") / kFile;
}

fs::path below(const std::string& root, const fs::path& path) { return fs::path(root) / path.relative_path(); }

std::optional<std::string> text_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return std::nullopt;
  return std::string{std::istreambuf_iterator<char>(stream), {}};
}

/// Of a template only the instances run.
std::string restart_of(const std::string& unit) {
  const auto at = unit.find("@.");
  return at == unit.npos ? fmt::format("systemctl restart {}", unit)
                         : fmt::format("systemctl restart '{}'", std::string(unit).insert(at + 1, "*"));
}

ExitStatus no_unit(const UnitArguments& arguments) {
  fmt::print(stderr, "rsock: there is no unit {} here\n", printable(arguments.unit));
  return kUsage;
}

ExitStatus failed(const fs::path& file, std::string_view what) {
  fmt::print(stderr, "rsock: {}: {}\n", printable(file.string()), what);
  return kFailure;
}

/// A file of that name that somebody else made stays as it is.
bool is_others(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(file, error))) return false;
  const auto text = fs::is_regular_file(fs::symlink_status(file, error)) ? text_of(file) : std::nullopt;
  return !text || !text->starts_with(kMark);
}

/// A value of Environment= (systemd.exec(5)).
std::string assignment(std::string_view name, std::string_view value) {
  std::string quoted;
  for (const char c : value) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (c == '%') quoted += '%';
    quoted += c;
  }
  return fmt::format("Environment=\"{}={}\"\n", name, quoted);
}

/// The entries of LD_PRELOAD that the unit has already stay, behind ours.
std::string preload(const std::string& library, const Unit& unit) {
  const auto others = unit.variable("LD_PRELOAD").value_or("");
  return others.empty() ? library : fmt::format("{}:{}", library, others);
}

std::string contents(const std::string& library, const std::string& config, const Unit& unit,
                     const std::vector<Hindrance>& all) {
  std::string text = std::string(kMark) + "[Service]\n" + assignment("LD_PRELOAD", preload(library, unit));
  if (!config.empty()) text += assignment(config::kConfigVariable, config);
  for (const auto& [setting, what, lines, keeps_out] : all) {
    if (lines.empty()) continue;
    text += fmt::format("# {}: {}\n{}\n", setting, what, fmt::join(lines, "\n"));
  }
  return text;
}

/// Whole, or not at all.
int write(const fs::path& file, const std::string& text) {
  std::error_code error;
  fs::create_directories(file.parent_path(), error);
  if (error) return error.value();
  auto temporary = (file.parent_path() / ".rsock-XXXXXX").string();
  const int fd = ::mkstemp(temporary.data());
  if (fd < 0) return errno;
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                       ::fchmod(fd, 0644) == 0 && ::fsync(fd) == 0 && ::rename(temporary.c_str(), file.c_str()) == 0;
  const int fault = written ? 0 : errno;
  ::close(fd);
  if (!written) ::unlink(temporary.c_str());
  return fault;
}

/// "", if nothing is to be named: the default file is absent, and conf.d alone may be there.
std::string path_of_config(const UnitArguments& arguments) {
  if (!arguments.config.empty()) return fs::absolute(arguments.config).lexically_normal();
  std::error_code error;
  return fs::exists(below(arguments.root, config::kDefaultPath), error) ? config::kDefaultPath : "";
}

void tell(const std::vector<Hindrance>& all) {
  for (const auto& [setting, what, lines, keeps_out] : all)
    if (lines.empty())
      fmt::print(stderr, "rsock: not changed: {}: {}\n", printable(setting), printable(what));
    else
      fmt::print("loosened: {}: {}: {}\n", printable(setting), printable(what),
                 printable(fmt::format("{}", fmt::join(lines, ", "))));
}

/// Whether what the unit's files say in the end preloads the library, or a file behind `ours` overrides that: says so.
bool has_the_last_word(const UnitArguments& arguments, const std::string& unit_name, const fs::path& ours) {
  const auto unit = Unit::find(arguments.root, unit_name);
  const auto value = unit ? unit->variable("LD_PRELOAD") : std::nullopt;
  if (unit && !library_in(value.value_or("")).empty()) return true;
  std::vector<std::string> later;
  if (unit) {
    const auto& files = unit->files();
    const auto at = std::ranges::find(files, ours);
    for (auto one = at == files.end() ? at : std::next(at); one != files.end(); ++one) later.push_back(one->string());
  }
  fmt::print(stderr, "rsock: {}: LD_PRELOAD is {} in the end, without the library: {} has the last word\n",
             printable(unit_name), value ? printable("\"" + *value + "\"") : "not set",
             later.empty() ? "another setting of it" : printable(fmt::format("{}", fmt::join(later, ", "))));
  return false;
}

ExitStatus enable(const UnitArguments& arguments) {
  const auto found = Unit::find(arguments.root, arguments.unit);
  if (!found) return no_unit(arguments);
  const auto file = drop_in(arguments, *found);
  if (is_others(file)) return failed(file, "is not made by `rsock enable`, and stays as it is");
  // As it would be without us: to enable it once more changes nothing.
  const auto unit = Unit::find_without(arguments.root, arguments.unit, file);
  const auto library =
      arguments.library.empty() ? find_library() : fs::absolute(arguments.library).lexically_normal().string();
  if (!library.starts_with('/'))
    return failed(library, "is not found beside this command, nor where it is installed; name it by --library");
  if (library.find_first_of(": ") != library.npos)
    return failed(library, "cannot be preloaded: its path has a colon or a space");
  std::error_code error;
  if (!fs::exists(below(arguments.root, library), error) && !fs::exists(library, error))
    return failed(library, "there is no such file");
  const auto config = path_of_config(arguments);
  const auto all = hindrances(*unit, {library, config, arguments.lane != "shm", arguments.root});
  const auto text = contents(library, config, *unit, all);
  if (text.find('\0') != text.npos || std::ranges::count(library + config, '\n') != 0)
    return failed(file, "a path has an end of line");
  if (const int fault = write(file, text)) return failed(file, std::strerror(fault));
  if (!has_the_last_word(arguments, unit->name(), file)) {
    fmt::print("{} is not enabled, though {} is written\n", unit->name(), file.string());
    return kFailure;
  }
  fmt::print("{} is enabled: {}\n", unit->name(), file.string());
  tell(all);
  if (config.empty() || !fs::exists(below(arguments.root, config), error))
    fmt::print("next: write rules to {}, and `rsock check-config` it\n",
               config.empty() ? config::kDefaultPath : config);
  fmt::print("next: systemctl daemon-reload && {}\n", restart_of(unit->name()));
  fmt::print("then: rsock status {}\n", unit->name());
  return kSuccess;
}

ExitStatus disable(const UnitArguments& arguments) {
  const auto unit = Unit::find(arguments.root, arguments.unit);
  // A unit that is gone may have left its drop-in.
  const auto name = unit                                   ? unit->name()
                    : arguments.unit.ends_with(".service") ? arguments.unit
                                                           : arguments.unit + ".service";
  if (name.find('/') != name.npos) return no_unit(arguments);
  const auto file = fs::path(arguments.root) / "etc/systemd/system" / (name + ".d") / kFile;
  std::error_code error;
  if (!fs::exists(fs::symlink_status(file, error))) {
    if (!unit) return no_unit(arguments);
    fmt::print("{} is not enabled\n", name);
    return kSuccess;
  }
  if (is_others(file)) return failed(file, "is not made by `rsock enable`, and stays as it is");
  if (!fs::remove(file, error)) return failed(file, error.message());
  fmt::print("{} is disabled: {} is removed\nnext: systemctl daemon-reload && {}\n", name, file.string(),
             restart_of(name));
  return kSuccess;
}

/// "0::/system.slice/redis-server.service", and groups below that.
bool is_of(const std::string& groups, const std::string& unit) {
  const auto wanted = "/" + unit;
  for (auto at = groups.find(wanted); at != groups.npos; at = groups.find(wanted, at + 1)) {
    const auto end = at + wanted.size();
    if (end == groups.size() || groups[end] == '\n' || groups[end] == '/') return true;
  }
  return false;
}

/// Tells of each process of the unit, and whether all have the library; nothing if there is none.
std::optional<bool> tell_of_processes(const UnitArguments& arguments, const Unit& unit) {
  std::error_code error;
  std::optional<bool> all;
  for (const auto& entry : fs::directory_iterator(fs::path(arguments.root) / "proc", error)) {
    const auto pid = entry.path().filename().string();
    if (!std::ranges::all_of(pid, [](unsigned char c) { return std::isdigit(c); })) continue;
    if (!is_of(text_of(entry.path() / "cgroup").value_or(""), unit.name())) continue;
    auto program = text_of(entry.path() / "comm").value_or("?");
    program.erase(std::min(program.find('\n'), program.size()));
    const auto maps = text_of(entry.path() / "maps").value_or("");
    const bool has = maps.find("/librsock.so") != maps.npos;
    fmt::print("{}[{}]: {}\n", printable(program), pid,
               has            ? "has the library"
               : maps.empty() ? "cannot be seen"
                              : "runs without the library");
    all = all.value_or(true) && has;
  }
  return all;
}

ExitStatus status(const UnitArguments& arguments) {
  const auto unit = Unit::find(arguments.root, arguments.unit);
  if (!unit) return no_unit(arguments);
  const auto file = drop_in(arguments, *unit);
  std::error_code error;
  const bool written = fs::exists(file, error) && !is_others(file);
  const bool enabled = written && has_the_last_word(arguments, unit->name(), file);
  fmt::print("{}: {}\n", unit->name(), enabled ? fmt::format("enabled by {}", file.string()) : "not enabled");
  const auto all = tell_of_processes(arguments, *unit);
  if (!all) fmt::print("no process of it runs\n");
  if (enabled && !all.value_or(true)) fmt::print("next: systemctl daemon-reload && {}\n", restart_of(unit->name()));
  return enabled && all.value_or(true) ? kSuccess : kFailure;
}

CLI::App* add(CLI::App& app, const char* name, const char* description, UnitArguments& arguments) {
  auto* command = app.add_subcommand(name, description);
  command->add_option("UNIT", arguments.unit, "a service of systemd: redis-server, or redis-server.service")
      ->required();
  command->add_option("--root", arguments.root, "the folder that the files of the host are below")->type_name("DIR");
  return command;
}

}  // namespace

std::vector<Command> add_units(CLI::App& app) {
  const auto arguments = std::make_shared<UnitArguments>();
  auto* on = add(app, "enable", "Let a service of systemd run with librsock preloaded", *arguments);
  on->add_option("--config", arguments->config, "its configuration (default /etc/rsock/rsock.toml)")->type_name("FILE");
  on->add_option("--library", arguments->library, "another librsock.so than that of this command")->type_name("FILE");
  on->add_option("--lane", arguments->lane, "shm: what only RDMA needs stays forbidden; auto (default): it is allowed")
      ->check(CLI::IsMember({"auto", "shm"}))
      ->type_name("LANE");
  on->footer(
      "It writes /etc/systemd/system/UNIT.d/50-rsock.conf, which sets LD_PRELOAD, and RSOCK_CONFIG where --config is "
      "given or the\n"
      "default file is there. It also allows what the unit's sandbox forbids the library: each setting is printed. The "
      "unit is not\n"
      "changed, and nothing is restarted.\n"
      "Exit status: 0 enabled, 1 it cannot be written, or another file of the unit overrides it, 2 no such unit or a "
      "wrong command\n"
      "line.");
  auto* off = add(app, "disable", "Let a service of systemd run without librsock again", *arguments);
  off->footer(
      "It removes the file that `rsock enable` wrote, and no other.\n"
      "Exit status: 0 it is not there any more, 1 it cannot be removed, 2 no such unit or a wrong command "
      "line.");
  auto* told = add(app, "status",
                   "Tell whether a service of systemd is enabled, and whether its processes have librsock", *arguments);
  told->footer(
      "Exit status: 0 it is enabled and no process lacks the library, 1 it is not so, 2 no such unit or a "
      "wrong command line.");
  return {{on, [arguments] { return enable(*arguments); }},
          {off, [arguments] { return disable(*arguments); }},
          {told, [arguments] { return status(*arguments); }}};
}

}  // namespace rsock::tools
