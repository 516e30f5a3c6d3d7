#include "core/fabric/shm/dialler.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/base/log.hpp"

namespace rsock::fabric::shm {
namespace {

constexpr int kBacklog = 8;
constexpr size_t kMostVisitors = 8;  // of a point, that have said nothing yet
constexpr int kEvents = 32;
constexpr size_t kPassed = 2;  // descriptors: segment, bell

Reason reason_of(int error) {
  switch (error) {
    case EMFILE:
    case ENFILE: return Reason::descriptors;
    case ENOMEM: return Reason::locked_memory;
    case EACCES:
    case EPERM: return Reason::no_permission;
    case ECONNREFUSED:
    case EAGAIN: return Reason::plain_peer;  // nobody there, or too many callers: another time
    case EADDRINUSE: return Reason::port_taken;
    default: return Reason::link_failed;
  }
}

socklen_t name_of(const Endpoint& connector, const Endpoint& acceptor, sockaddr_un& to) {
  to = {};
  to.sun_family = AF_UNIX;
  const auto name = "rsock-" + to_string(connector) + "-" + to_string(acceptor);
  constexpr std::string_view kLongestEnd = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
  static_assert(1 + std::string_view("rsock--").size() + 2 * kLongestEnd.size() <= sizeof to.sun_path);
  std::memcpy(to.sun_path + 1, name.data(), name.size());
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
}

Result<UniqueFd> make_socket() { return out_of_the_way(sys::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }

// Memory is shared only with processes that could do as they like with ours anyway, or we with theirs.
bool trusted(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (!sys::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, size)) return false;
  return peer.uid == geteuid() || peer.uid == 0 || geteuid() == 0;
}

// A file without a type, to which nothing can be added, and which says that all of it was: no other kind takes that. /proc would
// tell as well, but not to a process with a root of its own.
bool is_eventfd(int fd) {
  struct stat file {};
  const uint64_t nothing = 0;
  return fstat(fd, &file) == 0 && (file.st_mode & S_IFMT) == 0 && sys::write(fd, &nothing, sizeof nothing);
}

}  // namespace

// One packet as it came: bytes and descriptors.
struct SocketDialler::Packet {
  std::array<uint8_t, wire::kHelloSize> bytes{};
  size_t size = 0;
  std::array<UniqueFd, kPassed> passed;
  bool whole = false;  // all descriptors that were sent are there

  // EAGAIN: none yet. A size of 0: the end.
  static Result<size_t> receive(int socket, Packet& packet) {
    iovec piece{packet.bytes.data(), packet.bytes.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(kPassed * sizeof(int))];
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const auto got = sys::recvmsg(socket, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (!got) return got;
    packet.size = *got;
    size_t count = 0;
    for (auto* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
      if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
      const auto there = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < there; ++i) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
        UniqueFd owned(fd);
        if (count < kPassed) packet.passed[count++] = std::move(owned);
      }
    }
    packet.whole = count == kPassed && !(message.msg_flags & MSG_CTRUNC);
    return got;
  }
  std::span<const uint8_t> span() const { return {bytes.data(), size}; }
};

std::unique_ptr<SocketDialler> SocketDialler::make(Lock& lock, PinnedBudget& budget, uint64_t rings,
                                                   const Announce& announce, Reason& why) {
  auto epoll = out_of_the_way(sys::epoll_create());
  auto bell = out_of_the_way(sys::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!epoll || !bell) {
    why = reason_of(epoll ? bell.error() : epoll.error());
    return nullptr;
  }
  std::unique_ptr<SocketDialler> made(new SocketDialler(lock, budget, rings, std::move(*epoll), std::move(*bell)));
  announce(made->hub_);
  if (auto spare = make_socket()) made->spare_ = std::move(*spare);
  return made;
}

SocketDialler::SocketDialler(Lock& lock, PinnedBudget& budget, uint64_t rings, UniqueFd epoll, UniqueFd bell)
    : lock_(lock),
      budget_(budget),
      rings_(std::min<uint64_t>(rings / kPage * kPage, kLargestSegment / 4)),
      epoll_(std::move(epoll)),
      hub_(std::move(bell)) {}

SocketDialler::Socket* SocketDialler::add(Role role, uint64_t cookie, UniqueFd fd) {
  const auto number = next_++;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;
  event.data.u64 = number;
  if (!sys::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd.get(), &event)) return nullptr;
  return &sockets_.emplace(number, Socket{role, cookie, std::move(fd), {}, {}, nullptr}).first->second;
}

