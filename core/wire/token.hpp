#pragma once
// A token: 16 secret random bytes that, shown on a TCP connection, prove who is at its end.

#include <array>
#include <cstdint>

#include "core/base/kernel.hpp"

namespace rsock::wire {

inline constexpr size_t kTokenSize = 16;
using Token = std::array<uint8_t, kTokenSize>;

inline Token make_token() {
  Token token;
  sys::random(token.data(), token.size());
  return token;
}

}  // namespace rsock::wire
