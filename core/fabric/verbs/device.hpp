#pragma once
// One RDMA device of the process: its completion channel, and completion queues shared by the connections on it.
// A completion queue takes as many connections as its entries can never overflow for; then another is made.
//
// A device may go, and another come. The kernel removes one only when nobody has it open, so all that is on it is let
// go of at once; what stays is a source of completions that is vacant, until it serves another device. Threads sleep on
// an epoll set with the completion channel in it: as somebody who polls a descriptor keeps what is behind it, they may
// not know the channel itself.

#include <cstdint>
#include <vector>

#include "core/base/unique_fd.hpp"
#include "core/fabric/fabric.hpp"
#include "core/fabric/verbs/library.hpp"

namespace rsock::fabric::verbs {

class QueuePair;

class Device final : public Completions {
 public:
  // Vacant. nullptr if there is no descriptor for it. Service thread, as all here but Completions.
  static std::unique_ptr<Device> make(const Library& library);
  ~Device() override;

  // ---- under the engine's lock
  int poll() override;
  void arm() override;
  void acknowledge() override;
  int fd() const override { return source_.get(); }

  // Serves the device of `context`, which rdma-core has opened and keeps open. `witness`: an identifier bound to it and
  // of no other use, by which its removal is heard of; destroyed with the rest. False, and vacant still, if it cannot
  // be.
  bool open(ibv_context* context, rdma_cm_id* witness);
  // Lets go of a device that was removed as soon as no queue pair is left on it: `inert`, an eventfd, takes the place
  // of the descriptors by which rdma-core has it open. Vacant then.
  void let_go(int inert);
  bool vacant() const { return !context_; }
  void remove() { removed_ = true; }
  bool removed() const { return removed_; }
  // Reads the device's own events; connections that it lost tell their sinks.
  void check_health();

  // Room for `entries` completions; nullptr if there is none to be had.
  ibv_cq* reserve(uint32_t entries);
  void give_back(ibv_cq* queue, uint32_t entries);
  // Completions of a work request go to the queue pair with the number given here.
  uint32_t enlist(QueuePair& queue_pair);
  void strike(uint32_t number) { queue_pairs_[number] = nullptr; }

  ibv_context* context() const { return context_; }
  const Library& library() const { return library_; }

 private:
  struct Queue {
    ibv_cq* queue;
    uint32_t entries, reserved;
  };
  Device(const Library& library, UniqueFd source) : library_(library), source_(std::move(source)) {}
  void complete(const ibv_wc& completion);
  void close();

  const Library& library_;
  UniqueFd source_;
  ibv_context* context_ = nullptr;
  rdma_cm_id* witness_ = nullptr;
  ibv_comp_channel* channel_ = nullptr;
  bool removed_ = false;
  ibv_device_attr limits_{};
  std::vector<Queue> queues_;
  std::vector<QueuePair*> queue_pairs_;  // by number; numbers are never used again
};

}  // namespace rsock::fabric::verbs
