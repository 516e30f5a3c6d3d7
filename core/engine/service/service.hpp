#pragma once
// The one thread of the library: it does what no application thread may be there for. It finds peers, looks
// after shadow sockets of flows that left TCP, destroys dead links, and drives the engine while no
// application thread does. It blocks all signals. Data moves without it.
//
// Here are the thread, its turns, and who is told what came; all else is a part's, which knows nothing of
// this class:
//
//   Events        what it sleeps on
//   Timers        what is due, and when
//   Orders        what other threads ask
//   Attending     who drives the engine
//   Rendezvous    how two processes find each other: Points, Search
//   Fabrics       what makes links; Preparation tries that before it is needed
//   Operators     what commands do; Control hears them
//   Capturing     what goes through lanes is shown to root
//   Children      who ask for flows after a fork
//   Room          what is given back when the program lacks descriptors
//   Deliverance   how it ends; LastThread notices that nobody else is there
//
// A turn: it sleeps until the first deadline; then, with at_work, it looks at what has come, what was ordered,
// what is due, and who attends. Flows and peers of which there is nothing new are not looked at.
//
// A child of fork has none of this: the thread is not there, and the memory is its parent's, which it does not
// use. It has an engine of its own, whose service starts when a flow needs one.

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/engine/engine.hpp"
#include "core/engine/service/attending.hpp"
#include "core/engine/service/capturing.hpp"
#include "core/engine/service/children.hpp"
#include "core/engine/service/control.hpp"
#include "core/engine/service/deliverance.hpp"
#include "core/engine/service/events.hpp"
#include "core/engine/service/fabrics.hpp"
#include "core/engine/service/kernel_rings.hpp"
#include "core/engine/service/last_thread.hpp"
#include "core/engine/service/operators.hpp"
#include "core/engine/service/peer_owners.hpp"
#include "core/engine/service/preparation.hpp"
#include "core/engine/service/rendezvous.hpp"
#include "core/engine/service/room.hpp"
#include "core/engine/service/timers.hpp"
#include "core/fabric/arena.hpp"

namespace rsock::engine {

class Service final : private Room::Premises {
 public:
  // nullptr if the thread or a descriptor cannot be had.
  static std::unique_ptr<Service> start(Engine& engine);
  ~Service();

  // Held by the thread while it is at work, also in rdma-core and the loader: fork(2) waits for it, since a
  // child would find their locks taken for ever. Ranks before the engine's lock.
  Lock at_work;
  // Returns when the thread is about to begin its first turn. Until then it may hold a lock of the allocator, which is
  // not always libc's: that of a sanitizer makes room for each new thread, and does not know of fork.
  void await_begin() const;
  // In a child of fork.
  static void forked();
  // A child of fork calls by the other end, if it has one. Under `at_work`.
  void listen_to_child(ExposedFd line) { children_.listen(std::move(line)); }

  // No flow is in a lane, and none will be: the links are given up, and the thread ends. Returns when it has;
  // blocks for a bounded time, without the lock.
  void retire();
  bool runs() const { return !deliverance_.rests(); }

  // ---- from handlers of signals, too: takes neither locks nor memory
  // The calling thread is about to end, with this status as of _exit, by libc's hands or its own.
  void thread_ends(int status);
  // The process is about to end: see Deliverance.
  void deliver_all() { deliverance_.deliver_all(); }
  void end_in_time(int signal) { deliverance_.end_in_time(signal); }

  // The program lacks descriptors: the flows go to TCP for a while, and what the library has open is given
  // back. Under the lock; what await_room() is to be called with.
  uint32_t ask_for_room() { return room_.ask(); }
  // Returns when that is so, or when nothing more is to be had for now; blocks for a bounded time, without
  // the lock.
  void await_room(uint32_t asked) const { room_.await(asked); }
  // It has given back all its descriptors: no flow is in a lane, or comes into one. Under the lock.
  bool absent() const override { return !events_.is_open(); }

  // The fabrics of `lanes` are tried soon, each once. Any thread, without the engine's lock; does not wait.
  void prepare(Lanes lanes);

  // ---- any thread, under the engine's lock
  void watch(Flow& flow);
  void unwatch(Flow& flow);
  // An application thread wakes from its sleep: somebody has to look whether it stays.
  void sleeper_woke() {
    if (attending_.relaxed()) engine_.orders.wake();
  }

 private:
  explicit Service(Engine& engine);
  std::unique_ptr<fabric::Dialler> make_dialler(Lane lane, const fabric::Dialler::Announce& announce, Reason& why);
  static void* entry(void* self);
  void run();
  bool take_turn(Duration wait);
  Duration patience() const;
  void handle(uint64_t tag, uint32_t events);
  void take_orders();
  void expire();
  void due(Timers::Name timer);
  void probe();
  void look_for_rings();
  void look_at_young();
  void bury();
  void rest();

  // ---- Room::Premises
  bool turn(Duration wait) override { return deliverance_.goes_on() && take_turn(wait); }
  void clear_up() override;
  bool leave() override;
  bool shut() override;
  bool open() override;

  Engine& engine_;
  Events events_;
  Timers timers_;
  Attending attending_;
  Deliverance deliverance_;
  LastThread last_thread_;
  uint64_t programs_mask_ = 0;  // of the thread that started this one
  pthread_t thread_{};
  std::atomic<uint32_t> begun_{0};
  bool called_ = false;   // in this turn
  bool in_need_ = false;  // of memory, in the last turn: the next comes at once
  Capturing capturing_;
  std::unique_ptr<Control> control_;  // if there was a descriptor for it
  KernelRings kernel_rings_;
  Children children_;
  fabric::PinnedBudget budget_;
  PeerOwners owners_;
  Fabrics fabrics_;
  Rendezvous rendezvous_;
  Preparation preparation_;
  Operators operators_;
  Room room_;
};

}  // namespace rsock::engine