void SocketDialler::drop(Role role, uint64_t cookie) {
  std::erase_if(sockets_, [&](const auto& known) { return known.second.role == role && known.second.cookie == cookie; });
}

std::optional<Reason> SocketDialler::open_point(uint64_t cookie, const Endpoint& local, const Endpoint& remote) {
  auto made = make_socket();
  if (!made) return reason_of(made.error());
  sockaddr_un name;
  const auto size = name_of(local, remote, name);
  auto status = sys::bind(made->get(), reinterpret_cast<sockaddr*>(&name), size);
  if (status) status = sys::listen(made->get(), kBacklog);
  if (!status) {
    log::info("no rendezvous at {} on this host: {}", to_string(local), std::strerror(status.error()));
    return reason_of(status.error());
  }
  if (!add(Role::point, cookie, std::move(*made))) return Reason::descriptors;
  return {};
}

void SocketDialler::close_point(uint64_t cookie) {
  drop(Role::point, cookie);
  drop(Role::visitor, cookie);
}

std::optional<Reason> SocketDialler::dial(uint64_t cookie, const Endpoint& from, const Endpoint& to,
                                          const wire::Greeting& greeting) {
  if (!spare_) {
    auto made = make_socket();
    if (!made) return reason_of(made.error());
    spare_ = std::move(*made);
  }
  sockaddr_un name;
  const auto size = name_of(to, from, name);
  if (const auto met = sys::connect(spare_.get(), reinterpret_cast<sockaddr*>(&name), size); !met)
    return reason_of(met.error());
  auto caller = std::move(spare_);
  if (!trusted(caller.get())) return Reason::no_permission;
  UniqueFd memory;
  auto segment = Segment::make(rings_, memory);
  if (!segment) return reason_of(segment.error());
  wire::Hello hello{greeting, from};
  hello.greeting.receives = kDepth;
  if (!send(caller.get(), wire::encode(hello), memory.get())) return Reason::plain_peer;
  auto* socket = add(Role::dial, cookie, std::move(caller));
  if (!socket) return Reason::descriptors;
  socket->peer = to.address;
  socket->segment = std::move(*segment);
  return {};
}

void SocketDialler::cancel_dial(uint64_t cookie) { drop(Role::dial, cookie); }

void SocketDialler::bury(std::unique_ptr<Connection> connection) {
  sockets_.erase(static_cast<Channel&>(*connection).number());
  const std::lock_guard guard(lock_);
  connection.reset();
}

