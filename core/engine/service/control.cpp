#include "core/engine/service/control.hpp"

#include <sys/epoll.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "core/base/log.hpp"
#include "core/base/socket_owner.hpp"

namespace rsock::engine {
namespace {

constexpr size_t kMostCallers = 8;  // and one for whom there is no room yet
constexpr int kBacklog = 16;
constexpr int kDoorTurn = 16;                   // callers let in at a stretch
constexpr auto kPatience = milliseconds(5000);  // with a caller, since it last asked
constexpr auto kDeaf = milliseconds(1000);
constexpr auto kFirstWords = milliseconds(100);  // before anybody has to make way, however many come
constexpr uint64_t kDoor = 0;

Result<UniqueFd> make_listener() {
  auto made = out_of_the_way([] { return sys::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); });
  if (!made) return made;
  uint64_t number = 0;
  if (const auto made_up = sys::random(&number, sizeof number); !made_up) return Errno{made_up.error()};
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

// Who may command this process.
std::optional<uid_t> commander(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (!sys::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, size) || !is_root_or_own(peer.uid)) return {};
  return peer.uid;
}

bool send(int fd, const Control::Reply& reply) {
  iovec piece{const_cast<uint8_t*>(reply.packet.data()), reply.packet.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (reply.descriptor) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    auto* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int));
    const int passed = reply.descriptor.get();
    std::memcpy(CMSG_DATA(part), &passed, sizeof passed);
  }
  return static_cast<bool>(sys::sendmsg(fd, message, MSG_DONTWAIT | MSG_NOSIGNAL));
}

}  // namespace

std::unique_ptr<Control> Control::open(int epoll, uint64_t tag, Obey obey) {
  auto listener = make_listener();
  if (!listener) {
    log::info("no control socket: {}", std::strerror(listener.error()));
    return nullptr;
  }
  std::unique_ptr<Control> made(new Control(epoll, tag, std::move(obey), ExposedFd(std::move(*listener))));
  if (!made->watch(made->listener_, kDoor)) return nullptr;
  return made;
}

Control::Control(int epoll, uint64_t tag, Obey obey, ExposedFd listener)
    : epoll_(epoll), tag_(tag), obey_(std::move(obey)), listener_(std::move(listener)) {}

Status Control::watch(ExposedFd& fd, uint64_t number) { return fd.watch(epoll_, EPOLLIN | EPOLLRDHUP, tag_ | number); }

void Control::ready(uint64_t number) {
  if (number == kDoor) return answer_door();
  if (const auto keeper = keepers_.find(number); keeper != keepers_.end()) {
    // What it asked may have been heard before the event for it was looked at.
    if (sys::readiness(keeper->second.fd.get()) & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) keepers_.erase(keeper);
    return;
  }
  const auto caller = callers_.find(number);
  if (caller == callers_.end()) return;  // gone since
  caller->second.until = now() + kPatience;
  if (!serve(number, caller->second)) callers_.erase(caller);
}

void Control::answer_door() {
  for (int turn = 0; turn < kDoorTurn; ++turn) {
    auto came = out_of_the_way([&] { return sys::accept(listener_.get(), SOCK_NONBLOCK | SOCK_CLOEXEC); });
    if (came.is(EAGAIN) || came.is(EINTR) || came.is(ECONNABORTED)) return;
    // Without a descriptor for the caller it would be announced for ever.
    if (!came) return shut_door(now() + kDeaf);
    ExposedFd caller(std::move(*came));
    // Strangers who hold up what they left behind are not let in again; nor is anybody else, for a while.
    if (ExposedFd::held_up() >= ExposedFd::kMostHeldUp) return shut_door(now() + kDeaf);
    const auto user = commander(caller.get());
    if (!user) {
      log::debug("somebody who is neither this user nor root knocked at the control socket");
      continue;
    }
    const auto number = next_++ & 0xffffffff;
    const auto time = now();
    if (watch(caller, number)) callers_[number] = {std::move(caller), *user, time, time + kPatience};
    if (callers_.size() > kMostCallers && !make_room()) return;
  }
}

void Control::shut_door(Time until) {
  listener_.unwatch();
  deaf_until_ = until;
}

// A caller that says nothing makes way for others, the one first that has been silent for longest. But a caller has
// time for its first words: it may have been let in before it could say them. If all are new nobody comes in until that
// is over. What the caller has said by then is heard.
bool Control::make_room() {
  const auto time = now();
  const auto settled = [&](const auto& known) { return known.second.came + kFirstWords <= time; };
  const auto sooner = [&](const auto& a, const auto& b) {
    return settled(a) != settled(b) ? settled(a) : a.second.until < b.second.until;
  };
  const auto first = std::min_element(callers_.begin(), callers_.end(), sooner);
  if (!settled(*first))
    return shut_door(callers_.begin()->second.came + kFirstWords), false;  // they came in this order
  (void)serve(first->first, first->second);
  callers_.erase(first);
  return true;
}

// One request; whether the caller may ask more.
bool Control::serve(uint64_t number, Caller& caller) {
  const int fd = caller.fd.get();
  std::array<uint8_t, wire::kControlRequestMost + 1> bytes{};
  const auto got = receive_bare(fd, bytes);
  if (got.is(EAGAIN) || got.is(EINTR)) return true;
  if (!got || *got == 0) return false;
  const auto request = wire::decode_control_request({bytes.data(), *got});
  if (!request) return false;
  auto reply = obey_(*request, caller.user);
  if (!send(fd, reply)) return false;
  if (!reply.kept) return true;
  keepers_[number] = {std::move(caller.fd), std::move(reply.kept)};
  return false;
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
  if (callers_.size() > kMostCallers && !make_room()) return;
  if (watch(listener_, kDoor))
    deaf_until_.reset();
  else
    deaf_until_ = time + kDeaf;
}

std::vector<int> Control::descriptors() const {
  std::vector<int> all{listener_.get()};
  for (const auto& [number, caller] : callers_) all.push_back(caller.fd.get());
  for (const auto& [number, keeper] : keepers_) all.push_back(keeper.fd.get());
  return all;
}

}  // namespace rsock::engine
