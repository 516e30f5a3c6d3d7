#include "core/control/caller.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

namespace rsock::control {
namespace {

constexpr auto kPause = milliseconds(10);
constexpr unsigned kListens = 0x10000;  // __SO_ACCEPTCON of the kernel, as /proc/net/unix shows it

timespec span(Duration duration) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration);
  return {seconds.count(), std::chrono::nanoseconds(duration - seconds).count()};
}

// Whether `fd` becomes readable in time; without one, the time passes.
bool readable(int fd, Duration patience) {
  pollfd asked{fd, POLLIN, 0};
  const auto limit = span(patience);
  return kernel.ppoll(&asked, 1, &limit, nullptr) == 1;
}

// The names of control sockets, without the '@' for the zero byte. A line of /proc/net/unix: address, count, protocol, flags, type, state,
// inode, name.
std::vector<std::string> doors() {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen("/proc/net/unix", "re"), std::fclose);
  const std::string prefix = std::string("@") + wire::kControlPrefix;
  std::vector<std::string> found;
  char line[256], name[sizeof(sockaddr_un::sun_path)];
  while (file && std::fgets(line, sizeof line, file.get())) {
    unsigned flags = 0;
    if (std::sscanf(line, "%*s %*s %*s %x %*s %*s %*s %107s", &flags, name) != 2 || !(flags & kListens)) continue;
    if (std::string_view(name).starts_with(prefix)) found.emplace_back(name + 1);
  }
  return found;
}

}  // namespace

std::optional<Caller> Caller::call(const char* door, Duration patience) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  const auto length = std::strlen(door);
  std::memcpy(name.sun_path + 1, door, length);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
  auto fd = out_of_the_way(sys::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return {};
  const auto deadline = now() + patience;
  for (;;) {
    const auto connected = sys::connect(fd->get(), reinterpret_cast<sockaddr*>(&name), size);
    if (connected) break;
    if (!connected.is(EAGAIN) || now() > deadline) return {};  // EAGAIN: many callers before us
    readable(-1, kPause);
  }
  ucred owner{};
  socklen_t room = sizeof owner;
  if (!sys::getsockopt(fd->get(), SOL_SOCKET, SO_PEERCRED, &owner, room)) return {};
  // Nobody else's word is taken: anybody may open a socket of such a name. A process of root's may have become this user's since.
  if (geteuid() != 0 && owner.uid != geteuid() && owner.uid != 0) return {};
  return Caller(std::move(*fd), owner.pid);
}

std::vector<Caller> Caller::call_all(Duration patience) {
  std::vector<Caller> all;
  for (const auto& door : doors())
    if (auto caller = call(door.c_str(), patience)) all.push_back(std::move(*caller));
  return all;
}

std::optional<wire::ControlAnswer> Caller::ask(const wire::ControlRequest& request, Duration patience) const {
  const auto asked = wire::encode(request);
  if (!sys::send(fd_.get(), asked.data(), asked.size(), MSG_NOSIGNAL) || !readable(fd_.get(), patience)) return {};
  std::vector<uint8_t> bytes(wire::kControlAnswerMost + 1);
  const auto got = sys::recv(fd_.get(), bytes.data(), bytes.size(), 0);
  if (!got || *got == 0) return {};
  return wire::decode_control_answer({bytes.data(), *got});
}

bool Caller::hung_up() const {
  return (sys::readiness(fd_.get()) & (POLLHUP | POLLERR)) != 0;
}

}  // namespace rsock::control
