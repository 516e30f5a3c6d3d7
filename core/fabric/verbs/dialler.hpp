#pragma once
// The search for peers over RDMA-CM. A rendezvous point is a listener on (local IP, local TCP port) in the RDMA port
// space, which is separate from TCP's. Everything here runs on the service thread; the engine's lock is taken only
// where a queue pair is made, since completions may arrive for it at once.

#include <map>
#include <string>

#include "core/base/lock.hpp"
#include "core/fabric/fabric.hpp"
#include "core/fabric/verbs/queue_pair.hpp"

namespace rsock::fabric::verbs {

class CmDialler final : public Dialler {
 public:
  // A reason if there is no RDMA on this host. `lock` is the engine's; `device`: the only one to use, any if empty.
  static std::unique_ptr<CmDialler> make(Lock& lock, PinnedBudget& budget, const std::string& device, Announce announce,
                                         Drain drain, Reason& why);
  ~CmDialler() override;

  std::optional<Reason> open_point(uint64_t cookie, const Endpoint& local, const Endpoint& remote) override;
  void close_point(uint64_t cookie) override;
  std::optional<Reason> dial(uint64_t cookie, const Endpoint& from, const Endpoint& to,
                             const wire::Greeting& greeting) override;
  void cancel_dial(uint64_t cookie) override;
  void bury(std::unique_ptr<Connection> connection) override;
  int fd() const override { return events_.get(); }
  void dispatch(Meeting& meeting) override;

 private:
  // A dial under way, or a connection from the moment it has a queue pair of its own. Known by its identifier.
  struct Call {
    uint64_t cookie = 0;
    bool dialled = false;
    Address peer;
    wire::Hello hello;                      // of a dial
    std::unique_ptr<QueuePair> queue_pair;  // until the engine owns it
    QueuePair* established = nullptr;       // once the engine owns it
  };

  CmDialler(const Library& library, rdma_event_channel* channel, UniqueFd events, UniqueFd inert, Lock& lock,
            PinnedBudget& budget, std::string device, Announce announce, Drain drain);
  Device* device_of(rdma_cm_id* id);
  Device* watched(rdma_cm_id* id);
  Device* serving(const ibv_context* context);
  Device* vacant_device();
  std::unique_ptr<QueuePair> make_queue_pair(rdma_cm_id* id, Reason& why);
  rdma_conn_param parameters(std::span<const uint8_t> privately) const;
  void handle(Meeting& meeting, const rdma_cm_event& event);
  void request(Meeting& meeting, const rdma_cm_event& event);
  void route_found(Meeting& meeting, rdma_cm_id* id);
  void established(Meeting& meeting, const rdma_cm_event& event);
  void failed(Meeting& meeting, rdma_cm_id* id, Reason reason, std::optional<wire::Greeting> greeting);
  void lost(Meeting& meeting, rdma_cm_id* id);
  void removed(Meeting& meeting, rdma_cm_id* id);
  void let_go();
  void bury_doomed();
  void clean_up();
  bool wrong_device(const rdma_cm_id* id) const;

  const Library& library_;
  rdma_event_channel* channel_;
  const UniqueFd events_;  // a set of the channel and of what devices tell of themselves
  const UniqueFd inert_;   // nothing is ever written to it
  Lock& lock_;
  PinnedBudget& budget_;
  const std::string device_;
  Announce announce_;
  Drain drain_;
  std::vector<std::unique_ptr<Device>> devices_;  // never fewer: threads sleep on them. Vacant ones serve the next
  std::map<uint64_t, rdma_cm_id*> points_;
  std::map<rdma_cm_id*, Call> calls_;
  // Identifiers that may be destroyed only when the event at hand is acknowledged.
  std::vector<rdma_cm_id*> doomed_;
  bool dispatching_ = false;
  std::vector<std::unique_ptr<QueuePair>> doomed_pairs_;
};

// What an errno of rdma-core means for a flow.
Reason reason_of(int error);

}  // namespace rsock::fabric::verbs
