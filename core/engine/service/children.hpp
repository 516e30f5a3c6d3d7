#pragma once
// Children of fork, who call by a line each when they may have asked for flows or sets (share.hpp). A call
// says nothing, and a child calls as often as it likes, while an answer looks at all flows: answers get a
// tenth of the time, and a line is not listened to between its call and the answer. A child without a line is
// not heard: what it asks is looked for again and again.
//
// The service's thread, without the engine's lock, but for listen(). Nothing blocks. In a child of fork
// nothing here is used: it closes the descriptors.

#include <atomic>
#include <map>
#include <vector>

#include "core/base/exposed.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/service/events.hpp"
#include "core/engine/service/timers.hpp"

namespace rsock::engine {

class Children {
 public:
  // Lines are members of `events` as Events::Kind::child; the next answer is Due::children.
  Children(Engine& engine, Events& events, Timers& timers) : engine_(engine), events_(events), timers_(timers) {}

  // The thread that forks, with the service's at_work: the end of a child's line, if it has one.
  void listen(ExposedFd line);
  // In each turn: a child without a line may have come.
  void look();
  // That line is readable, or at its end.
  void called(uint64_t number);
  void answer();
  // Nobody is listened to any more; lines are closed.
  void dismiss();

 private:
  static constexpr uint32_t kListening = EPOLLIN | EPOLLONESHOT;

  Engine& engine_;
  Events& events_;
  Timers& timers_;
  std::map<uint64_t, ExposedFd> lines_;  // by number
  uint64_t next_line_ = 0;
  std::vector<uint64_t> calling_;     // lines that are not listened to until they are answered
  Time next_answer_{};                // not before
  std::atomic<bool> unheard_{false};  // there is a child without a line
};

}  // namespace rsock::engine
