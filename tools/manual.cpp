#include "tools/manual.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string_view>

#include "core/base/reason.hpp"
#include "tools/option_words.hpp"

namespace rsock::tools {
namespace {

/// `text` as roff prints it: lines stay lines, and what is in backquotes is bold.
std::string roff(std::string_view text) {
  std::string out;
  bool bold = false;
  for (const char c : text) {
    if (c == '`') {
      out += (bold = !bold) ? "\\fB" : "\\fR";
      continue;
    }
    if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n')) out += "\\&";
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else if (c == '\'')
      out += "\\(aq";
    else
      out += c;
  }
  return out;
}

std::string described(const CLI::Option& option) {
  const auto value = roff(value_name(option));
  auto term = fmt::format("\\fB{}\\fR", value);
  if (!option.get_positional()) {
    const auto names = roff(fmt::format("{}", fmt::join(option_names(option), ", ")));
    term = fmt::format("\\fB{}\\fR\\fI{}{}\\fR", names, value.empty() ? "" : " ", value);
  }
  return fmt::format(".TP\n{}\n{}\n", term, roff(option.get_description()));
}

std::string described(const CLI::App& command) {
  auto out = fmt::format(".SS rsock {}\n{}.\n", roff(command.get_name()), roff(command.get_description()));
  for (const auto* option : command.get_options())
    if (option != command.get_help_ptr() && !option->get_group().empty()) out += described(*option);
  if (!command.get_footer().empty()) out += fmt::format(".PP\n{}\n", roff(command.get_footer()));
  return out;
}

}  // namespace

std::string manual_of_commands(const CLI::App& app) {
  std::string out = ".SH COMMANDS\n";
  for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) out += described(*command);
  return out;
}

std::string manual_of_reasons() {
  std::string out =
      ".SH REASONS\nWhy a selected connection is on TCP, as the statistics, the log and\n.B rsock list\nsay it. "
      "More:\n.BR \"rsock explain\" .\n";
  for (const auto& reason : kReasonTexts)
    out += fmt::format(".TP\n.B {}\n{}.\n{}\n", roff(reason.key), roff(reason.meaning), roff(reason.remedy));
  return out;
}

}  // namespace rsock::tools
