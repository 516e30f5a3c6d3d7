#include "core/engine/control.hpp"

#include <sys/epoll.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "core/base/log.hpp"

namespace rsock::engine {
namespace {

constexpr size_t kMostCallers = 8;
constexpr int kBacklog = 16;
constexpr int kDoorTurn = 16;  // callers let in at a stretch
constexpr auto kPatience = milliseconds(5000);  // with a caller, since it last asked
constexpr auto kDeaf = milliseconds(1000);
constexpr uint64_t kDoor = 0;

Result<UniqueFd> make_listener() {
  auto made = out_of_the_way(sys::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!made) return made;
  uint64_t number = 0;
  sys::random(&number, sizeof number);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  const auto text = fmt::format("{}{:016x}", wire::kControlPrefix, number);
  std::memcpy(name.sun_path + 1, text.data(), text.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
  auto status = sys::bind(made->get(), reinterpret_cast<sockaddr*>(&name), size);
  if (status) status = sys::listen(made->get(), kBacklog);
  if (!status) return Errno{status.error()};
  return made;
}

bool may_command(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return sys::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, size) && (peer.uid == 0 || peer.uid == geteuid());
}

}  // namespace

std::unique_ptr<Control> Control::open(int epoll, uint64_t tag, Obey obey) {
  auto listener = make_listener();
  if (!listener) {
    log::info("no control socket: {}", std::strerror(listener.error()));
    return nullptr;
  }
  std::unique_ptr<Control> made(new Control(epoll, tag, std::move(obey), std::move(*listener)));
  if (!made->watch(made->listener_.get(), kDoor)) return nullptr;
  return made;
}

Control::Control(int epoll, uint64_t tag, Obey obey, UniqueFd listener)
    : epoll_(epoll), tag_(tag), obey_(std::move(obey)), listener_(std::move(listener)) {}

Status Control::watch(int fd, uint64_t number) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;
  event.data.u64 = tag_ | number;
  return sys::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
}

void Control::ready(uint64_t number) {
  if (number == kDoor) return answer_door();
  const auto caller = callers_.find(number);
  if (caller == callers_.end()) return;  // gone since
  caller->second.until = now() + kPatience;
  if (!serve(caller->second.fd.get())) callers_.erase(caller);
}

void Control::answer_door() {
  for (int turn = 0; turn < kDoorTurn; ++turn) {
    auto came = out_of_the_way(sys::accept(listener_.get(), SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (came.is(EAGAIN) || came.is(EINTR) || came.is(ECONNABORTED)) return;
    if (!came) {
      // Without a descriptor for the caller it would be announced for ever.
      epoll_event none{};
      (void)sys::epoll_ctl(epoll_, EPOLL_CTL_DEL, listener_.get(), &none);
      deaf_until_ = now() + kDeaf;
      return;
    }
    if (!may_command(came->get())) {
      log::info("somebody who is neither this user nor root knocked at the control socket");
      continue;
    }
    // Whoever says nothing makes way for whoever may.
    const auto sooner = [](const auto& a, const auto& b) { return a.second.until < b.second.until; };
    if (callers_.size() >= kMostCallers) callers_.erase(std::min_element(callers_.begin(), callers_.end(), sooner));
    const auto number = next_++ & 0xffffffff;
    if (watch(came->get(), number)) callers_[number] = {std::move(*came), now() + kPatience};
  }
}

// One request; whether the caller may stay.
bool Control::serve(int fd) {
  std::array<uint8_t, wire::kControlRequestMost + 1> bytes{};
  const auto got = sys::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
  if (got.is(EAGAIN) || got.is(EINTR)) return true;
  if (!got || *got == 0) return false;
  const auto request = wire::decode_control_request({bytes.data(), *got});
  if (!request) return false;
  const auto answer = wire::encode(obey_(*request));
  return static_cast<bool>(sys::send(fd, answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
}

std::optional<Time> Control::deadline() const {
  auto first = deaf_until_;
  for (const auto& [number, caller] : callers_)
    if (!first || caller.until < *first) first = caller.until;
  return first;
}

void Control::expire() {
  const auto time = now();
  std::erase_if(callers_, [&](const auto& known) { return known.second.until <= time; });
  if (!deaf_until_ || *deaf_until_ > time) return;
  if (watch(listener_.get(), kDoor))
    deaf_until_.reset();
  else
    deaf_until_ = time + kDeaf;
}

std::vector<int> Control::descriptors() const {
  std::vector<int> all{listener_.get()};
  for (const auto& [number, caller] : callers_) all.push_back(caller.fd.get());
  return all;
}

}  // namespace rsock::engine
