#include "core/control/caller.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <string_view>

#include "core/base/exposed.hpp"
#include "core/base/proc.hpp"
#include "core/base/socket_owner.hpp"

namespace rsock::control {
namespace {

constexpr auto kPause = milliseconds(10);
constexpr unsigned kListens = 0x10000;  // __SO_ACCEPTCON of the kernel, as /proc/net/unix shows it
// A process listens at one name. A few more, since the id of one that has ended may be another's by now.
constexpr size_t kMostOfProcess = 4;
constexpr size_t kMostOfUser = 2048;
constexpr size_t kNameSize = sizeof(wire::kControlPrefix) - 1 + 16;

void wait(std::span<pollfd> fds, Duration most) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(most);
  const timespec limit{seconds.count(), std::chrono::nanoseconds(most - seconds).count()};
  kernel.syscall(SYS_ppoll, fds.data(), fds.size(), &limit, nullptr, 0);
}

bool is_door(std::string_view name) {
  return name.size() == kNameSize + 1 && name.starts_with(std::string("@") + wire::kControlPrefix) &&
         name.find_first_not_of("0123456789abcdef", name.size() - 16) == name.npos;
}

struct Door {
  std::string name;  // without the '@' for the zero byte
  uint64_t inode;
};

// Calls `take` with each name at which somebody listens. A line of /proc/net/unix: address, count, protocol, flags,
// type, state, inode, name.
template <class Take>
void each_door(Take take) {
  (void)sys::each_line("/proc/net/unix", [&](const char* line) {
    unsigned flags = 0;
    uint64_t inode = 0;
    char name[sizeof(sockaddr_un::sun_path)];
    if (std::sscanf(line, "%*s %*s %*s %x %*s %*s %" SCNu64 " %107s", &flags, &inode, name) == 3 &&
        (flags & kListens) && is_door(name))
      take(Door{name + 1, inode});
  });
}

Status knock(int fd, const std::string& door) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path + 1, door.data(), door.size());
  return sys::connect(fd, reinterpret_cast<sockaddr*>(&name),
                      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + door.size()));
}

// Those who count, and of each no more than it may have.
class Known {
 public:
  bool admit(const ucred& owner) {
    // Nobody else's word is taken: anybody may open a socket of such a name. A process of root's may have become this
    // user's since.
    if (sys::effective_user() != 0 && !is_root_or_own(owner.uid)) return false;
    if (owner.pid != 0 && ++of_process_[owner.pid] > kMostOfProcess) return false;
    return ++of_user_[owner.uid] <= kMostOfUser;
  }

 private:
  std::map<pid_t, size_t> of_process_;
  std::map<uid_t, size_t> of_user_;
};

}  // namespace

std::vector<Caller> Caller::call_all(Duration patience, std::vector<uint64_t>* crowded) {
  std::vector<Caller> all;
  std::vector<Door> again;  // many callers are before us
  Known known;
  // False where the door is to be tried again.
  const auto call = [&](const Door& door) {
    auto fd = out_of_the_way([] { return sys::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); });
    if (!fd) return true;
    if (const auto connected = knock(fd->get(), door.name); !connected) return !connected.is(EAGAIN);
    ucred owner{};
    socklen_t room = sizeof owner;
    if (sys::getsockopt(fd->get(), SOL_SOCKET, SO_PEERCRED, &owner, room) && known.admit(owner))
      all.push_back(Caller(std::move(*fd), owner.pid));
    return true;
  };
  each_door([&](Door door) {
    if (!call(door) && again.size() < kMostOfUser) again.push_back(std::move(door));
  });
  for (const auto deadline = now() + patience; !again.empty() && now() < deadline;) {
    wait({}, kPause);
    std::erase_if(again, call);
  }
  if (crowded)
    for (const auto& door : again) crowded->push_back(door.inode);
  return all;
}

Caller Caller::of_silent(pid_t process) {
  Caller made({}, process);
  made.state_ = State::silent;
  return made;
}

std::vector<std::optional<wire::ControlAnswer>> Caller::ask_all(std::span<Caller* const> callers,
                                                                const wire::ControlRequest& request,
                                                                Patience patience) {
  const std::vector<wire::ControlRequest> requests(callers.size(), request);
  return ask(callers, requests, patience, &wire::decode_control_answer);
}

