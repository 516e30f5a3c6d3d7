#include "tools/option_words.hpp"

#include <CLI/CLI.hpp>

namespace rsock::tools {

std::vector<std::string> option_names(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const auto& name : option.get_snames()) names.push_back("-" + name);
  for (const auto& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

// What a value is checked for comes behind a colon, "PID:POSITIVE". One in brackets is the name's own.
std::string value_name(const CLI::Option& option) {
  if (option.get_positional()) return option.get_name(true);
  if (option.get_items_expected_max() == 0) return "";
  const auto type = option.get_type_name();
  auto end = type.find(':');
  while (end != type.npos && end > 0 && type[end - 1] == '[') end = type.find(':', end + 1);
  return type.substr(0, end);
}

}  // namespace rsock::tools
