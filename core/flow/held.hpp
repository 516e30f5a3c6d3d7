#pragma once
// Bytes that the program wrote while they may go nowhere: a cutover is under way, or the way back. The kernel has room
// for them, and whoever does not wait may count on it; so some are taken, and go where the stream goes on.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/result.hpp"
#include "core/flow/rings.hpp"

struct iovec;

namespace rsock::flow {

class HeldBytes {
 public:
  // At most so many bytes, from now on.
  void begin(size_t most) { bytes_.clear(), most_ = most; }
  size_t room() const { return most_ - bytes_.size(); }
  bool roomy() const { return is_room(room(), most_); }
  bool empty() const { return bytes_.empty(); }
  std::span<const std::byte> bytes() const { return bytes_; }
  void clear() { bytes_ = {}; }

  // Takes what there is room for of `pieces`, behind the first `skip` bytes of them: how many. As of TxRing::append, a
  // piece with a bad byte is left out; EFAULT if that is the first. EAGAIN: there is no room, or not for all of a small
  // record.
  Result<size_t> take(std::span<const iovec> pieces, size_t skip);

 private:
  std::vector<std::byte> bytes_;
  size_t most_ = 0;
};

}  // namespace rsock::flow
