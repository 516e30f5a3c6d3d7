#pragma once
// One connection, from its TCP handshake to the misdeed: the part of a well-behaved peer, as far as it is kept.

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "core/wire/greeting.hpp"
#include "tests/programs/hostile/line.hpp"
#include "tests/programs/hostile/tcp.hpp"

namespace hostile {

constexpr wire::Slot kOwnSlot = 7;

// How far the protocol is kept before it is broken.
enum class Step { linked, claimed, accepted, confirmed, acknowledged, lane };

// A greeting in order, and as bytes.
wire::Greeting greeting();
Bytes greeting_bytes();

class Play {
 public:
  // Owns `fd`. The dialler is the accepting end; the other one has a point of its own, at which the victim dials.
  Play(int fd, bool dialler);
  Play(const Play&) = delete;
  ~Play();

  Tcp tcp;
  int dials = 0;  // that were made, or came
  wire::Slot peer_slot = 0;
  wire::RingPlace peer_ring;
  uint64_t peer_offset = 0;
  wire::Token shown{}, expected = random_token();
  std::optional<wire::RingPlace> claimed_ring;  // told in place of the true one

  Line& line() { return *lines_.back(); }
  bool linked() const { return !lines_.empty() && lines_.back()->state != Line::State::pending; }
  // What became of the link: "refused", "never", "kept" or "lost".
  const char* fate();
  bool all_answered() const;
  // Whether a link is up still.
  bool holds() const;

  // Attends to all lines until then; false if that does not come.
  bool until(const std::function<bool()>& condition, std::chrono::milliseconds patience);

  // Begins a dial; behind a whole greeting it says which end of the connection this is.
  Line& dial(Bytes privately);
  // The next dial of the victim.
  rdma_cm_id* request(std::chrono::milliseconds patience = kPatience);
  Line& answer(rdma_cm_id* id, Bytes privately);
  void hang_up() { lines_.pop_back(); }

  // A link, with this private data. Until the victim's point is open, it refuses.
  void link(const Bytes& privately);
  // Keeps the protocol as far as that; false if the victim does not.
  bool reach(Step step);
  void say(const wire::Body& body, std::optional<uint32_t> returned = {}) { line().say(body, returned); }
  wire::Claim claim();

 private:
  template <class Body>
  std::optional<Body> await() {
    std::optional<Body> got;
    until([&] { return (got = line().take<Body>()) || line().state != Line::State::up; }, kPatience);
    return got;
  }
  bool as_acceptor(Step step);
  bool as_connector(Step step);
  void note(wire::Slot slot, const wire::RingPlace& ring, const wire::Token& token) {
    peer_slot = slot, peer_ring = ring, shown = token;
  }
  bool exchange_tokens();
  void listen();
  void attend();
  void handle(const rdma_cm_event& event);

  const bool dials_;
  rdma_event_channel* channel_;
  rdma_cm_id* listener_ = nullptr;
  std::deque<rdma_cm_id*> requests_;
  std::vector<std::unique_ptr<Line>> lines_;
};

}  // namespace hostile
