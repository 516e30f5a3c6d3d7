#pragma once
// One RDMA device of the process: its completion channel, and completion queues shared by the connections on it.
// A completion queue takes as many connections as its entries can never overflow for; then another is made.

#include <cstdint>
#include <vector>

#include "core/fabric/fabric.hpp"
#include "core/fabric/verbs/library.hpp"

namespace rsock::fabric::verbs {

class QueuePair;

class Device final : public Completions {
 public:
  // nullptr if the channel cannot be made. Service thread.
  static std::unique_ptr<Device> make(const Library& library, ibv_context* context);
  ~Device() override;

  int poll() override;
  void arm() override;
  void acknowledge() override;
  void check_health() override;
  int health_fd() const override { return health_fd_; }
  int fd() const override { return channel_->fd; }

  // Room for `entries` completions; nullptr if there is none to be had. Service thread, under the engine's lock.
  ibv_cq* reserve(uint32_t entries);
  void give_back(ibv_cq* queue, uint32_t entries);
  // The device goes: when no queue pair is left on it, lets go of it, since the kernel waits for that. What stays is a source
  // from which nothing ever comes.
  void remove() { removed_ = true; }
  bool removed() const { return removed_; }
  bool let_go();
  // Completions of a work request go to the queue pair with the number given here. Under the engine's lock.
  uint32_t enlist(QueuePair& queue_pair);
  void strike(uint32_t number) { queue_pairs_[number] = nullptr; }

  ibv_context* context() const { return context_; }
  const Library& library() const { return library_; }
  uint32_t largest_depth() const { return static_cast<uint32_t>(limits_.max_qp_wr); }

 private:
  struct Queue {
    ibv_cq* queue;
    uint32_t entries, reserved;
  };
  Device(const Library& library, ibv_context* context, ibv_comp_channel* channel);
  void complete(const ibv_wc& completion);

  const Library& library_;
  ibv_context* context_;
  ibv_comp_channel* channel_;
  int health_fd_, command_fd_;
  bool removed_ = false, gone_ = false;
  ibv_device_attr limits_{};
  std::vector<Queue> queues_;
  std::vector<QueuePair*> queue_pairs_;  // by number; numbers are never used again
};

}  // namespace rsock::fabric::verbs
