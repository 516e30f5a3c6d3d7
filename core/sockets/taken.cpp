// A descriptor that was taken from another process, which does not know.

#include <vector>

#include "core/control/caller.hpp"
#include "core/sockets/entry.hpp"

namespace rsock::sockets {
namespace {

// A process that has not answered by then does not have librsock, or is stopped.
constexpr auto kDoorBound = milliseconds(1000);
constexpr control::Caller::Patience kAnswerBound{kDoorBound, kLeaveBound};

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

}  // namespace

// Whose it is nobody says: of a child's descriptors, the flow may be its parent's.
void taken(int theirs, int fd) {
  const auto socket = is_connection(fd) ? sys::cookie(fd) : 0;
  if (socket == 0) return;
  if (is_own(theirs, socket)) return duplicated(theirs, fd);
  constexpr auto kPause = timespec{0, 500'000};
  const wire::ControlRequest request{wire::Order::hand_over, 0, socket};
  auto all = control::Caller::call_all(kDoorBound);
  std::vector<control::Caller*> owners;
  for (auto& one : all) owners.push_back(&one);
  // Those whose it was, and with whom it is on its way still.
  const auto ask = [&] {
    const auto answers = control::Caller::ask_all(owners, request, kAnswerBound);
    std::vector<control::Caller*> leaving;
    for (size_t i = 0; i < owners.size(); ++i)
      if (answers[i] && answers[i]->flows.off_tcp() > 0) leaving.push_back(owners[i]);
    owners = std::move(leaving);
  };
  if (!owners.empty()) ask();
  // Its time begins when all were asked: one that is silent, and has nothing to do with it, takes that of the question
  // alone.
  for (const auto deadline = now() + kLeaveBound; !owners.empty(); ask()) {
    if (now() >= deadline) return sys::dissolve(fd);  // its bytes would come in front of what is in the lane
    kernel.ppoll(nullptr, 0, &kPause, nullptr);
  }
}

}  // namespace rsock::sockets
