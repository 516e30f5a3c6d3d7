#pragma once
// One connection, from its TCP handshake to the misdeed: the part of a well-behaved peer, as far as it is kept.

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "core/keys/cutover_key.hpp"
#include "core/wire/greeting.hpp"
#include "tests/programs/hostile/line.hpp"
#include "tests/programs/hostile/tcp.hpp"

namespace hostile {

constexpr wire::Slot kOwnSlot = 7;

// How far the protocol is kept before it is broken.
// answered: both tokens are on TCP; who connects has not said WITNESS yet.
enum class Step { linked, keyed, claimed, accepted, confirmed, answered, lane };

// What this program is known by on all its links.
const rsock::keys::KeyPair& own_keys();

// A greeting in order, and the bytes that all of them have: a whole one is completed when it is sent.
wire::Greeting greeting();
Bytes first_bytes(const wire::Greeting& greeting);
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
  std::optional<wire::RingPlace> claimed_ring;  // told in place of the true one
  Bytes behind;                                 // the whole greeting
  uint64_t offset = 0;                          // of our mark, as it was told
  wire::Key shown;                              // by the victim

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

  // A link, with this private data. Until the victim's point is open, it refuses: so long it is asked again.
  void link(const Bytes& privately, std::chrono::milliseconds patience = std::chrono::seconds(1));
  // Keeps the protocol as far as that; false if the victim does not.
  bool reach(Step step);
  // The next step alone.
  bool goes_on(Step step) { return dials_ ? as_acceptor(step) : as_connector(step); }
  // The same for a link that the victim has dialled: as far as the keys.
  bool introduce() { return as_connector(Step::linked) && as_connector(Step::keyed); }
  void say(const wire::Body& body, std::optional<uint32_t> returned = {}) { line().say(body, returned); }
  wire::Claim claim();
  // With the true offset unless another is wanted.
  wire::Accept accept(std::optional<uint64_t> told = {});
  bool is_client() const { return !dials_; }
  // The victim's turn: false if it does not show its token.
  bool await_token();
  // Ours, on this link.
  wire::Key key() const;
  // Marks of this cutover: ours, which answers what was read of the victim's, and the victim's, once it was read.
  wire::Mark own_mark() const { return mark_that_answers(answered()); }
  wire::Mark peer_mark() const { return peer_mark_; }
  wire::Mark mark_that_answers(const rsock::keys::Fresh& fresh) const {
    return marks_->mark(side(), offset, fresh_, fresh);
  }
  // A client has none: it is one of a server's in the place of its mark.
  wire::Mark no_that_answers(const rsock::keys::Fresh& fresh) const;
  wire::Mark no() const { return no_that_answers(rsock::keys::fresh_in(peer_mark_)); }
  wire::WitnessCode witness() const;
  // Ours, if there were another link, or if another nonce had been told.
  wire::Mark mark_of_another_link() const;
  wire::Mark mark_of_another_nonce() const;

 private:
  template <class Body>
  std::optional<Body> await() {
    std::optional<Body> got;
    until([&] { return (got = line().take<Body>()) || line().state != Line::State::up; }, kPatience);
    return got;
  }
  bool as_acceptor(Step step);
  bool as_connector(Step step);
  void note(wire::Slot slot, const wire::RingPlace& ring) { peer_slot = slot, peer_ring = ring; }
  rsock::keys::Side side() const { return dials_ ? rsock::keys::Side::acceptor : rsock::keys::Side::connector; }
  rsock::keys::Side other_side() const { return dials_ ? rsock::keys::Side::connector : rsock::keys::Side::acceptor; }
  rsock::keys::Fresh answered() const { return dials_ ? rsock::keys::fresh_in(peer_mark_) : rsock::keys::Fresh{}; }
  bool agree(const wire::PublicKey& peer);
  bool is_proven(const wire::Key& its) const;
  rsock::keys::CutoverKey marks_by(const rsock::keys::LinkKey& secret, const wire::Nonce& acceptor,
                                   const wire::Nonce& connector) const;
  void listen();
  void attend();
  void handle(const rdma_cm_event& event);

  const bool dials_;
  rdma_event_channel* channel_;
  rdma_cm_id* listener_ = nullptr;
  std::deque<rdma_cm_id*> requests_;
  std::vector<std::unique_ptr<Line>> lines_;

  std::optional<rsock::keys::LinkKey> secret_;
  std::optional<rsock::keys::CutoverKey> marks_;
  wire::Claim claim_;
  wire::Accept accept_;
  rsock::keys::Fresh fresh_ = plain_array<rsock::keys::Fresh>();  // in our mark
  wire::Mark peer_mark_{};
};

}  // namespace hostile
