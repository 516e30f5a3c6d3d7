#pragma once
// The device as one process has it open: its protection domains, its memory, its queues and its queue pairs.
// They end with it.

#include <set>

#include "tests/fabric/device/line.hpp"
#include "tests/fabric/device/queue_pair.hpp"

namespace fabric {

class Context : public Station {
 public:
  // `events`: the end of async_fd that is written to.
  Context(Loop& loop, Wire& wire, Descriptor memory, Descriptor events)
      : loop_(loop), wire_(wire), memory_(std::make_shared<Memory>(std::move(memory))), events_(std::move(events)) {}
  Answer answer(const Request& request, Descriptors descriptors) override;
  void bell() override;
  // One of the device's own events.
  void tell(ibv_event_type type, uint64_t handle);
  // How many queue pairs there are.
  size_t break_all();
  size_t mute(Duration pause);

 private:
  void create_queue(const Request& request, const Descriptors& descriptors, Answer& answer);
  void create_queue_pair(const Request& request, const Descriptors& descriptors, Answer& answer);
  void query_queue_pair(const Request& request, Answer& answer) const;
  void overrun(uint64_t queue);
  void at_random();

  Loop& loop_;
  Wire& wire_;
  const std::shared_ptr<Memory> memory_;
  const Descriptor events_;
  const std::shared_ptr<bool> lives_ = std::make_shared<bool>(true);
  uint64_t last_ = 0;  // number of what was made
  std::set<uint64_t> domains_;
  std::map<uint64_t, std::shared_ptr<Descriptor>> channels_;
  std::map<uint64_t, std::shared_ptr<Queue>> queues_;
  std::map<uint64_t, std::unique_ptr<QueuePair>> queue_pairs_;  // go first
};

}  // namespace fabric
