#include "core/engine/service/peer_owners.hpp"

#include <mutex>

#include "core/base/log.hpp"

namespace rsock::engine {
namespace {

Reason reason_of(int error) {
  switch (error) {
    case EMFILE:
    case ENFILE: return Reason::descriptors;
    case EAGAIN: return Reason::plain_peer;  // another time
    default: return Reason::owner_unknown;
  }
}

}  // namespace

Result<uid_t> PeerOwners::of(uint64_t id) {
  TcpEnd end;
  {
    const std::lock_guard guard(engine_.lock);
    const auto flow = engine_.find_flow(id);
    if (!flow) return Errno{EAGAIN};
    if (const auto known = flow->peer_user()) return *known;
    end = flow->own_end();
  }
  const auto owner = owners_.peer_of(end);
  if (!owner) return owner;
  const std::lock_guard guard(engine_.lock);
  const auto flow = engine_.find_flow(id);
  const bool is_the_same =
      flow && flow->own_end().inode == end.inode && flow->local() == end.local && flow->remote() == end.remote;
  if (is_the_same) flow->set_peer_user(*owner);
  return owner;
}

// Anybody may come as often as it likes: that is no news.
std::optional<Reason> PeerOwners::doubt(uint64_t id, uid_t user) {
  if (!may_share_memory(user)) return Reason::no_permission;
  const auto owner = of(id);
  if (!owner) return reason_of(owner.error());
  if (*owner == user) return {};
  log::debug("a process of user {} is at the rendezvous of flow {}, whose peer is user {}'s", user, id, *owner);
  return Reason::no_permission;
}

std::optional<Reason> PeerOwners::silence() {
  const auto told = owners_.can_tell();
  return told ? std::nullopt : std::optional(reason_of(told.error()));
}

}  // namespace rsock::engine
