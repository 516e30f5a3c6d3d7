#include "tools/explain.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>

#include "config/diagnostic.hpp"
#include "core/base/reason.hpp"
#include "tools/manual.hpp"

namespace rsock::tools {
namespace {

constexpr std::size_t kWidth = 96;

const ReasonTexts* find(std::string_view key) {
  const auto found = std::ranges::find(kReasonTexts, key, &ReasonTexts::key);
  return found == std::end(kReasonTexts) ? nullptr : found;
}

/// `text` in lines of at most kWidth, each behind the same indentation.
std::string wrapped(std::string_view text, std::size_t indentation) {
  std::string lines;
  for (std::size_t column = indentation; !text.empty();) {
    const auto word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    if (column > indentation && column + 1 + word.size() > kWidth) {
      lines += '\n' + std::string(indentation, ' ');
      column = indentation;
    } else if (column > indentation) {
      lines += ' ', ++column;
    }
    lines += word, column += word.size();
  }
  return lines;
}

void print(const ReasonTexts& reason) {
  constexpr std::size_t kIndentation = 8;
  fmt::print("{}: {}\n", reason.key, reason.meaning);
  for (const auto& [title, text] :
       {std::pair("cause", reason.cause), {"proof", reason.proof}, {"remedy", reason.remedy}})
    fmt::print("{:<{}}{}\n", title, kIndentation, wrapped(text, kIndentation));
}

void print_all() {
  constexpr std::size_t kIndentation = 18;
  for (const auto& reason : kReasonTexts)
    fmt::print("{:<{}}{}\n", reason.key, kIndentation, wrapped(reason.meaning, kIndentation));
}

void print_markdown() {
  fmt::print("| reason | meaning |\n|---|---|\n");
  for (const auto& reason : kReasonTexts) fmt::print("| `{}` | {} |\n", reason.key, reason.meaning);
}

nlohmann::ordered_json json_of(const ReasonTexts& reason) {
  return {{"reason", reason.key},
          {"meaning", reason.meaning},
          {"cause", reason.cause},
          {"proof", reason.proof},
          {"remedy", reason.remedy}};
}

nlohmann::ordered_json json_of_all() {
  auto all = nlohmann::ordered_json::array();
  for (const auto& reason : kReasonTexts) all.push_back(json_of(reason));
  return all;
}

/// Whether somebody who wrote `word` may have meant `key`: by a slip, or by a part of it.
bool is_near(std::string_view word, std::string_view key) {
  constexpr std::size_t kTelling = 3;  // a part that is shorter says nothing
  if (!config::nearest(word, std::span(&key, 1)).empty()) return true;
  return word.size() >= kTelling && (key.find(word) != key.npos || word.find(key) != word.npos);
}

std::string near_keys(std::string_view word) {
  std::string near;
  for (const auto key : kReasonKeys)
    if (is_near(word, key)) near += fmt::format("{}{}", near.empty() ? "" : ", ", key);
  return near;
}

ExitStatus unknown(const std::string& word) {
  const auto near = near_keys(word);
  fmt::print(
      stderr, "rsock: there is no reason {}; {}\n", config::quoted(word),
      near.empty() ? fmt::format("reasons are: {}", fmt::join(kReasonKeys, ", ")) : fmt::format("near are: {}", near));
  return kUsage;
}

}  // namespace

std::vector<std::string> reason_keys() { return {std::begin(kReasonKeys), std::end(kReasonKeys)}; }

std::string with_meaning(const std::string& key) {
  const auto* reason = find(key);
  return reason ? fmt::format("{}: {}", reason->key, reason->meaning) : key;
}

ExitStatus explain(const ExplainArguments& arguments) {
  const auto* reason = find(arguments.reason);
  if (!arguments.reason.empty() && !reason) return unknown(arguments.reason);
  if (arguments.json)
    fmt::print("{}\n", (reason ? json_of(*reason) : json_of_all()).dump(2));
  else if (arguments.man)
    fmt::print("{}", manual_of_reasons());
  else if (arguments.markdown)
    print_markdown();
  else if (reason)
    print(*reason);
  else
    print_all();
  return kSuccess;
}

}  // namespace rsock::tools
