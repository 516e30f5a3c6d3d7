#pragma once
// Messages: small SENDs on a link, in order with its writes. Big-endian, each at most kMessageMax bytes. All but PIECES
// are control messages; PIECES carries data of several flows at once.
//
//   0   1   kind
//   1   3   zero
//   4   4   returned: receive work requests that the sender has posted since the link began, modulo 2^32 (credits)
//   8   …   body, by kind; every field is always there and nothing follows it
//
// Slots: each end names a flow by a slot of its own; a message carries the slot of its receiver (`to`). CLAIM and
// ACCEPT carry the sender's as well (`from`). A slot is free again when both ends have sent RETIRE, or the claim was
// declined.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "core/base/endpoint.hpp"
#include "core/wire/mark.hpp"

namespace rsock::wire {

inline constexpr size_t kMessageMax = 1024, kHeaderSize = 8;
inline constexpr uint32_t kSlotLimit = 1u << 24;  // the immediate of a write carries a slot in 24 bits

using Slot = uint32_t;

// Where the peer may write: its view of a ring in the sender's memory.
struct RingPlace {
  uint64_t address = 0;
  uint32_t key = 0;
  uint32_t size = 0;  // bytes, a power of two
};

// Each end shows that it knows the link's secret: who dialled, before it claims anything; then the other.
struct Key {
  PublicKey key{};
  Proof proof{};
};

// The messages of the cutover; the last is Witness.
struct Claim {
  Slot from = 0;
  Endpoint connector;  // the connecting end's address, as the accepting end sees it
  Endpoint acceptor;
  RingPlace ring;
  Nonce nonce{};
};
struct Accept {
  Slot to = 0, from = 0;
  RingPlace ring;
  Nonce nonce{};
  uint64_t offset = 0;  // of the sender's TCP stream, where its mark stands
};
struct Confirm {
  Slot to = 0;
  uint64_t offset = 0;
};

// C has read S's token: S may write into the ring, and expect bytes in its own.
struct Witness {
  Slot to = 0;
  WitnessCode code{};
};

enum class DeclineCause : uint8_t { unknown_flow = 0, resources = 1, unwilling = 2 };
struct Decline {
  Slot to = 0;
  DeclineCause cause = DeclineCause::unknown_flow;
};

// The receiver of the data tells how many bytes of the flow's ring stream its application consumed, ever.
struct Window {
  Slot to = 0;
  uint64_t consumed = 0;
};
// The sender has bytes and no window; or its cutover is not over, and its program waits for that.
struct Blocked {
  Slot to = 0;
};
// A larger ring for the sender's bytes; it says Switch, then writes there.
struct Grow {
  Slot to = 0;
  RingPlace ring;
};
struct Switch {
  Slot to = 0;
};
// End of stream after `total` ring bytes. `closed`: the sender takes no more bytes either.
struct Fin {
  Slot to = 0;
  uint64_t total = 0;
  bool closed = false;
};
// What an RST says.
struct Reset {
  Slot to = 0;
};
// The sender will never again name this slot or write into its ring. `finished`: because it has dealt with the
// receiver's Fin{closed} or Reset; otherwise because it leaves the lane. `begun`: its token is on TCP, or on the way
// there.
struct Retire {
  Slot to = 0;
  bool finished = false, begun = false;
};
// Nothing but the header.
struct Credit {};

// Small pieces of data, for any number of flows: each as if it had been written into its flow's ring. `packed`: per
// piece the receiver's slot (4), its length (2, not 0) and its bytes; decode_message() has seen that they fit.
struct Pieces {
  std::span<const uint8_t> packed;
};

using Body = std::variant<Key, Claim, Accept, Confirm, Decline, Window, Blocked, Grow, Switch, Fin, Reset, Retire,
                          Credit, Pieces, Witness>;

struct Message {
  uint32_t returned = 0;
  Body body;
};

struct MessageBytes {
  std::array<uint8_t, kMessageMax> bytes;
  size_t size = 0;
  std::span<const uint8_t> span() const { return {bytes.data(), size}; }
  std::span<const uint8_t> body() const { return span().subspan(kHeaderSize); }
};

MessageBytes encode(const Message& message);
// Nothing if a length, a kind, a zero or a value is not as described above.
std::optional<Message> decode_message(std::span<const uint8_t> bytes);

struct Piece {
  Slot to = 0;
  std::span<const uint8_t> bytes;
};
// Takes the first piece off; nothing when there is none left.
std::optional<Piece> next_piece(Pieces& pieces);

// Puts pieces together for one message.
class Packer {
 public:
  static constexpr size_t kHead = 6;  // bytes in front of each piece
  static constexpr size_t kLargest = kMessageMax - 8 - kHead;
  // The longest piece that fits.
  size_t room() const { return bytes_.size() - size_ > kHead ? bytes_.size() - size_ - kHead : 0; }
  // At most room() bytes, and at least one.
  void add(Slot to, std::span<const uint8_t> bytes);
  bool empty() const { return size_ == 0; }
  Pieces pieces() const { return {{bytes_.data(), size_}}; }
  void clear() { size_ = 0; }

 private:
  std::array<uint8_t, kLargest + kHead> bytes_;
  size_t size_ = 0;
};

// The immediate of a data write: the receiver's slot.
constexpr uint32_t immediate(Slot slot) { return slot; }

}  // namespace rsock::wire
