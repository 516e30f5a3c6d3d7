#include "config/diagnostic.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

namespace rsock::config {
namespace {

constexpr std::size_t kQuotedLimit = 80;
constexpr std::size_t kWordLimit = 32;

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (is_control(c))
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(c));
    else
      out.push_back(c);
  }
  return out;
}

/// `text` cut to at most `limit` bytes, never inside a UTF-8 sequence.
std::string_view cut(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xc0) == 0x80) --limit;
  return text.substr(0, limit);
}

/// Optimal string alignment distance. Both words are at most kWordLimit bytes.
std::size_t distance(std::string_view a, std::string_view b) {
  using Row = std::array<std::size_t, kWordLimit + 1>;
  Row before{}, above{}, row{};
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before = above;
    above = row;
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replace, above[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace

std::string to_string(const Diagnostic& diagnostic) noexcept {
  try {
    const std::string file = printable(diagnostic.file);
    const std::string message = printable(diagnostic.message);
    if (diagnostic.line == 0) return fmt::format("{}: {}", file, message);
    return fmt::format("{}:{}:{}: {}", file, diagnostic.line, diagnostic.column, message);
  } catch (...) {
    return {};
  }
}

std::string quoted(std::string_view text) {
  const std::string_view kept = cut(text, kQuotedLimit);
  return fmt::format("\"{}{}\"", printable(kept), kept.size() < text.size() ? "..." : "");
}

std::string reason(int error) {
  // Whatever the program's locale is. That of C is always there, and nobody's to free.
  return ::strerror_l(error, ::newlocale(LC_ALL_MASK, "C", nullptr));
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> known) noexcept {
  if (word.size() > kWordLimit) return {};
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const std::string_view candidate : known) {
    if (candidate.size() > kWordLimit) continue;
    const std::size_t d = distance(word, candidate);
    if (d >= best_distance) continue;
    best = candidate;
    best_distance = d;
  }
  return best;
}

}  // namespace rsock::config
