#pragma once
// Fabrics are tried before a flow needs them, at a time when the files that this opens do no harm: each takes
// the lowest number for a moment, and a program may count on its descriptors' numbers (core/base/numbers.hpp).
//
// ask(): any thread but the service's, without the engine's lock; does not wait. The rest: the service's
// thread. A child of fork prepares anew.

#include <mutex>

#include "core/base/lane.hpp"
#include "core/engine/engine.hpp"
#include "core/engine/service/fabrics.hpp"

namespace rsock::engine {

class Preparation {
 public:
  Preparation(Engine& engine, Events& events, Fabrics& fabrics) : engine_(engine), events_(events), fabrics_(fabrics) {}

  // The fabrics of `lanes` are tried soon, each once; until then the program gets no number.
  void ask(Lanes lanes);
  void answer();
  // Tries them now. Without descriptors it does not: what is needed is made when there is room.
  void prepare(Lanes lanes);

 private:
  Engine& engine_;
  Events& events_;
  Fabrics& fabrics_;
  std::mutex lock_;  // before the engine's
  Lanes wanted_, ever_;
};

}  // namespace rsock::engine