bool SocketDialler::send(int socket, std::span<const uint8_t> bytes, int segment) const {
  iovec piece{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(kPassed * sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (segment >= 0) {
    const int passed[kPassed] = {segment, hub_.fd()};
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    auto* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof passed);
    std::memcpy(CMSG_DATA(part), passed, sizeof passed);
  }
  return static_cast<bool>(sys::sendmsg(socket, message, MSG_DONTWAIT | MSG_NOSIGNAL));
}

Result<Half> SocketDialler::half_in(Packet& packet) const {
  if (!packet.whole) return Errno{EMFILE};  // the kernel passes none where there is no room for them
  if (!is_eventfd(packet.passed[1].get())) return Errno{EPROTO};
  auto segment = Segment::open(packet.passed[0].get());
  if (!segment) return Errno{segment.error()};
  auto bell = out_of_the_way(std::exchange(packet.passed[1], {}).release());
  if (!bell) return Errno{bell.error()};
  Half half;
  half.segment = std::move(*segment);
  half.bell = std::move(*bell);
  return half;
}

void SocketDialler::join(Meeting& meeting, Sockets::node_type socket, Segment own, Half theirs, bool dialled,
                         const Address& peer, const wire::Greeting& greeting) {
  const auto cookie = socket.mapped().cookie;
  std::unique_ptr<Channel> made;
  {
    const std::lock_guard guard(lock_);
    made = std::make_unique<Channel>(hub_, budget_, socket.key(), std::move(own), std::move(theirs));
  }
  auto& channel = *made;
  socket.mapped().role = Role::link;
  socket.mapped().channel = &channel;
  sockets_.insert(std::move(socket));
  meeting.linked(cookie, dialled, peer, greeting, std::move(made), hub_);
  meeting.established(channel);
}

void SocketDialler::dispatch(Meeting& meeting) {
  epoll_event events[kEvents];
  const auto count = sys::epoll_poll(epoll_.get(), events, kEvents);
  for (int i = 0; count && i < *count; ++i) {
    const auto number = events[i].data.u64;
    const auto found = sockets_.find(number);
    if (found == sockets_.end()) continue;  // gone since
    switch (found->second.role) {
      case Role::point: came(number); break;
      case Role::visitor: hello(meeting, number); break;
      case Role::dial: answer(meeting, number); break;
      case Role::link: {
        // Whatever it is, nothing more is said here: the peer has gone.
        auto* channel = found->second.channel;
        sockets_.erase(found);
        meeting.disconnected(*channel);
        break;
      }
    }
  }
}

void SocketDialler::came(uint64_t point) {
  const auto& listener = sockets_.at(point);
  const auto cookie = listener.cookie;
  auto visitor = out_of_the_way(sys::accept(listener.fd.get(), SOCK_NONBLOCK | SOCK_CLOEXEC));
  // Without a descriptor for the visitor it would be announced for ever.
  if (!visitor && !visitor.is(EAGAIN) && !visitor.is(EINTR)) sockets_.erase(point);
  if (!visitor) return;
  const auto others = std::count_if(sockets_.begin(), sockets_.end(), [&](const auto& known) {
    return known.second.role == Role::visitor && known.second.cookie == cookie;
  });
  if (static_cast<size_t>(others) < kMostVisitors && trusted(visitor->get()))
    add(Role::visitor, cookie, std::move(*visitor));
}

// A dial has reached our point.
void SocketDialler::hello(Meeting& meeting, uint64_t visitor) {
  Packet packet;
  const auto got = Packet::receive(sockets_.at(visitor).fd.get(), packet);
  if (got.is(EAGAIN)) return;
  // Whatever becomes of it, it is a visitor no more.
  auto entry = sockets_.extract(visitor);
  auto& socket = entry.mapped();
  const auto said = wire::decode_hello(packet.span());
  if (!got || !said) return;
  const auto& from = said->acceptor.address;
  auto answer = meeting.asked(Lane::shm, socket.cookie, from, *said);
  const auto refuse = [&](wire::Verdict verdict) {
    answer.verdict = verdict;
    (void)send(socket.fd.get(), wire::encode(answer), -1);
  };
  if (answer.verdict != wire::Verdict::welcome) return refuse(answer.verdict);
  auto theirs = half_in(packet);
  UniqueFd memory;
  auto own = Segment::make(rings_, memory);
  if (!theirs || !own) {
    log::info("no memory shared with a peer on this host: {}", std::strerror(theirs ? own.error() : theirs.error()));
    return refuse(wire::Verdict::resources);
  }
  const int fd = socket.fd.get();
  answer.receives = kDepth;
  join(meeting, std::move(entry), std::move(*own), std::move(*theirs), false, from, said->greeting);
  // The link comes first: the peer speaks as soon as it knows. If it has gone, the socket says so.
  (void)send(fd, wire::encode(answer), memory.get());
}

// A point that we dialled answers.
void SocketDialler::answer(Meeting& meeting, uint64_t dial) {
  Packet packet;
  const auto got = Packet::receive(sockets_.at(dial).fd.get(), packet);
  if (got.is(EAGAIN)) return;
  auto entry = sockets_.extract(dial);
  auto& socket = entry.mapped();
  const auto greeting = got ? wire::decode_greeting(packet.span()) : std::nullopt;
  const auto failed = [&](Reason reason) { meeting.dial_failed(socket.cookie, reason, greeting); };
  // Closed before it was heard: as if nobody had been there.
  if (!got || *got == 0) return failed(Reason::plain_peer);
  if (!greeting) return failed(Reason::protocol);
  if (greeting->verdict != wire::Verdict::welcome || greeting->version != wire::kVersion)
    return failed(Reason::peer_declined);
  const auto with_no_greeting = [&](Reason reason) { meeting.dial_failed(socket.cookie, reason, {}); };
  auto theirs = half_in(packet);
  if (!theirs) return with_no_greeting(theirs.is(EPROTO) ? Reason::protocol : reason_of(theirs.error()));
  const auto peer = socket.peer;
  auto own = std::move(socket.segment);
  join(meeting, std::move(entry), std::move(own), std::move(*theirs), true, peer, *greeting);
}

}  // namespace rsock::fabric::shm
