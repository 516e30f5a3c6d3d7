#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rsock::tools {

/// An object: texts, numbers, and nulls for what is not known.
using Row = nlohmann::ordered_json;

struct Column {
  std::string_view key;  ///< in the row
  std::string_view title;
};

/// Each column as wide as what is in it; numbers stand to the right.
std::string to_table(std::span<const Column> columns, std::span<const Row> rows);
/// An array, a row a line.
std::string to_json(std::span<const Row> rows);

/// What another process says, printable: of `keys` alone, and null where it says nothing of one, or neither a
/// text nor a number.
Row read_row(std::span<const std::string_view> keys, std::string_view line);

}  // namespace rsock::tools
