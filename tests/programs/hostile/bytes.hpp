#pragma once
// What the other parts say: bytes that mean something, and bytes that mean nothing. The same in every run.

#include <cstdint>
#include <span>
#include <vector>

#include "core/wire/mark.hpp"

namespace hostile {

using Bytes = std::vector<uint8_t>;

uint64_t random_number();
Bytes random_bytes(size_t size);
// Of a nonce, a proof, a private key.
template <class Array>
Array random_array() {
  Array array;
  for (auto& byte : array) byte = static_cast<uint8_t>(random_number());
  return array;
}
// Redis takes them for one word: no space, no quote, no end of a line.
bool plain(std::span<const uint8_t> bytes);
template <class Array>
Array plain_array() {
  for (;;)
    if (const auto array = random_array<Array>(); plain(array)) return array;
}

// An encoded value as bytes that may change their size.
template <class Encoded>
Bytes bytes_of(const Encoded& encoded) {
  return {encoded.begin(), encoded.end()};
}

// Ends the program: something failed that this test needs itself.
[[noreturn]] void die(const char* what);

}  // namespace hostile