std::vector<std::optional<wire::ControlPage>> Caller::ask_pages(std::span<Caller* const> callers,
                                                                std::span<const wire::ControlRequest> requests,
                                                                Patience patience) {
  return ask(callers, requests, patience, &wire::decode_control_page);
}

template <class Answer>
std::vector<std::optional<Answer>> Caller::ask(std::span<Caller* const> callers,
                                               std::span<const wire::ControlRequest> requests, Patience patience,
                                               Decode<Answer> decode) {
  std::vector<std::optional<Answer>> answers(callers.size());
  std::vector<pollfd> awaited;
  std::vector<size_t> whose;
  for (size_t i = 0; i < callers.size(); ++i) {
    auto& one = *callers[i];
    const auto bytes = wire::encode(requests[i]);
    const bool asked = one.state_ != State::false_one &&
                       sys::send(one.fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (!asked || one.state_ == State::silent) continue;
    awaited.push_back({one.fd_.get(), POLLIN, 0});
    whose.push_back(i);
  }
  const auto begun = now();
  const auto wait_until = [&](Time deadline) {
    while (std::any_of(awaited.begin(), awaited.end(), [](const auto& one) { return one.fd >= 0; }) &&
           now() < deadline) {
      wait(awaited, deadline - now());
      for (size_t i = 0; i < awaited.size(); ++i) {
        if (awaited[i].fd < 0 || awaited[i].revents == 0) continue;
        answers[whose[i]] = callers[whose[i]]->take(decode);
        awaited[i].fd = -1;
      }
    }
  };
  wait_until(begun + patience.with_all);
  for (size_t i = 0; i < awaited.size(); ++i) {
    if (awaited[i].fd < 0) continue;
    callers[whose[i]]->state_ = State::silent;
    if (!callers[whose[i]]->likely()) awaited[i].fd = -1;
  }
  wait_until(begun + patience.with_likely);
  return answers;
}

template <class Answer>
std::optional<Answer> Caller::take(Decode<Answer> decode) {
  std::vector<uint8_t> bytes(wire::kControlAnswerMost + 1);
  const auto got = sys::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  auto answer = got && *got > 0 ? decode({bytes.data(), *got}) : std::nullopt;
  state_ = answer ? State::heard : State::false_one;
  return answer;
}

// A packet that brings anything else is left where it is: whoever takes it may have to wait.
std::optional<Caller::Handed> Caller::ask_for_memory(const wire::ControlRequest& request, Duration patience) {
  const auto question = wire::encode(request);
  if (!sys::send(fd_.get(), question.data(), question.size(), MSG_NOSIGNAL | MSG_DONTWAIT)) return {};
  std::vector<uint8_t> bytes(wire::kControlAnswerMost + 1);
  iovec piece{bytes.data(), bytes.size()};
  alignas(cmsghdr) char control[CMSG_LEN(sizeof(int))];  // with its padding there would be room for a second one
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  pollfd awaited{fd_.get(), POLLIN, 0};
  wait({&awaited, 1}, patience);
  const auto seen = sys::recvmsg(fd_.get(), message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (!seen) return {};
  Handed handed;
  if (const auto* part = CMSG_FIRSTHDR(&message);
      part && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
    int fd;
    std::memcpy(&fd, CMSG_DATA(part), sizeof fd);
    handed.memory = UniqueFd(fd);
  }
  const bool harmless = !(message.msg_flags & MSG_CTRUNC) && (!handed.memory || sys::is_sealed(handed.memory.get()));
  auto answer = harmless ? wire::decode_control_answer({bytes.data(), *seen}) : std::nullopt;
  if (!harmless) ExposedFd::close_aside(std::move(handed.memory));
  state_ = answer ? State::heard : State::false_one;
  if (!answer) return {};
  (void)sys::recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
  handed.answer = std::move(*answer);
  return handed;
}

// Its service thread has a name.
bool Caller::likely() const {
  if (process_ == 0) return false;
  const auto folder = "/proc/" + std::to_string(process_) + "/task";
  for (const auto& thread : sys::names_in(folder.c_str())) {
    bool found = false;
    (void)sys::each_line((folder + "/" + thread + "/comm").c_str(),
                         [&](const char* line) { found = std::strcmp(line, "rsock") == 0; });
    if (found) return true;
  }
  return false;
}

bool Caller::hung_up() const {
  return state_ == State::false_one || (sys::readiness(fd_.get()) & (POLLHUP | POLLERR)) != 0;
}

}  // namespace rsock::control
