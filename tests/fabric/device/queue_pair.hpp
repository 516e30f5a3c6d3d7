#pragma once
// A queue pair: takes its work requests in order, one at a time, and does with the peer's memory and its
// completion queue what the two devices and the wire between them would do.

#include <algorithm>
#include <memory>
#include <vector>

#include "tests/fabric/device/completion.hpp"
#include "tests/fabric/device/memory.hpp"

namespace fabric {

class QueuePair;

// The queue pairs of all processes, by number: for two that are connected.
class Wire {
 public:
  Wire(Loop& loop, Chance& chance_of_it) : chance(chance_of_it), loop_(loop) {}
  // It has something to do, or may go on.
  void wake(uint32_t number);
  QueuePair* find(uint32_t number) const;
  uint32_t enlist(QueuePair& queue_pair);
  void strike(uint32_t number) { all_.erase(number); }
  void after(Duration pause, uint32_t number) {
    loop_.after(pause, [this, number] { wake(number); });
  }

  Chance& chance;

 private:
  Loop& loop_;
  std::map<uint32_t, QueuePair*> all_;
  std::map<uint32_t, bool> ready_;
  uint32_t last_ = 0;
};

class QueuePair {
 public:
  struct Parts {
    std::shared_ptr<Memory> memory;
    uint64_t domain = 0;
    Mapping work;
    std::shared_ptr<Queue> send_queue, receive_queue;
    bool all_signaled = false;
    std::function<void(ibv_event_type type, uint32_t number)> tell;
  };
  QueuePair(Wire& wire, Parts parts);
  // Work requests that are left end as flushed.
  ~QueuePair();

  uint32_t number() const { return number_; }
  uint32_t peer() const { return peer_; }
  ibv_qp_state state() const { return state_; }
  // The peer is where its work requests go.
  void connect(uint32_t peer);
  void break_off();
  // Nothing reaches it, nor leaves it, for so long.
  void mute(Duration pause) { silent_until_ = std::max(silent_until_, Clock::now() + pause); }
  // Does some of what is to be done. True if there may be more.
  bool progress();
  // The bell was rung in its process.
  void rung();

 private:
  enum class Outcome { done, waits, failed };
  Outcome await_end_of_silence(const QueuePair& peer, const SendWork& work);
  Outcome execute(SendWork& work);
  Outcome deliver(QueuePair& to, const SendWork& work, std::span<const uint8_t> bytes);
  Outcome consume_receive(QueuePair& from, const SendWork& work, std::span<const uint8_t> bytes, bool into_it);
  Outcome fail(const SendWork& work, ibv_wc_status status);
  bool gather(const SendWork& work, std::vector<uint8_t>& bytes) const;
  bool scatter(const ReceiveWork& work, std::span<const uint8_t> bytes) const;
  bool has_receive();
  void complete_send(const SendWork& work, ibv_wc_status status);
  void complete_receive(const ReceiveWork& work, Completion completion);
  void flush();

  Wire& wire_;
  const Parts parts_;
  uint32_t number_, peer_ = 0;
  ibv_qp_state state_ = IBV_QPS_INIT;
  uint32_t sends_done_ = 0, receives_done_ = 0;
  Time silent_until_{}, patient_until_{}, wakes_{};
  uint32_t sends_begun_ = 0;
};

}  // namespace fabric
