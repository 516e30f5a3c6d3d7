#pragma once
// The engine: the completion sources, the links and the flows of the process, under one lock. Application threads drive
// it from within their calls; the service thread drives it when none of them does.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/lock.hpp"
#include "core/engine/capture.hpp"
#include "core/engine/flow.hpp"
#include "core/engine/gate.hpp"
#include "core/engine/link.hpp"
#include "core/engine/service/orders.hpp"
#include "core/engine/service/young.hpp"
#include "core/engine/settings.hpp"
#include "core/engine/share.hpp"
#include "core/fabric/fabric.hpp"

namespace rsock::engine {

class Service;

// What operators' commands need from above.
struct Program {
  struct Reloaded {
    size_t leave = 0;       // flows that do, since no rule selects them any more
    std::string complaint;  // what is wrong with the configuration: then all stays as it was
  };
  std::string name;
  std::function<Reloaded()> reload;  // on the service thread, without the lock
  std::function<void()> asked;       // the same, under the lock: a child may have asked for an epoll set
  std::function<void()> ended;       // the same: all is delivered that could be, and the process is about to end
  std::function<void()>
      make_room;  // the same: descriptors that are of use only while flows are in lanes are given back
  std::function<bool()> settle_in;  // the same: they are there again. False if they cannot be had
};

class Engine {
 public:
  explicit Engine(const Settings& settings);
  ~Engine();

  Lock lock;  // guards everything below and every flow and link
  const Settings settings;
  const uint64_t identity;  // random; tells the engines of one peer address apart

  // ---- progress
  // Handles what completed, in the order in which it did, and then what followed from it; true if there was anything.
  // Polling never nests: from within a handler of a completion this must not be called, nor drain().
  bool poll();
  // The same for a thread that spins, which a poll() has to follow: what comes from peers that were silent for long may
  // be missed.
  bool glance();
  // Until nothing is left. False if there is no end to it: then it goes on another time.
  bool drain();
  // Handles what has completed by now, unless that is under way.
  void catch_up() {
    if (!handling_) (void)drain();
  }
  // TCP has ended beneath a flow that has a lane, or may have one. It hears of it (Flow::decide_end) when all is
  // counted that has landed by now: at once, or from within a handler, after the batch.
  void tcp_ended(Flow& flow);
  std::atomic<uint64_t> polls{0};  // written under the lock, like the next one; looked at without it as well
  // Posts what links gather. For a thread that is about to wait: no further write of its can be joined with them.
  void flush() {
    while (!gathering.empty()) gathering.back()->flush();
  }
  std::vector<Link*> gathering;
  // Asks all sources for an event, unless that is asked already. poll() again before sleeping.
  void arm();
  // Some source's descriptor is readable: takes the events off.
  void acknowledge();
  // Descriptors to sleep on, after arm(). Sources are added, never removed: one that has gone leaves -1, and its number
  // to the next.
  const std::vector<int>& sources() const { return source_fds_; }
  // Its number.
  size_t add_source(fabric::Completions& source);
  unsigned source_changes() const { return source_changes_; }
  const std::vector<fabric::Completions*>& completions() const { return completions_; }
  // How long a thread may poll in vain before it sleeps.
  Duration longest_spin() const;
  std::atomic<int> asleep{0};  // threads that sleep on the sources
  bool guarded = false;        // the service does

  // ---- flows
  std::shared_ptr<Flow> make_flow(Role role, int fd);
  std::shared_ptr<Flow> find_flow(uint64_t id);
  std::shared_ptr<Flow> find_eligible(uint64_t id);                                // if it may enter a lane now
  std::shared_ptr<Flow> find_flow(const Endpoint& local, const Endpoint& remote);  // looks at all of them
  void forget(Flow& flow);
  // Lets go of finished flows. Not from within a call to a flow.
  void bury_flows() { finished_.clear(); }
  // By their numbers, so that whoever lists them some at a time goes on where he was.
  const std::map<uint64_t, std::shared_ptr<Flow>>& flows() const { return flows_; }
  // Flows that a CLAIM may name, from before their connect(2) on.
  void add_connector(Flow& flow);
  // Its ends are known, or others than before.
  void name_connector(Flow& flow, const Endpoint& local, const Endpoint& remote);
  void remove_connector(Flow& flow);
  Flow* find_connector(const wire::Claim& claim, const Link& link);
  // From now on no flow is in a lane, and none will be, for this reason. Those in lanes begin to leave.
  void forgo_lanes(Reason reason);
  std::optional<Reason> forgone() const { return forgone_; }

