#pragma once
// The program lacks descriptors, and the library has some where the program's are: it gives them back. All
// flows go to TCP, with the gate barred; what served them is closed: their anchors, the links, the points,
// the fabric of this host, in the end what the service thread itself listens to. It is absent then: it hears
// of calls and of nothing else, and looks again later whether there is room.
//
//   there ─▶ barred ─▶ absent ─▶ there      absent: no descriptor, no link, no flow off TCP
//              └───────────────▶ there      barred: somebody needs the thread, a flow whose peer does not
//                                           answer, or an RDMA device, whose removal has to be heard of
//
// A flow that waits for its peer's RESUME keeps its anchor: without it, an unseen close would put our frames
// into another file of that number. It is waited for no longer than that.
//
// The service's thread, without a lock, but for ask() and await(), which are for others. Its look whether
// there is room again is Due::room. A child of fork begins with room.

#include <atomic>

#include "core/base/lock.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/service/operators.hpp"
#include "core/engine/service/pause.hpp"
#include "core/engine/service/timers.hpp"

namespace rsock::engine {

class Room {
 public:
  // What there is to be given back, and taken again. Without the engine's lock.
  class Premises {
   public:
    // A turn of the thread, after so long at most. False if it has something else to do.
    virtual bool turn(Duration wait) = 0;
    // Handles what has completed, and destroys dead links; with at_work.
    virtual void clear_up() = 0;
    // Nobody is looked for any more, and the fabric of this host is closed. False if something is needed
    // still; with at_work.
    virtual bool leave() = 0;
    // Nothing is listened to. False if that cannot be; with at_work.
    virtual bool shut() = 0;
    // False if it cannot be had again.
    virtual bool open() = 0;
    virtual bool absent() const = 0;

   protected:
    ~Premises() = default;
  };

  // `at_work`: the service's.
  Room(Engine& engine, Lock& at_work, Timers& timers, Operators& operators, Premises& premises)
      : engine_(engine), at_work_(at_work), timers_(timers), operators_(operators), premises_(premises) {}

  // Any thread, under the engine's lock: what await() is to be called with. Those who ask while it is under
  // way wait for the same.
  uint32_t ask();
  // Any thread but the service's, without the lock: returns when that is done, or when nothing more is to be
  // had for now. Blocks for a bounded time.
  void await(uint32_t asked) const;

  bool is_asked() const { return asked_ != answered_; }
  void make();
  // Whether there is room again; with at_work.
  void look();

 private:
  bool bar(Time time);
  size_t give_back_all(bool first, Time began, bool& all);
  size_t give_back(bool& all);
  bool settle_in();

  Engine& engine_;
  Lock& at_work_;
  Timers& timers_;
  Operators& operators_;
  Premises& premises_;
  std::atomic<uint32_t> asked_{0}, answered_{0};
  Pause pause_ = pause();
  Time settled_in_{}, barred_since_{};  // when there was room at last, and when there was no more
  static Pause pause() { return {milliseconds(1000), milliseconds(30000)}; }
};

}  // namespace rsock::engine
