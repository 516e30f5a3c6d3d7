#pragma once
// A link: one connection to a peer's engine, shared by many flows. Credits and send-queue entries are counted here,
// slots are given out here, and what arrives is handed to the flow that it names. All of it under the engine's lock.
//
//   credits = receives the peer posted (first greeting + `returned` in its messages) - work requests sent
//
// The last credits and send-queue entries are kept for control messages, and the very last for CREDIT, so that credits
// can always flow back: a link can be slow, never stuck. Control messages are sent in order; data waits until none is
// queued.

#include <deque>
#include <memory>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/endpoint.hpp"
#include "core/fabric/fabric.hpp"
#include "core/keys/link_key.hpp"
#include "core/wire/message.hpp"

namespace rsock::engine {

class Engine;
class Flow;

class Link final : public fabric::Sink {
 public:
  // `dialled`: by this end, which speaks first.
  Link(Engine& engine, uint64_t id, std::unique_ptr<fabric::Connection> connection, const Address& peer,
       const wire::Greeting& greeting, bool dialled);
  ~Link();

  uint64_t id() const { return id_; }
  const Address& peer() const { return peer_; }
  Lane lane() const { return lane_; }
  const std::optional<uid_t>& user() const { return user_; }  // of the peer's process, where that is known
  uint64_t peer_engine() const { return peer_engine_; }
  fabric::Connection& connection() { return *connection_; }
  std::unique_ptr<fabric::Connection> take_connection() { return std::move(connection_); }
  bool alive() const { return !failed_; }
  // The handshake is over, and both keys are known: this end may claim flows.
  bool ready() const { return ready_ && secret_ && !failed_; }
  bool proven() const { return proven_; }  // the peer has shown its key
  // The handshake is over. The end that dialled shows that it knows the secret.
  void set_ready();
  // What no other link has. Nothing as long as the other end's key is not known.
  const keys::LinkKey* secret() const { return secret_ ? &*secret_ : nullptr; }
  size_t flows() const { return bound_; }
  // For whoever looks at it.
  struct Load {
    size_t flows;
    int32_t credits;
    uint64_t returns;  // flows that went from it back to TCP
  };
  Load load() const { return {bound_, credits(), returns_}; }
  void note_return() { ++returns_; }
  // Whether the peer ever answered a claim or claimed a flow, and whether it lets one wait now.
  bool answered() const { return answered_; }
  bool silent() const;

  // ---- for flows
  Result<wire::Slot> bind(Flow& flow);
  void free(wire::Slot slot);
  void send(const wire::Body& body);
  // Whether a flow may post now; if not, and it says so, it is pumped as soon as it may.
  bool can_post() const;
  void pump_later(Flow& flow);
  bool post_write(const flow::TxRing::Write& write, wire::Slot slot);
  // While a burst is under way small writes wait for each other: gather() instead of posting.
  bool bursting() const { return burst_out_; }
  void gather(Flow& flow);
  // Posts what flows have gathered, as few messages as they fit in. For a thread that is about to wait.
  void flush();

  // Asks the medium whether the peer is there still, if there are flows and nothing was heard since the last time; a
  // failure comes as of any work request. False if there is nothing to ask.
  bool probe_if_silent();
  void probe();

  void note_claim();
  void note_answer();

  // The link is no longer used: its flows take the way back.
  void fail(Reason reason);
  void protocol_fault(const char* what);

  // ---- fabric::Sink
  void data_landed(uint32_t immediate, uint32_t length) override;
  void message_landed(std::span<const uint8_t> bytes) override;
  void sends_completed(uint32_t count) override;
  void connection_failed() override;

 private:
  int32_t credits() const { return static_cast<int32_t>(receives_ + returned_ - (sent_ - probes_)); }
  int32_t entries() const { return static_cast<int32_t>(connection_->send_depth() - (sent_ - completed_)); }
  bool may_send(int32_t reserve) const { return credits() > reserve && entries() > reserve; }
  bool must_signal() const { return sent_ - signaled_ >= connection_->send_depth() / 4; }
  void note_sent(bool signaled);
  bool post_message(wire::Message message, bool signaled = false);
  bool signal_data();
  void note_arrival();
  void received_one();
  void return_credits();
  void pump();
  // Forgets that `flow` waits for anything.
  void forget(Flow& flow);
  Flow* flow_at(wire::Slot slot);
  void handle(const wire::Message& message);
  void keyed(const wire::Key& key);
  std::vector<const keys::Preshared*> preshared() const;
  void pieces_landed(wire::Pieces pieces);
  void claimed(const wire::Claim& claim);

  Engine& engine_;
  const uint64_t id_;
  std::unique_ptr<fabric::Connection> connection_;
  const Address peer_;
  const Lane lane_;
  const std::optional<uid_t> user_;
  const bool completes_at_once_;
  const uint64_t peer_engine_;
  const uint32_t receives_;
  const bool dialled_;
  const keys::PublicKey peer_key_;  // to the end that dialled
  std::optional<keys::LinkKey> secret_;
  bool proven_ = false;  // the peer has shown that it knows it, too
  bool ready_ = false, failed_ = false;
  bool answered_ = false;
  size_t claims_ = 0;     // not answered yet
  Time claimed_since_{};  // that long nothing was answered

  uint32_t returned_ = 0;                             // the peer's word
  uint32_t sent_ = 0, completed_ = 0, signaled_ = 0;  // ordinals of work requests
  uint32_t probes_ = 0;                               // among those sent: they consume no receive
  bool heard_ = false;                                // since the last look
  uint32_t received_ = 0, told_ = 0;                  // receives consumed and posted again; what the peer knows of it

  // A burst: data posts since data last arrived. From the second on (from the first, if the last burst had a second)
  // small writes gather until the completion of one that was signaled for that.
  unsigned burst_ = 0;
  bool bursty_ = false, burst_out_ = false;
  uint32_t burst_end_ = 0;  // the ordinal of that one
  std::vector<Flow*> gathered_;

  std::deque<wire::Body> queued_;
  std::deque<Flow*> waiting_;  // for credits or send-queue entries
  std::vector<Flow*> slots_;
  std::vector<wire::Slot> free_slots_;
  size_t bound_ = 0;
  uint64_t returns_ = 0;
};

}  // namespace rsock::engine
