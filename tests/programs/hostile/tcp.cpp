#include "tests/programs/hostile/tcp.hpp"

#include <poll.h>
#include <unistd.h>

#include <utility>

namespace hostile {

void Tcp::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

rsock::Endpoint Tcp::end(decltype(getsockname)* of) const {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  rsock::Endpoint endpoint;
  if (of(fd_, reinterpret_cast<sockaddr*>(&address), &size) == 0) parse(reinterpret_cast<sockaddr&>(address), endpoint);
  return endpoint;
}

std::string Tcp::receive(const std::function<bool(const std::string&)>& enough, std::chrono::milliseconds patience) {
  std::string got;
  const auto deadline = Clock::now() + patience;
  while (!enough(got) && Clock::now() < deadline) {
    pollfd wait{fd_, POLLIN, 0};
    if (::poll(&wait, 1, 50) <= 0) continue;
    char piece[4096];
    const auto size = ::recv(fd_, piece, sizeof piece, 0);
    if (size <= 0) {
      over_ = true;
      break;
    }
    got.append(piece, static_cast<size_t>(size));
    got_ += static_cast<uint64_t>(size);
  }
  return got;
}

const char* Tcp::probe() {
  if (fd_ < 0) return "over";
  const std::string words(57, 'x');
  send("PING " + words + "\r\n");
  const auto answer = receive([&](const auto& got) { return got.find(words) != got.npos; }, kPatience);
  return answer.find(words) != answer.npos ? "works" : over_ ? "over" : "silent";
}

}  // namespace hostile
