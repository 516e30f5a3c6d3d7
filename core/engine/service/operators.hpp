#pragma once
// What operators may ask of a process (core/wire/control.hpp): where its flows are, that they leave their
// lanes, that they may enter again, and that the rules are read anew. And what is no operator's order: that a
// flow leaves for good whose socket another process has.
//
// The service's thread, without the engine's lock, but for look_again(). Nothing blocks but what
// Program::reload reads. Flows are only set moving: the answer says where they were then.
// A child of fork has its own, with its own control socket.

#include "core/engine/engine.hpp"
#include "core/wire/control.hpp"

namespace rsock::engine {

class Operators {
 public:
  explicit Operators(Engine& engine) : engine_(engine) {}

  wire::ControlAnswer obey(const wire::ControlRequest& request);
  // The search for lanes begins anew, where the gate lets it; for how many flows with this port at either
  // end, 0 for all. Under the lock.
  size_t look_again(uint16_t port);

 private:
  size_t move(const wire::ControlRequest& request);
  size_t send_away(uint16_t port);
  size_t hand_over(uint64_t socket);
  std::vector<std::shared_ptr<Flow>> concerned(const wire::ControlRequest& request) const;

  Engine& engine_;
};

}  // namespace rsock::engine
