#include "core/flow/way_back.hpp"

#include <algorithm>

namespace rsock::flow {
namespace {

void copy_unread(const RxRing& rx, std::vector<std::byte>& to) {
  for (uint64_t done = 0; done < rx.readable();)
    for (const auto& part : rx.peek(done, rx.readable() - done).parts) {
      to.insert(to.end(), part.begin(), part.end());
      done += part.size();
    }
}

}  // namespace

bool WayBack::freeze(const TxRing& tx, const RxRing& rx, bool live) {
  if (std::exchange(frozen_, true)) return false;
  consumed_ = rx.consumed_total();
  held_from_ = live ? tx.consumed_total() : tx.written();
  held_out_.resize(tx.written() - held_from_);
  if (live) tx.copy_from(held_from_, held_out_);
  return true;
}

void WayBack::keep_unread(const RxRing& rx) {
  if (!salvaged_) copy_unread(rx, held_in_);
}

std::vector<std::byte> WayBack::take_unread(const RxRing& rx) {
  std::vector<std::byte> unread;
  copy_unread(rx, unread);
  consumed_ = rx.landed_total();
  return unread;
}

std::optional<std::vector<std::byte>> WayBack::take_sent_again() {
  const auto from = peer_consumed_;
  if (from < held_from_ || from > held_from_ + held_out_.size()) return {};
  auto again = std::exchange(held_out_, {});
  again.erase(again.begin(), again.begin() + static_cast<std::ptrdiff_t>(from - held_from_));
  return again;
}

bool WayBack::expect_rest(uint64_t raw_in) {
  if (peer_written_ < consumed_ + held_in_.size()) return false;
  rest_from_ = raw_in;
  rest_end_ = raw_in + (peer_written_ - consumed_);
  if (!awaits_rest(raw_in)) forgo_rest();
  return true;
}

std::vector<std::byte> WayBack::take_missing(uint64_t raw_in) {
  auto missing = take_held();
  missing.erase(missing.begin(),
                missing.begin() + static_cast<std::ptrdiff_t>(std::min<uint64_t>(raw_in - rest_from_, missing.size())));
  rest_end_ = 0;
  return missing;
}

void WayBack::salvage(RxRing* rx) {
  if (rx && !frozen_ && !salvaged_) {
    copy_unread(*rx, held_in_);
    rx->consume(rx->readable());
  }
  salvaged_ = true;
}

}  // namespace rsock::flow
