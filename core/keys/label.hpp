#pragma once
// What a hash is for, at the head of what it hashes: two that are made for different ends are never made of
// the same bytes. All have one size, so that none is the beginning of another.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace rsock::keys {

consteval std::array<uint8_t, 16> label(std::string_view word) {
  std::array<uint8_t, 16> bytes{};
  std::copy(word.begin(), word.end(), bytes.begin());
  return bytes;
}

}  // namespace rsock::keys
