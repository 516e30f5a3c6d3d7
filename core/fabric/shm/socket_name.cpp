#include "core/fabric/shm/socket_name.hpp"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>

#include "core/base/kernel.hpp"

namespace rsock::fabric::shm {
namespace {

constexpr size_t kBefore = offsetof(sockaddr_un, sun_path) + 1, kDigits = 5;

bool is_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

}  // namespace

Status give_name(int socket) {
  const sockaddr nothing{AF_UNIX, {}};
  return sys::bind(socket, &nothing, sizeof nothing.sa_family);
}

Result<uint32_t> name_of_dialler(int socket, Dialled dialled) {
  sockaddr_un name{};
  socklen_t size = sizeof name;
  const auto told = system_call(dialled == Dialled::here ? SYS_getsockname : SYS_getpeername, socket, &name, &size);
  if (is_error(told)) return Errno{static_cast<int>(-told)};
  const auto* const digits = name.sun_path + 1;
  const bool made_up =
      size == kBefore + kDigits && name.sun_path[0] == 0 && std::all_of(digits, digits + kDigits, is_digit);
  if (!made_up) return Errno{EPROTO};
  uint32_t number = 0;
  std::from_chars(digits, digits + kDigits, number, 16);
  return number;
}

}  // namespace rsock::fabric::shm