  // The thread that ends the process, for which the flows are closed; 0: nobody does. Written under the lock.
  std::atomic<pid_t> ended_by{0};

  // ---- operators
  Gate gate;
  Program program;  // set once, before the service starts
  // nullptr: none is made. All flows hear of what becomes of it.
  std::unique_ptr<Capture> capture;

  // Sources that are about to go; their places are taken by those that come.
  void vacate(const std::vector<fabric::Completions*>& sources);

  // ---- other processes
  // Made at the first fork; nullptr if there is no memory for it, or no service to be called.
  Family* family();
  bool has_family() const { return family_ != nullptr; }
  // Nobody will be there for children to call: what they may want is the kernel's for good.
  void dissolve_family();
  // A child may have asked for flows.
  void answer_family();

  // ---- links
  Link& add_link(std::unique_ptr<fabric::Connection> connection, const Address& peer, const wire::Greeting& greeting,
                 bool dialled);
  // What this engine is known by to its peers. False if it cannot be had: then no link can be.
  bool has_keys();
  const keys::KeyPair& keys() const { return keys_; }
  void link_failed(Link& link);
  std::atomic<bool> any_links{false}, any_failed{false};  // for the service thread, without the lock
  // There was one over RDMA: a device that is not here now may have gone for a while.
  bool had_device() const { return had_device_; }
  // Usable ones of that lane whose peer answers, newest first.
  std::vector<Link*> links_to(const Address& peer, Lane lane);
  Link* link_of(uint64_t peer_engine, const Address& peer, Lane lane);
  Link* link_with(const fabric::Connection& connection);
  const std::vector<std::unique_ptr<Link>>& links() const { return links_; }
  // Failed links that no flow names any more, for the service thread to destroy.
  std::vector<std::unique_ptr<Link>> take_dead_links();

  // ---- the service thread: it takes these from here
  Orders orders;
  // Starts it, once. False if that failed: flows stay on TCP.
  bool start_service();
  // Without the lock, too: a call of another thread may start it meanwhile.
  Service* service_if_any() const { return started_.load(std::memory_order_acquire); }
  Service& service() { return *service_; }
  void ask_owner(Flow& flow);    // find out whose the socket at its other end is
  void is_young(Flow& flow);     // connected, or accepted and used: what is it worth?
  void is_worth_it(Flow& flow);  // its peer is sought, or expected
  Young young_connectors, young_acceptors;
  void seek(Flow& flow);        // an accepted flow: find its peer
  void declined(Flow& flow);    // its claim was declined: ask elsewhere
  void expect(Flow& flow);      // a connected flow: open its rendezvous point
  void again(Flow& flow);       // a flow that had a lane: look for one after a while
  void settled(Flow& flow);     // it no longer waits for either
  void in_cutover(Flow& flow);  // it must not last
  void corked(Flow& flow);      // bytes wait for more: not for long
  void unsent(Flow& flow);      // the kernel had no memory for what it owes on TCP, and will not say when it has
  void unwatch(Flow& flow);
  void watch(Flow& flow);  // its shadow socket wants looking after

 private:
  void fail_idle_links(const Address& peer);
  using Look = int (fabric::Completions::*)();
  bool poll(Look look);
  bool poll_sources(Look look);
  void rearm();
  void name_connectors();
  void decide_ends();

  std::vector<fabric::Completions*> completions_;
  std::vector<int> source_fds_;
  unsigned source_changes_ = 0;
  bool armed_ = false;
  bool handling_ = false;                     // completions, or what followed from them
  std::vector<std::shared_ptr<Flow>> ended_;  // on TCP, and not decided
  bool far_ = false;                          // there are links to other hosts
  bool had_device_ = false;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::shared_ptr<Flow>> flows_;
  std::vector<std::shared_ptr<Flow>> finished_;
  std::multimap<Endpoint, Flow*> connectors_;  // by their own ends
  std::vector<Flow*> unnamed_;
  std::optional<Reason> forgone_;
  std::vector<std::unique_ptr<Link>> links_;
  keys::KeyPair keys_;
  bool keyed_ = false;
  std::unique_ptr<Service> service_;
  std::atomic<Service*> started_{nullptr};  // the same, for those without the lock
  std::unique_ptr<Family> family_;
};

}  // namespace rsock::engine
