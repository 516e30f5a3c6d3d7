#pragma once
// `rsock capture` (core/engine/capture.hpp): begins with root's word, and ends when root's command goes away,
// in whatever way.
//
// The service's thread, without the engine's lock.

#include "core/engine/engine.hpp"
#include "core/engine/service/control.hpp"
#include "core/wire/control.hpp"

namespace rsock::engine {

class Capturing {
 public:
  explicit Capturing(Engine& engine) : engine_(engine) {}
  // `user`: who asks. The capture lasts as long as what is kept.
  Control::Reply begin(const wire::ControlRequest& request, uid_t user);

 private:
  void tell(Capture* capture);
  void end();

  Engine& engine_;
};

}  // namespace rsock::engine
