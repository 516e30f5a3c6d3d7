#pragma once
// Bytes that the program has yet to read and that lie in no ring and not in the kernel: a lane or a cutover
// left them behind. They come before everything else. The first of them may have come by TCP; how many did is
// remembered, for the counters.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/result.hpp"

struct iovec;

namespace rsock::flow {

// Copies `from` into the pieces `to`, from their byte `at` on: the bytes that fitted, or EFAULT.
Result<size_t> scatter(std::span<const std::byte> from, std::span<const iovec> to, size_t at);

class Unread {
 public:
  size_t size() const { return bytes_.size() - at_; }
  // Behind those that are there. Bytes that came by TCP come before those of a ring.
  void add_raw(std::span<const std::byte> bytes);
  void add(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  void clear() { bytes_.clear(), at_ = raw_ = 0; }

  struct Took {
    size_t bytes = 0;
    size_t of_ring = 0;  // among them
  };
  // As a read does, or with MSG_PEEK. EFAULT: nothing was taken.
  Result<Took> read(std::span<const iovec> to, bool peek);

 private:
  std::vector<std::byte> bytes_;
  size_t at_ = 0;
  size_t raw_ = 0;  // of those from `at_` on
};

}  // namespace rsock::flow
