#pragma once
// The pieces of memory that a call of the program's names.

#include <sys/uio.h>

#include <cstddef>
#include <span>

namespace rsock {

inline size_t total(std::span<const iovec> pieces) {
  size_t sum = 0;
  for (const auto& piece : pieces) sum += piece.iov_len;
  return sum;
}

}  // namespace rsock
