#pragma once
// What the other parts say: bytes that mean something, and bytes that mean nothing. The same in every run.

#include <cstdint>
#include <vector>

#include "core/wire/frame.hpp"

namespace hostile {

using Bytes = std::vector<uint8_t>;

uint64_t random_number();
Bytes random_bytes(size_t size);
rsock::wire::Token random_token();

// An encoded value as bytes that may change their size.
template <class Encoded>
Bytes bytes_of(const Encoded& encoded) {
  return {encoded.begin(), encoded.end()};
}

// Ends the program: something failed that this test needs itself.
[[noreturn]] void die(const char* what);

}  // namespace hostile
