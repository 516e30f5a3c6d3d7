#pragma once
// Whose the socket at the other end of a flow is, for all who look for its peer. Only the owner of that
// socket is the peer, whoever we are: a process that is neither end could relay between them, and read and
// change every byte. The processes of one user are not told apart.
//
// The service's thread, without the engine's lock: where only the kernel's table tells, that takes long to
// read. What is found out stays with the flow. A child of fork does not use it.

#include <optional>

#include "core/base/socket_owner.hpp"
#include "core/engine/engine.hpp"

namespace rsock::engine {

class PeerOwners {
 public:
  explicit PeerOwners(Engine& engine) : engine_(engine) {}

  // Of a flow, by number. Errors as SocketOwners has them; EAGAIN: there is no such flow, too.
  Result<uid_t> of(uint64_t flow);
  // Why a process of `user` cannot be at the other end of the flow.
  std::optional<Reason> doubt(uint64_t flow, uid_t user);
  // Why nothing here tells of any socket.
  std::optional<Reason> silence();

 private:
  Engine& engine_;
  SocketOwners owners_;
};

}  // namespace rsock::engine
