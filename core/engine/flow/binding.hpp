#pragma once
// A flow's place on a link: a slot at each end, and a ring for each direction. It is given back when both
// ends have said RETIRE, or when the link has failed.
//
//   bound ─▶ the peer's slot is known ─▶ retired: this end is done with it ─▶ released: the peer has said so,
//   too
//
// Of the rings it does what concerns the link: where they are, windows and growth. Under the engine's lock.

#include <cstdint>
#include <optional>

#include "core/base/clock.hpp"
#include "core/base/lane.hpp"
#include "core/base/result.hpp"
#include "core/flow/rings.hpp"
#include "core/wire/message.hpp"

namespace rsock::engine {

class Link;

class Binding {
 public:
  // ---- its life
  // `slot` was given out by the link, `ring` by its connection. Both are the binding's now.
  void begin(Link& link, wire::Slot slot, flow::Block ring);
  // ENOMEM: there is no memory to write into such a ring. EPROTO: the peer has no such ring.
  Status mirror(const wire::RingPlace& place, uint32_t largest);
  Link* link() const { return link_; }  // nullptr: none, or given back
  Lane lane() const { return lane_; }   // of the link, or of the last one
  wire::Slot slot() const { return slot_; }
  wire::Slot peer_slot() const { return *peer_slot_; }
  bool peer_known() const { return peer_slot_.has_value(); }
  void know_peer(wire::Slot slot) { peer_slot_ = slot; }
  bool retired() const { return retired_at_.has_value(); }
  bool peer_retired() const { return peer_retired_; }
  // May say something to the peer.
  bool speaks() const { return link_ && !retired() && peer_slot_; }

  // Tells the peer that this end is done with the slot, once. `finished`: all that it sent was taken.
  // `begun`: this end's token is on TCP, or on the way there.
  void retire(bool finished, bool begun);
  void note_peer_retired() { peer_retired_ = true; }
  // The peer has had more than enough time since then to say the same, even if it was stopped for a while.
  bool withheld(Time now) const;
  // The peer never knew of it.
  void retire_unused();
  // Gives slot and memory back, if neither end uses them.
  void release();
  // Gives the slot back, whatever the peer does. What it still writes into the ring is lost.
  void abandon();

  // ---- windows
  void tell_window();
  void tell_window_if_due();
  // This end's program waits for room: the peer hears so, once until there is some.
  void say_blocked();
  // False if the peer claims bytes that were never sent.
  bool note_window(uint64_t consumed);
  // The peer's program waits: gives it its window, and a larger ring.
  void grow();
  void set_largest_ring(uint32_t bytes) { largest_ring_ = bytes; }  // that the peer may be given
  // The peer offers a larger ring. False if it may not do so now, or has none; true also where this end has
  // no memory for it.
  bool take_growth(const wire::RingPlace& ring);
  // Blocks that are no longer needed go back to the link's memory.
  void collect_memory();

  // ---- the program's bytes that went by rings, over all links. What is sent again by TCP is none of them.
  uint64_t carried_in() const { return before_.in + rx.consumed_total(); }
  uint64_t carried_out() const { return before_.out + tx.written(); }
  void sent_again(size_t bytes) { before_.out -= bytes; }

  flow::TxRing tx;
  flow::RxRing rx;

 private:
  Link* link_ = nullptr;
  Lane lane_ = Lane::tcp;
  wire::Slot slot_ = 0;
  std::optional<wire::Slot> peer_slot_;
  std::optional<Time> retired_at_;
  bool peer_retired_ = false, said_blocked_ = false;
  uint32_t largest_ring_ = 0;
  // By rings of earlier links.
  struct {
    uint64_t in = 0, out = 0;
  } before_;
};

}  // namespace rsock::engine
