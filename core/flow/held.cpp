#include "core/flow/held.hpp"

#include <sys/uio.h>

#include <algorithm>
#include <utility>

#include "core/base/copy.hpp"
#include "core/base/pieces.hpp"
#include "core/flow/rings.hpp"

namespace rsock::flow {

Result<size_t> HeldBytes::take(std::span<const iovec> pieces, size_t skip) {
  const auto before = bytes_.size(), most = room();
  if (!takes_some(total(pieces) - skip, most, most_)) return Errno{EAGAIN};
  size_t done = 0;
  for (const auto& piece : pieces) {
    if (skip >= piece.iov_len) {
      skip -= piece.iov_len;
      continue;
    }
    for (size_t at = std::exchange(skip, 0); at < piece.iov_len && done < most;) {
      const auto length = std::min({piece.iov_len - at, most - done, kPiece - done % kPiece});
      bytes_.resize(before + done + length);
      if (!copy(bytes_.data() + before + done, static_cast<const std::byte*>(piece.iov_base) + at, length)) {
        done -= done % kPiece;
        bytes_.resize(before + done);
        if (done == 0) return Errno{EFAULT};
        return done;
      }
      at += length, done += length;
    }
  }
  return done;
}

}  // namespace rsock::flow
