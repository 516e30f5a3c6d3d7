#pragma once
// A connection to a process on this host: our segment, which the peer writes into, and the peer's, which we do. The sender's
// mirror of a ring is the ring itself, so that a write is a post and nothing else, and is complete when it is made.

#include "core/fabric/arena.hpp"
#include "core/fabric/shm/hub.hpp"
#include "core/fabric/shm/segment.hpp"

namespace rsock::fabric::shm {

// What one end tells the other of itself, besides the greeting.
struct Half {
  Segment segment;
  UniqueFd bell;  // of the peer; unset in our own half
};

class Channel final : public Connection {
 public:
  // `number` is the dialler's for this connection.
  Channel(Hub& hub, PinnedBudget& budget, uint64_t number, Segment own, Half peer);
  ~Channel() override;

  void attach(Sink& sink) override { sink_ = &sink; }
  void detach() override { sink_ = nullptr; }
  bool post_write(const flow::TxRing::Write& write, uint32_t immediate, bool signaled) override;
  bool post_message(std::span<const uint8_t> bytes, bool signaled) override;
  bool post_probe(bool) override { return true; }
  Result<flow::Block> allocate(uint32_t size) override;
  void release(flow::Block ring) override { rings_.release(ring); }
  Result<flow::Block> mirror(const wire::RingPlace& place) override;
  void release_mirror(flow::Block) override {}
  bool completes_at_once() const override { return true; }
  uint32_t send_depth() const override { return kDepth; }
  uint32_t receive_depth() const override { return kDepth; }
  uint32_t largest_write() const override { return 1u << 20; }
  Lane lane() const override { return Lane::shm; }

  uint64_t number() const { return number_; }
  int peer_bell() const { return peer_bell_.get(); }
  // For the hub. How many posts of the peer's were taken.
  int take();
  void sleep() { reader_.sleep(); }

 private:
  void wake();

  Hub& hub_;
  const uint64_t number_;
  const Segment own_, peer_;
  const UniqueFd peer_bell_;
  QueueReader reader_;
  QueueWriter writer_;
  size_t next_ring_ = kRings;  // memory of ours from here on was never given out
  Arena rings_;
  Sink* sink_ = nullptr;
};

}  // namespace rsock::fabric::shm
