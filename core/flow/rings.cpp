#include "core/flow/rings.hpp"

#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/base/copy.hpp"

namespace rsock::flow {
namespace {

size_t position(const Block& block, uint64_t start, uint64_t offset) {
  return static_cast<size_t>((offset - start) & (block.size - 1));
}

std::span<std::byte> stretch(const Block& block, uint64_t start, uint64_t offset, uint64_t length) {
  const auto at = position(block, start, offset);
  return {block.base + at, std::min<size_t>(length, block.size - at)};
}

}  // namespace

void TxRing::begin(Block mirror, wire::RingPlace place) { *this = TxRing{}, current_ = {mirror, place, 0}; }

bool TxRing::grow(Block mirror, wire::RingPlace place) {
  if (growing_) return false;
  old_ = std::exchange(current_, {mirror, place, written_});
  growing_ = true;
  switched_ = false;
  return true;
}

Result<size_t> TxRing::append(std::span<const iovec> from, size_t skip) {
  const auto before = written_;
  size_t done = 0;
  for (const auto& piece : from) {
    if (skip >= piece.iov_len) {
      skip -= piece.iov_len;
      continue;
    }
    const auto* bytes = static_cast<const std::byte*>(piece.iov_base) + skip;
    size_t left = piece.iov_len - skip;
    skip = 0;
    while (left > 0 && room() > 0) {
      const auto to =
          stretch(current_.block, current_.start, written_, std::min<uint64_t>({left, room(), kPiece - done % kPiece}));
      if (!copy(to.data(), bytes, to.size())) {
        done -= done % kPiece;
        written_ = before + done;
        return done > 0 ? Result<size_t>(done) : Errno{EFAULT};
      }
      bytes += to.size(), left -= to.size(), written_ += to.size(), done += to.size();
    }
    if (left > 0) break;
  }
  return done;
}

bool TxRing::consumed(uint64_t offset) {
  if (offset > posted_) return false;
  consumed_ = std::max(consumed_, offset);
  return true;
}

Block TxRing::take_retired() {
  if (!growing_ || !switched_ || consumed_ < current_.start) return {};
  growing_ = false;
  return std::exchange(old_, {}).block;
}

Block TxRing::take_current() {
  if (growing_) {
    growing_ = false;
    return std::exchange(old_, {}).block;
  }
  return std::exchange(current_, {}).block;
}

TxRing::Write TxRing::next(uint32_t most) const {
  if (posted_ == written_) return {};
  const auto& segment = segment_at(posted_);
  const auto end = posted_ < current_.start ? current_.start : written_;
  const auto part = stretch(segment.block, segment.start, posted_, std::min<uint64_t>(end - posted_, most));
  return {part.data(), segment.block.local_key, segment.place.address + position(segment.block, segment.start, posted_),
          segment.place.key, static_cast<uint32_t>(part.size())};
}

bool TxRing::copy_from(uint64_t from, std::span<std::byte> to) const {
  if (from < consumed_ || from > written_ || to.size() != written_ - from) return false;
  copy_part(from, to);
  return true;
}

void TxRing::copy_part(uint64_t from, std::span<std::byte> to) const {
  while (!to.empty()) {
    const auto& segment = segment_at(from);
    const auto end = from < current_.start ? current_.start : written_;
    const auto part = stretch(segment.block, segment.start, from, std::min<uint64_t>(end - from, to.size()));
    std::memcpy(to.data(), part.data(), part.size());
    to = to.subspan(part.size()), from += part.size();
  }
}

void RxRing::begin(Block ring) { *this = RxRing{}, current_ = {ring, 0}; }

bool RxRing::switched() {
  if (!offered_) return false;
  next_ = {std::exchange(offered_, {}), landed_};
  consume(0);
  return true;
}

bool RxRing::within_window(uint64_t length) const {
  if (!last().block) return false;
  const auto limit = std::max(consumed_, last().start) + last().block.size;
  return length <= limit - landed_;
}

bool RxRing::landed(uint64_t length) {
  if (!within_window(length)) return false;
  landed_ += length;
  return true;
}

bool RxRing::landed(std::span<const uint8_t> bytes) {
  if (!within_window(bytes.size())) return false;
  while (!bytes.empty()) {
    const auto to = stretch(last().block, last().start, landed_, bytes.size());
    std::memcpy(to.data(), bytes.data(), to.size());
    bytes = bytes.subspan(to.size()), landed_ += to.size();
  }
  return true;
}

Stretches RxRing::peek(uint64_t skip, size_t most) const {
  Stretches found;
  auto from = consumed_ + skip;
  size_t count = 0;
  while (from < landed_ && most > 0 && count < 2) {
    const bool in_next = next_.block && from >= next_.start;
    const auto& segment = in_next ? next_ : current_;
    const auto end = !in_next && next_.block ? next_.start : landed_;
    const auto part = stretch(segment.block, segment.start, from, std::min<uint64_t>(end - from, most));
    found.parts[count++] = part;
    from += part.size(), most -= part.size();
  }
  return found;
}

void RxRing::consume(uint64_t length) {
  consumed_ += std::min(length, readable());
  if (next_.block && consumed_ >= next_.start) {
    retired_ = current_.block;
    current_ = std::exchange(next_, {});
  }
}

Block RxRing::take_retired() { return std::exchange(retired_, {}); }
Block RxRing::take_current() {
  if (next_.block) return std::exchange(next_, {}).block;
  return std::exchange(current_, {}).block;
}
Block RxRing::take_offered() { return std::exchange(offered_, {}); }

bool RxRing::window_due() const {
  const auto news = consumed_ - told_;
  return news > 0 && news >= (blocked_ ? least_room(size()) : size() / 4);
}

void RxRing::told_window() {
  if (consumed_ - told_ >= least_room(size())) blocked_ = false;
  told_ = consumed_;
}

}  // namespace rsock::flow
