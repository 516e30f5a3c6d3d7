#pragma once
// What the two ends of a cutover have told each other: at which offset N of each stream the lane begins, and
// the marks that prove on TCP that both mean this link, and have read it (docs/protocol.md, sections 5 and 6).
//
//   own_offset  = what this end had sent by TCP when it fixed its N; its mark is the next that goes there
//   peer_offset = the same of the peer: what this end reads before the peer's mark
//
// Pure, but for the random numbers. Under the engine's lock.

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

#include "core/base/result.hpp"
#include "core/keys/cutover_key.hpp"
#include "core/wire/frame.hpp"
#include "core/wire/message.hpp"

namespace rsock::engine {

class Terms {
 public:
  explicit Terms(keys::Side side) : side_(side) {}

  // A new cutover. An error where there is no random number to be had.
  Status begin();
  const wire::Nonce& nonce() const { return nonce_; }
  // S has said it, or C has heard it.
  void set_claim(const wire::Claim& claim) { claim_ = claim; }
  const wire::Claim& claim() const { return claim_; }
  // Both have said theirs: from now on there are marks.
  void agree(const keys::LinkKey& link, const wire::Accept& accept);

  void fix_own_offset(uint64_t offset) { own_offset_ = offset; }
  uint64_t own_offset() const { return own_offset_; }
  void set_peer_offset(uint64_t offset) { peer_offset_ = offset; }
  // How many bytes come before the peer's mark, of which `position_in` were taken.
  uint64_t left(uint64_t position_in) const { return peer_offset_ - std::min(peer_offset_, position_in); }

  // S's answers C's, which was seen.
  wire::Mark token() const {
    return marks_->mark(side_, own_offset_, fresh_, accepts() ? peers_fresh() : keys::Fresh{});
  }
  wire::Mark no() const { return marks_->no(own_offset_, peers_fresh()); }
  wire::FrameBytes frame(const wire::Frame& frame) const;
  // Of the peer: what stands at its N, and what came by TCP while only frames may. A mark is remembered.
  keys::Seen judge(std::span<const uint8_t> bytes);
  std::optional<wire::Frame> decode(std::span<const uint8_t, wire::kFrameSize> bytes) const;
  // That both have read the other's token; C says it.
  wire::WitnessCode witness() const {
    return accepts() ? marks_->witness(peers_fresh(), fresh_) : marks_->witness(fresh_, peers_fresh());
  }

  bool shown() const { return shown_; }  // this end's token is on TCP, or on the way there
  void note_shown() { shown_ = true; }
  // The peer's mark was seen, and lies in TCP at its N, behind bytes that are not read.
  bool mark_ahead() const { return mark_ahead_; }
  void set_mark_ahead(bool ahead) { mark_ahead_ = ahead; }

 private:
  bool accepts() const { return side_ == keys::Side::acceptor; }
  keys::Side peer_side() const { return accepts() ? keys::Side::connector : keys::Side::acceptor; }
  keys::Fresh peers_fresh() const { return keys::fresh_in(peers_mark_); }

  keys::Side side_;
  wire::Claim claim_;
  wire::Nonce nonce_{};
  keys::Fresh fresh_{};  // in this end's token
  wire::Mark peers_mark_{};
  std::optional<keys::CutoverKey> marks_;
  uint64_t own_offset_ = 0, peer_offset_ = 0;
  bool shown_ = false, mark_ahead_ = false;
};

}  // namespace rsock::engine
