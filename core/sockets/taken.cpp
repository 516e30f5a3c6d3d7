// A descriptor that was taken from another process, which does not know.

#include "core/control/caller.hpp"
#include "core/sockets/entry.hpp"

namespace rsock::sockets {
namespace {

bool is_connection(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  sockaddr_storage peer{};
  return sys::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, size) && type == SOCK_STREAM && sys::getpeername(fd, peer) &&
         (peer.ss_family == AF_INET || peer.ss_family == AF_INET6);
}

bool is_own(int theirs, uint64_t socket) {
  if (idle()) return false;
  const Section section;
  const auto* entry = find(theirs);
  return entry && entry->flow && sys::cookie(entry->flow->shadow()) == socket;
}

bool on_tcp(const wire::FlowCounts& flows) { return flows.rdma + flows.shm + flows.entering + flows.leaving == 0; }

}  // namespace

// Whose it is nobody says: of a child's descriptors, the flow may be its parent's.
void taken(int theirs, int fd) {
  const auto socket = is_connection(fd) ? sys::cookie(fd) : 0;
  if (socket == 0) return;
  if (is_own(theirs, socket)) return duplicated(theirs, fd);
  constexpr auto kPause = timespec{0, 500'000};
  const auto deadline = now() + kLeaveBound;
  const wire::ControlRequest request{wire::Order::hand_over, 0, socket};
  for (const auto& owner : control::Caller::call_all(kLeaveBound)) {
    auto answer = owner.ask(request, kLeaveBound);
    while (answer && !on_tcp(answer->flows) && now() < deadline) {
      kernel.ppoll(nullptr, 0, &kPause, nullptr);
      answer = owner.ask(request, kLeaveBound);
    }
  }
}

}  // namespace rsock::sockets
