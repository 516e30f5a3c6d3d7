#pragma once
// The one thread of the library: it does what no application thread may be there for. It finds peers (rendezvous points,
// dials, claims), looks after shadow sockets of flows that left TCP, destroys dead links, and drives the engine while no
// application thread does. It blocks all signals. Data moves without it.
//
// Attending. Application threads poll the engine inside their calls and arm it before they sleep. If none has done so between
// two ticks, nobody may come for a long time (the program computes, or sleeps where we cannot see it): then the service arms the
// engine and sleeps on its sources itself, until it finds a thread attending again. While a thread sleeps on the armed
// engine, or the service does, there are no ticks: an idle process uses no CPU.

#include <pthread.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "core/base/unique_fd.hpp"
#include "core/engine/control.hpp"
#include "core/engine/engine.hpp"
#include "core/fabric/arena.hpp"

namespace rsock::engine {

class Service final : private fabric::Meeting {
 public:
  // nullptr if the thread or a descriptor cannot be had.
  static std::unique_ptr<Service> start(Engine& engine);
  ~Service();

  // Held by the thread while it is at work, also in rdma-core and the loader: fork(2) waits for it, since a child would find
  // their locks taken for ever. Ranks before the engine's lock.
  std::mutex at_work;
  // In a child of fork.
  static void forked();

  // No flow is in a lane, and none will be: the links are given up, and from now on the thread sleeps and makes no other system call.
  // Returns when that is so; blocks for a bounded time, without the lock.
  void retire();

  // From a handler of a signal that ends the process: all flows are closed, and what they hold is delivered, by this thread. Returns when
  // that is done; blocks for drain_ms at most, and a little more if the thread cannot do it. Takes neither locks nor memory, which the
  // interrupted code may have.
  void deliver_all();

  // Returns when the fabrics of `lanes` have been tried once, or after a second. Any thread, without the engine's lock. Files
  // are opened for that, and each takes the lowest number for a moment: not at a time when the program counts on them.
  void prepare(Lanes lanes);

  // ---- any thread, under the engine's lock
  void seek(uint64_t flow);
  void expect(uint64_t flow);
  void again(uint64_t flow);
  void not_wanted(uint64_t flow);
  void in_cutover(uint64_t flow);
  void corked(uint64_t flow);
  void watch(Flow& flow);
  void unwatch(Flow& flow);
  void wake();
  // An application thread wakes from its sleep: somebody has to look whether it stays.
  void sleeper_woke() {
    if (relaxed_) wake();
  }
  // Rung by children of fork, too.
  int bell() const { return bell_.get(); }

 private:
  // What the thread does, or is asked to do.
  enum class Work : uint32_t { goes_on, is_to_rest, rests, is_to_deliver, delivered };
  // A flow that waits to be dialled.
  struct Waiting {
    uint64_t flow = 0;
    Time due{};      // not before
    Duration pause{};  // after the next refusal
    Reason failure = Reason::plain_peer;  // of the last dial
  };
  // What makes the links of one lane, from when it is first needed.
  struct Fabric {
    std::unique_ptr<fabric::Dialler> dialler;
    std::optional<Reason> unavailable;
    Time retry{};
  };
  // Where peers are looked for.
  struct Place {
    Lane lane;
    Address address;
    auto operator<=>(const Place&) const = default;
  };
  // The rendezvous point of a flow: in one fabric or in both. Where its name is taken, it opens later.
  struct Point {
    Time closes{};  // or is given up, if it could not be opened; Time::max(): once it is used
    bool open = false;  // somewhere
    Duration pause{};   // before it is tried again
    std::array<std::optional<Time>, kLaneNames.size()> opens{};  // by lane: when it will be opened there
    std::optional<Time>& opens_in(Lane lane) { return opens[static_cast<size_t>(lane)]; }
    // When there is something to do next.
    Time due() const {
      auto first = closes;
      for (const auto& time : opens) first = std::min(first, time.value_or(closes));
      return first;
    }
  };
  // What is known of a peer's address, in one lane.
  struct Peer {
    std::deque<Waiting> waiting;      // oldest first
    std::optional<Waiting> dialling;  // the flow whose point is dialled
    Time dial_ends{};
    Time next_dial{};    // not before
    Time next_sweep{};
    bool plain = false;  // taken for an address where librsock does not run
  };

