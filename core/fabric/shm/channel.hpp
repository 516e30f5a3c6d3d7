#pragma once
// A connection to a process on this host: our segment, which the peer writes into, and the peer's, which we do. The
// sender's mirror of a ring is the ring itself, so that a write is a post and nothing else, and is complete when it is
// made.
//
// The socket by which both met is the bell: one byte is a ring. To send it cannot block, whatever the peer does to its
// end, and a socket that is full has rung. A ring wakes whoever sleeps by arriving: the bytes are taken later, many at
// once, long before the socket is full. Descriptors that came with them are the end of the link, which the dialler
// hears of from the socket.

#include "core/base/exposed.hpp"
#include "core/fabric/arena.hpp"
#include "core/fabric/shm/hub.hpp"
#include "core/fabric/shm/segment.hpp"

namespace rsock::fabric::shm {

class Channel final : public Connection {
 public:
  // `number` is the dialler's for this connection, `bell` the socket, `called` what the kernel calls that of who
  // dialled, `user` the peer's.
  Channel(Hub& hub, PinnedBudget& budget, uint64_t number, Segment own, Segment peer, ExposedFd bell, uint32_t called,
          uid_t user);
  ~Channel() override;

  void attach(Sink& sink) override;
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
  // Of the two sockets one has a name that no other has, and both ends see it.
  std::array<uint32_t, 2> numbers() const override { return {called_, called_}; }
  std::optional<uid_t> user() const override { return user_; }
  Holding holding() const override { return {.memory = rings_.size()}; }

  uint64_t number() const { return number_; }
  ExposedFd& bell() { return bell_; }
  // The socket, for whoever closes it; nothing rings any more.
  ExposedFd hand_back();
  // For the hub. How many posts of the peer's were taken.
  int take();
  void sleep() { reader_.sleep(); }
  // For the hub, when a ring has come: once in a while takes all rings off the socket. False if there is something
  // else, for good.
  bool hear();
  void hang_up();
  Hub::Seat seat;

 private:
  void wake();

  Hub& hub_;
  const uint64_t number_;
  const uint32_t called_;
  const uid_t user_;
  const Segment own_, peer_;
  ExposedFd bell_;
  const int most_unheard_;
  int unheard_ = 0;  // rings in the socket, of a peer that rings as it should
  QueueReader reader_;
  QueueWriter writer_;
  size_t next_ring_ = kRings;  // memory of ours from here on was never given out
  Arena rings_;
  Sink* sink_ = nullptr;
};

}  // namespace rsock::fabric::shm
