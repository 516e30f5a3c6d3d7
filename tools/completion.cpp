#include "tools/completion.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string_view>
#include <vector>

#include "config/lane.hpp"
#include "core/base/log.hpp"
#include "tools/explain.hpp"
#include "tools/option_words.hpp"

namespace rsock::tools {
namespace {

/// What may stand for an option's value, or for a positional one.
struct Values {
  std::vector<std::string> words;
  bool files = false;
};

struct Switch {
  std::vector<std::string> names;  ///< with their dashes
  std::string description;
  bool takes_value = false;
  Values values;
};

struct Command {
  std::string name, description;
  bool starts_program = false;  ///< the rest of the line is another program's
  std::vector<Switch> switches;
  Values positional;
};

std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> words;
  for (std::size_t begin; (begin = list.find_first_not_of(", ")) != list.npos;) {
    list.remove_prefix(begin);
    const auto end = std::min(list.find_first_of(", "), list.size());
    words.emplace_back(list.substr(0, end));
    list.remove_prefix(end);
  }
  return words;
}

/// By what the help calls the value, and by the list that it is checked against.
Values values_of(const CLI::Option& option) {
  const auto type = option.get_type_name();
  const auto name = value_name(option);
  if (const auto begin = type.find('{'); begin != type.npos)
    return {split(type.substr(begin + 1, type.find('}') - begin - 1))};
  if (name == "LANE") return {split(config::lane_words())};
  if (name == "REASON") return {reason_keys()};
  if (name.starts_with("LEVEL")) return {split(log::kLevelWords)};
  return {{}, name == "FILE"};
}

Command describe(const CLI::App& app) {
  Command command{app.get_name(), app.get_description(), app.get_prefix_command(), {}, {}};
  for (const auto* option : app.get_options()) {
    if (option->get_positional()) {
      command.positional = values_of(*option);
      continue;
    }
    if (option->get_group().empty()) continue;  // nor does the help tell of it
    command.switches.push_back(
        {option_names(*option), option->get_description(), option->get_items_expected_max() > 0, values_of(*option)});
  }
  return command;
}

/// The application itself comes first, with an empty name.
std::vector<Command> describe_all(const CLI::App& app) {
  std::vector<Command> commands{describe(app)};
  commands.front().name.clear();
  for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    commands.push_back(describe(*command));
    commands.front().positional.words.push_back(command->get_name());
  }
  return commands;
}

/// In single quotes, as each of the shells reads them. fish alone knows a backslash there.
std::string in_quotes(std::string_view text, bool fish = false) {
  std::string all = "'";
  for (const char c : text) all += c != '\'' ? std::string(1, c) : fish ? "\\'" : "'\\''";
  return all + "'";
}

std::string names_of(const Command& command) {
  std::vector<std::string> names;
  for (const auto& one : command.switches) names.insert(names.end(), one.names.begin(), one.names.end());
  return fmt::format("{}", fmt::join(names, " "));
}

/// The names as a pattern of `case`, after the command's.
std::string pattern(const Command& command, const Switch& one) {
  std::vector<std::string> names;
  for (const auto& name : one.names) names.push_back(command.name + ":" + name);
  return fmt::format("{}", fmt::join(names, "|"));
}

std::string bash_values(const Values& values) {
  return values.files ? "files=1" : fmt::format("words={}", in_quotes(fmt::format("{}", fmt::join(values.words, " "))));
}

std::string bash(const std::vector<Command>& commands) {
  std::string skips, programs, values, switches, positionals;
  for (const auto& command : commands) {
    for (const auto& one : command.switches) {
      if (!one.takes_value) continue;
      skips += fmt::format("      {}) ((i++)) ;;\n", pattern(command, one));
      values += fmt::format("    {}) {} ;;\n", pattern(command, one), bash_values(one.values));
    }
    if (command.starts_program)
      programs += fmt::format("      {0}:--) program=$((i + 1)) ;;\n      {0}:[!-]*) program=$i ;;\n", command.name);
    switches +=
        fmt::format("        {}:-*) [[ $program ]] || words={} ;;\n", command.name, in_quotes(names_of(command)));
    const auto what = command.starts_program ? "program=$COMP_CWORD" : bash_values(command.positional);
    positionals += fmt::format("        {}:*) {} ;;\n", command.name, what);
  }
  return fmt::format(R"(# Completion of rsock in bash, made by `rsock completion bash`.
_rsock() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} command='' words='' files='' program='' i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD && ${{program:-COMP_CWORD}} >= COMP_CWORD; i++)); do
    case $command:${{COMP_WORDS[i]}} in
{}{}      :[!-]*) command=${{COMP_WORDS[i]}} ;;
    esac
  done
  if ((program && program < COMP_CWORD)); then
    if declare -F _command_offset >/dev/null; then
      _command_offset "$program"
    else
      mapfile -t COMPREPLY < <(compgen -f -- "$current")
    fi
    return
  fi
  case $command:$previous in
{}    *)
      case $command:$current in
{}{}      esac
      ;;
  esac
  if [[ $program ]]; then
    mapfile -t COMPREPLY < <(compgen -c -- "$current" | sort -u)
  elif [[ $files ]]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  fi
}}
complete -o filenames -F _rsock rsock
)",
                     skips, programs, values, switches, positionals);
}