  explicit Service(Engine& engine);
  static void* entry(void* self);
  bool turn(Duration wait);
  void deliver();
  void work_done(Work what);
  // For other threads, handlers included: until work_done() was told, or the deadline.
  void wait_while(Work what, Time deadline);
  [[noreturn]] void rest();
  void run();
  void handle(uint64_t tag, uint32_t events);
  void take_orders();
  void prepare_now(Lanes lanes);
  void prepare_what_is_asked();
  void attend();
  bool poll();
  void bury();
  Duration patience();

  void announced(fabric::Completions& source);
  void look_after_dialler(Lane lane);

  // operators.cpp
  wire::ControlAnswer obey(const wire::ControlRequest& request);

  // rendezvous.cpp
  // Its dialler; nullptr and a reason if there is none to be had.
  fabric::Dialler* dialler_of(Lane lane, Reason& why);
  fabric::Dialler* dialler_of(Lane lane) { return fabrics_[static_cast<size_t>(lane)].dialler.get(); }
  std::unique_ptr<fabric::Dialler> make_dialler(Lane lane, Reason& why);
  void open_point(uint64_t id);
  std::optional<Reason> open_where_due(uint64_t id, Point& point);
  std::optional<Reason> open_point_in(Lane lane, uint64_t id, const Endpoint& local, const Endpoint& remote);
  void close_point(uint64_t id);
  void find_peer(uint64_t id);
  bool claim_on_links(Flow& flow);
  void pump(const Place& place, Peer& peer);
  static std::deque<Waiting>::iterator next_waiting(Peer& peer);
  static Time next_dial(Peer& peer);
  static void wait_again(Lane lane, Peer& peer, Waiting waiting);
  static void space(Lane lane, Peer& peer);
  void sweep(Lane lane, Peer& peer);
  bool look_elsewhere(Flow& flow);
  void expire();
  void settle(uint64_t id, Reason reason);
  void not_found(uint64_t id, Reason reason);
  void try_again(uint64_t id);
  void probe();
  wire::Greeting asked(Lane lane, uint64_t cookie, const Address& from, const wire::Hello& hello) override;
  void linked(uint64_t cookie, bool dialled, const Address& peer, const wire::Greeting& greeting,
              std::unique_ptr<fabric::Connection> connection, fabric::Completions& completions) override;
  void established(fabric::Connection& connection) override;
  void dial_failed(uint64_t cookie, Reason reason, std::optional<wire::Greeting> greeting) override;
  void disconnected(fabric::Connection& connection) override;
  void point_lost(uint64_t cookie, Reason reason) override;

  Engine& engine_;
  UniqueFd epoll_, bell_;
  std::atomic<Work> work_{Work::goes_on};
  std::atomic<uint32_t> resting_place_{0};  // nobody wakes who sleeps there
  std::atomic<bool> at_rest_{false};
  std::unique_ptr<Control> control_;  // if there was a descriptor for it
  pthread_t thread_{};
  bool rung_ = false, relaxed_ = false;                                // under the lock
  struct {
    std::mutex lock;
    std::condition_variable done;
    Lanes wanted, ever;
    unsigned asked = 0, answered = 0;
  } preparation_;
  std::vector<uint64_t> seek_, expect_, again_, not_wanted_, in_cutover_, corked_;  // orders, under the lock

  fabric::PinnedBudget budget_;
  std::array<Fabric, kLaneNames.size()> fabrics_;  // by lane
  std::map<Place, Peer> peers_;
  std::map<uint64_t, Point> points_;   // by flow
  std::map<uint64_t, Time> cutovers_;  // by flow: when they must be over
  std::map<uint64_t, Time> retries_;   // by flow: when a lane is looked for again
  std::map<uint64_t, Time> corks_;     // by flow: when what gathered has to go

  bool taken_over_ = false, called_ = false;
  uint64_t seen_polls_ = 0, own_polls_ = 0;  // polls of application threads at the last look; the service's own
  std::optional<Time> next_tick_;
  std::optional<Time> next_probe_;  // of silent links: while there are any with flows
};

}  // namespace rsock::engine
