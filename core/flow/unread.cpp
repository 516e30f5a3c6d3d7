#include "core/flow/unread.hpp"

#include <sys/uio.h>

#include <algorithm>

#include "core/base/copy.hpp"

namespace rsock::flow {

Result<size_t> scatter(std::span<const std::byte> from, std::span<const iovec> to, size_t at) {
  size_t done = 0;
  for (const auto& piece : to) {
    if (at >= piece.iov_len) {
      at -= piece.iov_len;
      continue;
    }
    const auto length = std::min(piece.iov_len - at, from.size() - done);
    if (!copy(static_cast<char*>(piece.iov_base) + at, from.data() + done, length)) return Errno{EFAULT};
    done += length;
    at = 0;
    if (done == from.size()) break;
  }
  return done;
}

void Unread::add_raw(std::span<const std::byte> bytes) {
  if (size() == raw_) raw_ += bytes.size();
  add(bytes);
}

Result<Unread::Took> Unread::read(std::span<const iovec> to, bool peek) {
  const auto copied = scatter({bytes_.data() + at_, size()}, to, 0);
  if (!copied) return Errno{copied.error()};
  const auto raw = std::min(*copied, raw_);
  const Took took{*copied, *copied - raw};
  if (peek) return took;
  at_ += *copied;
  raw_ -= raw;
  if (size() == 0) clear();
  return took;
}

}  // namespace rsock::flow
