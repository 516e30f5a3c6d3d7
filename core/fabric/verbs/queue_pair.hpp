#pragma once
// One RC queue pair with its protection domain, its memory regions and its receive buffers. A protection domain of its
// own keeps the peer out of every other link's rings.

#include <memory>

#include "core/base/footprint.hpp"
#include "core/base/lock.hpp"
#include "core/fabric/arena.hpp"
#include "core/fabric/verbs/device.hpp"

namespace rsock::fabric::verbs {

// The identity of a work request: which queue pair, which direction, which buffer or ordinal.
class WorkId {
 public:
  explicit WorkId(uint64_t value) : value_(value) {}
  static WorkId receive(uint32_t queue_pair, uint32_t buffer) { return WorkId(1ull << 63 | make(queue_pair, buffer)); }
  static WorkId send(uint32_t queue_pair, uint32_t ordinal) { return WorkId(make(queue_pair, ordinal)); }

  bool is_receive() const { return value_ >> 63; }
  uint32_t queue_pair() const { return static_cast<uint32_t>(value_ >> 32) & 0x7fffffff; }
  uint32_t number() const { return static_cast<uint32_t>(value_); }
  uint64_t value() const { return value_; }

 private:
  static uint64_t make(uint32_t queue_pair, uint32_t number) { return uint64_t{queue_pair} << 32 | number; }
  uint64_t value_;
};

// How a queue pair could not be made.
enum class Shortage { none, memory, queue };

class QueuePair final : public Connection {
 public:
  // Takes `id` over if it succeeds. Service thread, like the destructor, and neither with the engine's lock, `lock`: to
  // make or destroy a queue pair takes the device a while. It is taken where the device's tables are changed.
  static std::unique_ptr<QueuePair> make(Device& device, rdma_cm_id* id, Lock& lock, PinnedBudget& budget,
                                         Shortage& shortage);
  ~QueuePair() override;

  void attach(Sink& sink) override { sink_ = &sink; }
  void detach() override { sink_ = nullptr; }
  bool post_write(const flow::TxRing::Write& write, uint32_t immediate, bool signaled) override;
  bool post_message(std::span<const uint8_t> bytes, bool signaled) override;
  bool post_probe(bool signaled) override;
  Result<flow::Block> allocate(uint32_t size) override { return block_of(rings_, size); }
  void release(flow::Block ring) override { rings_.release(ring); }
  Result<flow::Block> mirror(const wire::RingPlace& place) override { return block_of(mirrors_, place.size); }
  void release_mirror(flow::Block mirror) override { mirrors_.release(mirror); }
  bool completes_at_once() const override { return false; }
  uint32_t send_depth() const override { return kDepth; }
  uint32_t receive_depth() const override { return kDepth; }
  uint32_t largest_write() const override { return 1u << 20; }
  Lane lane() const override { return Lane::rdma; }
  // The queue pairs' numbers: one that is in use is no other's on its device.
  std::array<uint32_t, 2> numbers() const override;
  Holding holding() const override;

  void complete(WorkId id, const ibv_wc& completion);
  bool is(const ibv_qp* queue_pair) const { return queue_pair_ == queue_pair; }
  void broke() {
    if (sink_) sink_->connection_failed();
  }
  rdma_cm_id* id() const { return id_; }
  int port() const { return id_->port_num; }
  Device& device() const { return device_; }

 private:
  static constexpr uint32_t kDepth = kLinkDepth;              // work requests in each direction
  static constexpr uint32_t kBufferSize = wire::kMessageMax;  // of a receive, and of a staged message
  static constexpr uint32_t kInline = 220;

  QueuePair(Device& device, rdma_cm_id* id, Lock& lock, PinnedBudget& budget);
  Shortage open();
  bool post(ibv_send_wr& request, ibv_sge& piece, bool signaled);
  bool post(ibv_send_wr& request, bool signaled);
  bool post_receive(uint32_t buffer);
  bool add_region(flow::Block& chunk, int access);
  void remove_region(const flow::Block& chunk);
  static Result<flow::Block> block_of(Arena& arena, uint32_t size);

  Device& device_;
  Lock& lock_;
  rdma_cm_id* id_;
  ibv_pd* domain_ = nullptr;
  ibv_cq* queue_ = nullptr;
  ibv_qp* queue_pair_ = nullptr;
  static constexpr uint32_t kUnlisted = UINT32_MAX;
  uint32_t number_ = kUnlisted;
  uint32_t inline_ = 0;
  uint32_t sent_ = 0;  // work requests ever posted
  Sink* sink_ = nullptr;
  std::vector<ibv_mr*> regions_;
  Arena rings_, mirrors_, buffers_;
  flow::Block messages_;  // kDepth receive buffers, then kDepth staged messages
};

}  // namespace rsock::fabric::verbs
