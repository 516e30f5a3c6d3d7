#include "tools/table.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "tools/processes.hpp"

namespace rsock::tools {
namespace {

constexpr std::string_view kUnknown = "-";
constexpr std::size_t kLongestText = 128;  // that another process is believed to mean

std::string cell(const Row& row, std::string_view key) {
  const auto found = row.find(std::string(key));
  if (found == row.end() || found->is_null()) return std::string(kUnknown);
  if (found->is_string()) return found->get<std::string>();
  return found->is_number_float() ? fmt::format("{:.6g}", found->get<double>()) : found->dump();
}

struct Shown {
  std::vector<std::string> cells;  ///< with the title
  std::size_t width = 0;
  bool numbers = false;
};

Shown show(const Column& column, std::span<const Row> rows) {
  Shown shown{{std::string(column.title)}};
  for (const auto& row : rows) {
    shown.cells.push_back(cell(row, column.key));
    const auto found = row.find(std::string(column.key));
    shown.numbers = shown.numbers || (found != row.end() && found->is_number());
  }
  for (const auto& one : shown.cells) shown.width = std::max(shown.width, one.size());
  return shown;
}

}  // namespace

std::string to_table(std::span<const Column> columns, std::span<const Row> rows) {
  std::vector<Shown> all;
  for (const auto& column : columns) all.push_back(show(column, rows));
  std::string table;
  for (std::size_t line = 0; line <= rows.size(); ++line) {
    std::string text;
    for (const auto& one : all)
      text +=
          fmt::format(one.numbers ? fmt::runtime("{:>{}}  ") : fmt::runtime("{:<{}}  "), one.cells[line], one.width);
    table += text.substr(0, text.find_last_not_of(' ') + 1) + '\n';
  }
  return table;
}

std::string to_json(std::span<const Row> rows) {
  std::string text = "[";
  for (const auto& row : rows)
    text += (&row == rows.data() ? "\n  " : ",\n  ") + row.dump(-1, ' ', true, Row::error_handler_t::replace);
  return text + (rows.empty() ? "]\n" : "\n]\n");
}

Row read_row(std::span<const std::string_view> keys, std::string_view line) {
  const auto said = Row::parse(line, nullptr, false);
  auto row = Row::object();
  for (const auto key : keys) {
    const std::string name(key);
    auto& value = row[name] = nullptr;
    if (!said.is_object() || !said.contains(name)) continue;
    if (said[name].is_string()) value = on_one_line(said[name].get<std::string>().substr(0, kLongestText));
    if (said[name].is_number()) value = said[name];
  }
  return row;
}

}  // namespace rsock::tools
