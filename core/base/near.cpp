#include "core/base/near.hpp"

#include <sys/socket.h>

#include "core/base/unique_fd.hpp"

namespace rsock {

bool is_near(const Endpoint& local, const Endpoint& remote) {
  if (local.address == remote.address) return true;
  const auto probe = sys::socket(remote.address.v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (!probe) return true;
  const UniqueFd owned(*probe);
  sockaddr_storage address;
  const auto size = write(Endpoint{remote.address, 0}, address);
  return static_cast<bool>(sys::bind(*probe, reinterpret_cast<sockaddr*>(&address), size));
}

}  // namespace rsock
