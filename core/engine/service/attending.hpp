#pragma once
// Somebody has to drive the engine. Application threads poll it inside their calls and arm it before they
// sleep. If none has done so between two looks, nobody may come for a long time (the program computes, or
// sleeps where we cannot see it): then the service's thread arms the engine and sleeps on its sources itself,
// until it finds a thread attending again.
//
//   an application thread      the service's thread
//   polls                      looks again after 10 ms, and takes no lock for it
//   sleeps, armed              sees that it is armed; relaxed: no ticks
//   neither                    takes over: armed, on its own epoll set; relaxed
//
// So an idle process uses no CPU. Whoever wakes while it is relaxed calls it (relaxed()).
//
// The service's thread, with or without the engine's lock, as each function says. Nothing blocks. A
// child of fork does not use it.

#include "core/engine/engine.hpp"
#include "core/engine/service/events.hpp"
#include "core/engine/service/timers.hpp"

namespace rsock::engine {

class Attending {
 public:
  // Its look is due as Due::tick, and the sources are members of `events` as Events::Kind::source.
  Attending(Engine& engine, Events& events, Timers& timers) : engine_(engine), events_(events), timers_(timers) {}

  // In each turn, when all else is done; without the lock.
  void look();

  // ---- under the lock
  // Polls until nothing is left: what came before an arming gives no event. False if something may be.
  bool poll();
  // There is one more source.
  void add(fabric::Completions& source);
  // A source that this thread sleeps on is readable.
  void source_ready();
  // Nothing is slept on any more: `events` is about to be closed.
  void stop();
  // Any thread: there is no look to come, and a thread that was asleep has to see to it that there is.
  bool relaxed() const { return relaxed_; }

 private:
  std::optional<Time> next_look();
  void take_over();

  Engine& engine_;
  Events& events_;
  Timers& timers_;
  bool taken_over_ = false;
  bool relaxed_ = false;
  uint64_t seen_polls_ = 0;  // of application threads, at the last look
  uint64_t own_polls_ = 0;
};

}  // namespace rsock::engine
