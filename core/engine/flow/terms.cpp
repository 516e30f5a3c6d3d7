#include "core/engine/flow/terms.hpp"

#include "core/base/kernel.hpp"

namespace rsock::engine {

Status Terms::begin() {
  *this = Terms(side_);
  return sys::random(nonce_.data(), nonce_.size());
}

void Terms::agree(const keys::LinkKey& link, const wire::Accept& accept) {
  const auto said = wire::encode({0, claim_}), answered = wire::encode({0, accept});
  marks_ = keys::CutoverKey::make(link, claim_.nonce, accept.nonce, said.body(), answered.body());
}

wire::FrameBytes Terms::frame(wire::FrameKind kind, uint64_t value) const {
  return wire::encode(token(), {kind, value});
}

std::optional<wire::Frame> Terms::decode(std::span<const uint8_t, wire::kFrameSize> bytes) const {
  return wire::decode_frame(bytes, marks_->mark(peer_side(), peer_offset_));
}

}  // namespace rsock::engine
