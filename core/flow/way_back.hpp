#pragma once
// What a flow takes out of the rings when it leaves its lane, so that nothing refers to the link's memory any
// more.
//
//   sent:      held_out = [held_from, written); the peer says how far it got, and what is behind that goes again on TCP
//   received:  consumed() is what this end says; the peer sends the bytes behind it again, and held_in, a copy of them,
//   is
//              needed only if nothing comes any more
//   the rest:  what the peer has written behind consumed(): so many raw bytes come before all others. Should TCP end
//   before that, it is
//              no end of the stream
//
// frozen: what lands later does not count. salvaged: nothing comes again, the copy is the program's.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "core/flow/rings.hpp"

namespace rsock::flow {

class WayBack {
 public:
  bool frozen() const { return frozen_; }
  bool salvaged() const { return salvaged_; }

  // Once; nothing the second time. `live`: the rings' memory is there; without it the peer had taken all that
  // it wanted. True the first time: then either keep_unread() or take_unread() has to follow, as long as the
  // memory lives.
  bool freeze(const TxRing& tx, const RxRing& rx, bool live);
  // What this end's frame says: so many of the peer's bytes need not come again.
  uint64_t consumed() const { return consumed_; }
  // The same: all that this end's program has written.
  uint64_t written() const { return held_from_ + held_out_.size(); }
  void keep_unread(const RxRing& rx);
  // Those bytes are the program's at once, and are not to be sent again.
  std::vector<std::byte> take_unread(const RxRing& rx);

  // The peer's word, by its frame.
  void note_peer(uint64_t consumed, uint64_t written) { peer_consumed_ = consumed, peer_written_ = written; }
  // What has to go again by it. Nothing if it cannot be true: the stream is broken.
  std::optional<std::vector<std::byte>> take_sent_again();

  // Nothing comes again. `rx`: the ring, if its memory is there.
  void salvage(RxRing* rx);
  // The copy.
  size_t held_in() const { return held_in_.size(); }
  std::vector<std::byte> take_held() { return std::exchange(held_in_, {}); }

  // ---- the rest, once both frames are there. `raw_in`: the program's bytes that were taken from TCP, ever
  // False if the peer's word cannot be true.
  bool expect_rest(uint64_t raw_in);
  bool awaits_rest(uint64_t raw_in) const { return raw_in < rest_end_; }
  // It is there, or not for this end to count.
  void forgo_rest() { rest_end_ = 0, held_in_.clear(); }
  // TCP has ended before: what is here of it. Nothing is awaited any more.
  std::vector<std::byte> take_missing(uint64_t raw_in);

 private:
  bool frozen_ = false, salvaged_ = false;
  std::vector<std::byte> held_in_, held_out_;
  uint64_t held_from_ = 0;  // the ring offset of held_out_'s first
  uint64_t consumed_ = 0, peer_consumed_ = 0, peer_written_ = 0;
  uint64_t rest_from_ = 0, rest_end_ = 0;
};

}  // namespace rsock::flow