std::string zsh_values(const Values& values) {
  return values.files ? ":file:_files" : fmt::format(":value:({})", fmt::join(values.words, " "));
}

/// Brackets and colons mean something in what describes an option.
std::string zsh_described(std::string_view text) {
  std::string all;
  for (const char c : text) all += (c == '[' || c == ']' || c == ':') ? std::string{'\\', c} : std::string(1, c);
  return all;
}

std::string zsh_arguments(const Command& command) {
  std::string arguments;
  for (const auto& one : command.switches)
    for (const auto& name : one.names)
      arguments += " " + in_quotes(fmt::format("*{}[{}]{}", name, zsh_described(one.description),
                                               one.takes_value ? zsh_values(one.values) : ""));
  if (command.starts_program) return arguments + R"( '(-)1:program:_command_names -e' '*::arguments:_normal')";
  if (command.positional.files || !command.positional.words.empty())
    arguments += " " + in_quotes("1" + zsh_values(command.positional));
  return arguments;
}

std::string zsh(const std::vector<Command>& commands) {
  std::string names, cases;
  for (const auto& command : commands) {
    if (command.name.empty()) continue;
    names += fmt::format("    {}\n", in_quotes(command.name + ":" + zsh_described(command.description)));
    cases += fmt::format("    {}) _arguments -s -S{} ;;\n", command.name, zsh_arguments(command));
  }
  auto own = commands.front();
  own.positional = {};
  return fmt::format(R"(#compdef rsock
# Completion of rsock in zsh, made by `rsock completion zsh`.
_rsock() {{
  local curcontext=$curcontext state line
  local -a commands=(
{})
  _arguments -C{} '1: :->command' '*:: :->arguments'
  if [[ $state == command ]]; then
    _describe command commands
  elif [[ $state == arguments ]]; then
    case $words[1] in
{}    esac
  fi
}}
if [[ $funcstack[1] == _rsock ]]; then _rsock "$@"; else compdef _rsock rsock; fi
)",
                     names, zsh_arguments(own), cases);
}

std::string fish_values(const Values& values) {
  if (values.files) return " -r -F";
  return fmt::format(
      " -x{}", values.words.empty() ? "" : " -a " + in_quotes(fmt::format("{}", fmt::join(values.words, " ")), true));
}

std::string fish(const std::vector<Command>& commands) {
  std::string script = "# Completion of rsock in fish, made by `rsock completion fish`.\ncomplete -c rsock -f\n";
  for (const auto& command : commands) {
    const auto condition =
        command.name.empty() ? std::string("__fish_use_subcommand") : "__fish_seen_subcommand_from " + command.name;
    const auto line = fmt::format("complete -c rsock -n {}", in_quotes(condition, true));
    for (const auto& one : command.switches) {
      script += line;
      for (const auto& name : one.names)
        script += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      script +=
          fmt::format("{} -d {}\n", one.takes_value ? fish_values(one.values) : "", in_quotes(one.description, true));
    }
    if (command.name.empty()) continue;
    script += fmt::format("complete -c rsock -n __fish_use_subcommand -a {} -d {}\n", command.name,
                          in_quotes(command.description, true));
    if (command.starts_program) script += line + " -x -a '(__fish_complete_subcommand --fcs-skip=2)'\n";
    if (command.positional.files) script += line + " -F\n";
    if (!command.positional.words.empty()) script += line + fish_values(command.positional) + "\n";
  }
  return script;
}

}  // namespace

std::string completion(const CLI::App& app, const std::string& shell) {
  const auto commands = describe_all(app);
  return shell == "zsh" ? zsh(commands) : shell == "fish" ? fish(commands) : bash(commands);
}

}  // namespace rsock::tools
