#include "core/engine/flow/terms.hpp"

#include "core/base/kernel.hpp"

namespace rsock::engine {

Status Terms::begin() {
  *this = Terms(side_);
  if (const auto drawn = sys::random(nonce_.data(), nonce_.size()); !drawn) return drawn;
  return sys::random(fresh_.data(), fresh_.size());
}

keys::Seen Terms::judge(std::span<const uint8_t> bytes) {
  const auto seen = marks_->judge(bytes, peer_side(), peer_offset_, accepts() ? keys::Fresh{} : fresh_);
  if (seen == keys::Seen::token || seen == keys::Seen::foreign)
    std::copy_n(bytes.begin(), peers_mark_.size(), peers_mark_.begin());
  return seen;
}

void Terms::agree(const keys::LinkKey& link, const wire::Accept& accept) {
  const auto said = wire::encode({0, claim_}), answered = wire::encode({0, accept});
  marks_ = keys::CutoverKey::make(link, claim_.nonce, accept.nonce, said.body(), answered.body());
}

wire::FrameBytes Terms::frame(const wire::Frame& frame) const { return wire::encode(token(), frame); }

std::optional<wire::Frame> Terms::decode(std::span<const uint8_t, wire::kFrameSize> bytes) const {
  return wire::decode_frame(bytes, peers_mark_);
}

}  // namespace rsock::engine
