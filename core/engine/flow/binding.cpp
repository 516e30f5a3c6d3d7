#include "core/engine/flow/binding.hpp"

#include <algorithm>
#include <utility>

#include "core/engine/link.hpp"

namespace rsock::engine {
namespace {

constexpr uint32_t kGrowthFactor = 4;
constexpr auto kPatience = std::chrono::seconds(10);  // with a peer that does not give its slot back

}  // namespace

void Binding::begin(Link& link, wire::Slot slot, flow::Block ring) {
  const auto in = carried_in(), out = carried_out();
  *this = {};
  before_ = {in, out};
  link_ = &link;
  lane_ = link.connection().lane();
  slot_ = slot;
  rx.begin(ring);
}

Status Binding::mirror(const wire::RingPlace& place, uint32_t largest) {
  if (place.size > largest) return Errno{ENOMEM};
  const auto mirror = link_->connection().mirror(place);
  if (!mirror) return Errno{mirror.error()};
  tx.begin(*mirror, place);
  return Done{};
}

void Binding::retire(bool finished, bool begun) {
  if (!speaks()) return;
  retired_at_ = now();
  link_->send(wire::Retire{*peer_slot_, finished, begun});
  release();
}

void Binding::retire_unused() {
  retired_at_ = now();
  peer_retired_ = true;
  release();
}

bool Binding::withheld(Time now) const {
  return link_ && retired_at_ && !peer_retired_ && now - *retired_at_ >= kPatience;
}

void Binding::release() {
  if (!link_ || (link_->alive() && !(retired() && peer_retired_))) return;
  auto& connection = link_->connection();
  if (link_->alive()) {
    while (const auto block = rx.take_current()) connection.release(block);
    if (const auto block = rx.take_offered()) connection.release(block);
    while (const auto block = tx.take_current()) connection.release_mirror(block);
  }
  abandon();
}

void Binding::abandon() {
  if (!link_) return;
  link_->free(slot_);
  link_ = nullptr;
}

void Binding::tell_window() {
  if (!speaks()) return;
  rx.told_window();
  link_->send(wire::Window{*peer_slot_, rx.consumed_total()});
}

void Binding::tell_window_if_due() {
  if (rx.window_due()) tell_window();
}

void Binding::say_blocked() {
  if (speaks() && !std::exchange(said_blocked_, true)) link_->send(wire::Blocked{*peer_slot_});
}

bool Binding::note_window(uint64_t consumed) {
  if (!tx.consumed(consumed)) return false;
  if (tx.roomy()) said_blocked_ = false;
  collect_memory();
  return true;
}

// The window goes first, so that the sender has let go of the ring before this one.
void Binding::grow() {
  if (!speaks() || rx.size() >= largest_ring_) return;
  if (rx.consumed_total() > 0) tell_window();
  if (!link_ || !rx.can_grow()) return;  // telling the window may have failed the link
  // Where nobody reads there is no second chance to grow: two rings are all that a flow has. Its program may write much
  // before it reads, as it may on TCP.
  const bool nobody_reads = rx.readable() > rx.size() / 2;
  auto size = nobody_reads ? largest_ring_ : std::min(rx.size() * kGrowthFactor, largest_ring_);
  auto block = link_->connection().allocate(size);
  while (!block && (size /= kGrowthFactor) > rx.size()) block = link_->connection().allocate(size);
  if (!block) return;
  rx.offer(*block);
  link_->send(wire::Grow{*peer_slot_, block->place()});
}

bool Binding::take_growth(const wire::RingPlace& ring) {
  const auto mirror = link_->connection().mirror(ring);
  if (!mirror) return !mirror.is(EPROTO);
  if (!tx.grow(*mirror, ring)) {
    link_->connection().release_mirror(*mirror);
    return false;
  }
  said_blocked_ = false;
  return true;
}

void Binding::collect_memory() {
  if (!link_ || !link_->alive()) return;
  if (const auto block = rx.take_retired()) link_->connection().release(block);
  if (const auto block = tx.take_retired()) link_->connection().release_mirror(block);
}

}  // namespace rsock::engine
