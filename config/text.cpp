#include "config/text.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>

#include "config/config.hpp"

namespace rsock::config {
namespace {

std::uint32_t byte(std::string_view text, std::size_t index) {
  return index < text.size() ? static_cast<unsigned char>(text[index]) : 0;
}

/// The length of the UTF-8 sequence that `text` begins with; 0 when it begins with none.
std::size_t sequence_length(std::string_view text) {
  const std::uint32_t lead = byte(text, 0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  std::uint32_t code = lead & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(text, i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(text, i) & 0x3f);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  return overlong || surrogate || code > 0x10ffff ? 0 : length;
}

std::optional<Refusal> refuse_line(std::string_view content, unsigned line) {
  if (content.size() > kLineLimit) return Refusal{line, 1, fmt::format("line is longer than {} bytes", kLineLimit)};
  unsigned column = 1;
  for (std::size_t i = 0; i < content.size(); ++column) {
    if (content[i] == '\0') return Refusal{line, column, "a configuration cannot contain a NUL byte"};
    const std::size_t length = sequence_length(content.substr(i));
    if (length == 0) return Refusal{line, column, "not UTF-8"};
    i += length;
  }
  return std::nullopt;
}

}  // namespace

std::optional<Refusal> refuse(std::string_view text) {
  if (text.size() > kTextLimit) return Refusal{0, 0, fmt::format("is longer than {} bytes", kTextLimit)};
  unsigned line = 1;
  for (std::size_t begin = 0; begin < text.size(); ++line) {
    const std::string_view rest = text.substr(begin);
    const std::string_view content = rest.substr(0, rest.find('\n'));
    if (auto refusal = refuse_line(content, line)) return refusal;
    begin += content.size() + 1;
  }
  return std::nullopt;
}

}  // namespace rsock::config
