#include "core/fabric/shm/dialler.hpp"

#include <sys/epoll.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "core/base/log.hpp"
#include "core/fabric/shm/socket_name.hpp"

namespace rsock::fabric::shm {
namespace {

constexpr int kBacklog = 8;
constexpr size_t kMostVisitors = 8;  // of a point, that have said nothing yet: then the oldest goes
constexpr int kEvents = 32;

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

Result<UniqueFd> make_socket() {
  return out_of_the_way([] { return sys::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); });
}

// Whoever connected, or listens, as the user that it was then.
Result<uid_t> user_at(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (const auto told = sys::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, size); !told)
    return Errno{told.error()};
  return peer.uid;
}

}  // namespace

// What one end says to the other, in one piece: its bytes, and the segment that came with them. It is taken off the
// socket only if that is all.
struct SocketDialler::Packet {
  explicit Packet(size_t most) : size(most) {}
  std::array<uint8_t, std::max(wire::kHelloSize, wire::kAnswerSize)> bytes{};
  size_t size;  // before it is received: of what is awaited
  UniqueFd memory;
  std::optional<Errno> fault;  // EPROTO: what was passed is not a segment alone; EMFILE: the kernel had no room for it

  // EAGAIN: none yet. A size of 0: the end.
  static Result<size_t> receive(int socket, Packet& packet) {
    iovec piece{packet.bytes.data(), packet.size};
    alignas(cmsghdr) char control[CMSG_LEN(sizeof(int))];  // with its padding there would be room for a second one
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    Result<size_t> seen = size_t{0};
    {
      const numbers::Taken taken;  // by what is passed
      seen = sys::recvmsg(socket, message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
      if (!seen) return seen;
      if (const auto* part = CMSG_FIRSTHDR(&message);
          part && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(part), sizeof fd);
        packet.memory = UniqueFd(sys::move_high(fd));
      }
    }
    packet.size = *seen;
    const bool more = message.msg_flags & MSG_CTRUNC;
    if (packet.memory ? more || !sys::is_sealed(packet.memory.get()) : more) {
      packet.fault = Errno{packet.memory ? EPROTO : EMFILE};
      if (packet.memory) ExposedFd::close_aside(std::move(packet.memory));
      return seen;
    }
    return sys::recv(socket, packet.bytes.data(), packet.size, MSG_DONTWAIT);
  }
  std::span<const uint8_t> span() const { return {bytes.data(), size}; }
  Result<Segment> segment() const {
    if (fault) return *fault;
    if (!memory) return Errno{EPROTO};
    return Segment::open(memory.get());
  }
};

std::unique_ptr<SocketDialler> SocketDialler::make(Lock& lock, PinnedBudget& budget, uint64_t rings,
                                                   const Announce& announce, Doubt doubt, Reason& why) {
  auto epoll = out_of_the_way([] { return sys::epoll_create(); });
  auto bells = out_of_the_way([] { return sys::epoll_create(); });
  if (!epoll || !bells) {
    why = reason_of(epoll ? bells.error() : epoll.error());
    return nullptr;
  }
  std::unique_ptr<SocketDialler> made(
      new SocketDialler(lock, budget, rings, std::move(doubt), std::move(*epoll), std::move(*bells)));
  announce(made->hub_);
  if (auto spare = make_socket()) made->spare_ = std::move(*spare);
  return made;
}

SocketDialler::SocketDialler(Lock& lock, PinnedBudget& budget, uint64_t rings, Doubt doubt, UniqueFd epoll,
                             UniqueFd bells)
    : lock_(lock),
      budget_(budget),
      rings_(std::min<uint64_t>(rings / kPage * kPage, kLargestSegment / 4)),
      doubt_(std::move(doubt)),
      epoll_(std::move(epoll)),
      hub_(std::move(bells)) {}

SocketDialler::Socket* SocketDialler::add(Role role, uint64_t cookie, ExposedFd fd) {
  const auto number = next_++;
  if (!fd.watch(epoll_.get(), EPOLLIN | EPOLLRDHUP, number)) return nullptr;
  return &sockets_.emplace(number, Socket{role, cookie, std::move(fd), {}, {}, {}, nullptr}).first->second;
}

void SocketDialler::drop(Role role, uint64_t cookie) {
  std::erase_if(sockets_,
                [&](const auto& known) { return known.second.role == role && known.second.cookie == cookie; });
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
  if (!add(Role::point, cookie, ExposedFd(std::move(*made)))) return Reason::descriptors;
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
  if (const auto named = give_name(spare_.get()); !named) return reason_of(named.error());
  sockaddr_un name;
  const auto size = name_of(to, from, name);
  if (const auto met = sys::connect(spare_.get(), reinterpret_cast<sockaddr*>(&name), size); !met)
    return reason_of(met.error());
  ExposedFd caller(std::move(spare_));
  const auto user = user_at(caller.get());
  if (!user) return reason_of(user.error());
  if (const auto doubted = doubt_(cookie, *user)) return doubted;
  UniqueFd memory;
  auto segment = Segment::make(rings_, memory);
  if (!segment) return reason_of(segment.error());
  wire::Hello hello{greeting, from};
  hello.greeting.receives = kDepth;
  if (!send(caller.get(), wire::encode(hello), memory.get())) return Reason::plain_peer;
  auto* socket = add(Role::dial, cookie, std::move(caller));
  if (!socket) return Reason::descriptors;
  socket->user = *user;
  socket->peer = to.address;
  socket->segment = std::move(*segment);
  return {};
}

void SocketDialler::cancel_dial(uint64_t cookie) { drop(Role::dial, cookie); }

void SocketDialler::bury(std::unique_ptr<Connection> connection) {
  sockets_.erase(static_cast<Channel&>(*connection).number());
  discard(std::unique_ptr<Channel>(static_cast<Channel*>(connection.release())));
}

// Its socket is closed last, and without the lock: until then the number is nobody else's.
void SocketDialler::discard(std::unique_ptr<Channel> channel) {
  ExposedFd bell;
  const std::lock_guard guard(lock_);
  bell = channel->hand_back();
  channel.reset();
}

bool SocketDialler::send(int socket, std::span<const uint8_t> bytes, int segment) {
  iovec piece{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (segment >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    auto* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof segment);
    std::memcpy(CMSG_DATA(part), &segment, sizeof segment);
  }
  return static_cast<bool>(sys::sendmsg(socket, message, MSG_DONTWAIT | MSG_NOSIGNAL));
}

std::unique_ptr<Channel> SocketDialler::make_channel(uint64_t number, Socket& socket, Segment own, Segment theirs) {
  const auto name = name_of_dialler(socket.fd.get(), socket.role == Role::dial ? Dialled::here : Dialled::there);
  if (!name) return nullptr;
  // From here on it rings. Its end is watched beside that.
  if (!socket.fd.watch(epoll_.get(), EPOLLRDHUP, number)) return nullptr;
  std::unique_ptr<Channel> made;
  bool enlisted = false;
  {
    const std::lock_guard guard(lock_);
    made = std::make_unique<Channel>(hub_, budget_, number, std::move(own), std::move(theirs), std::move(socket.fd),
                                     *name, socket.user);
    enlisted = static_cast<bool>(hub_.enlist(*made));
  }
  if (!enlisted) discard(std::move(made));
  return made;
}

void SocketDialler::join(Meeting& meeting, Sockets::node_type socket, std::unique_ptr<Channel> made, bool dialled,
                         const Address& peer, const wire::Greeting& greeting) {
  const auto cookie = socket.mapped().cookie;
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
        // The peer has gone, or was given up.
        auto* channel = found->second.channel;
        channel->bell().unwatch();
        channel->hang_up();
        sockets_.erase(found);
        meeting.disconnected(*channel);
        break;
      }
    }
  }
}

// All that wait there: strangers are not to stand in the way of the peer.
void SocketDialler::came(uint64_t point) {
  for (int i = 0; i <= kBacklog && welcome(point); ++i) continue;
}

// One visitor, if it may be the peer. False if there is none, or none more can be.
bool SocketDialler::welcome(uint64_t point) {
  const auto& listener = sockets_.at(point);
  const auto cookie = listener.cookie;
  auto visitor = out_of_the_way([&] { return sys::accept(listener.fd.get(), SOCK_NONBLOCK | SOCK_CLOEXEC); });
  // Without a descriptor for the visitor it would be announced for ever.
  if (!visitor && !visitor.is(EAGAIN) && !visitor.is(EINTR)) sockets_.erase(point);
  if (!visitor) return false;
  ExposedFd door(std::move(*visitor));
  // Strangers who hold up what they left behind let nobody else in.
  if (ExposedFd::held_up() >= ExposedFd::kMostHeldUp) return sockets_.erase(point), false;
  const auto user = user_at(door.get());
  if (!user || doubt_(cookie, *user)) return true;
  make_room(cookie);
  if (auto* socket = add(Role::visitor, cookie, std::move(door))) socket->user = *user;
  return true;
}

void SocketDialler::make_room(uint64_t cookie) {
  const auto visits = [&](const auto& known) {
    return known.second.role == Role::visitor && known.second.cookie == cookie;
  };
  if (static_cast<size_t>(std::count_if(sockets_.begin(), sockets_.end(), visits)) < kMostVisitors) return;
  sockets_.erase(std::find_if(sockets_.begin(), sockets_.end(), visits));
}

// A dial has reached our point.
void SocketDialler::hello(Meeting& meeting, uint64_t visitor) {
  Packet packet(wire::kHelloSize);
  const auto got = Packet::receive(sockets_.at(visitor).fd.get(), packet);
  if (got.is(EAGAIN)) return;
  // Whatever becomes of it, it is a visitor no more.
  auto entry = sockets_.extract(visitor);
  auto& socket = entry.mapped();
  const auto said = wire::decode_hello(packet.span());
  if (!got || !said) return;
  if (said->greeting.common() && said->greeting.receives > kDepth) return;
  const auto& from = said->acceptor.address;
  auto answer = meeting.asked(Lane::shm, socket.cookie, from, *said);
  const auto refuse = [&](wire::Verdict verdict) {
    answer.verdict = verdict;
    (void)send(socket.fd.get(), wire::encode(answer), -1);
  };
  if (answer.verdict != wire::Verdict::welcome) return refuse(answer.verdict);
  auto theirs = packet.segment();
  UniqueFd memory;
  auto own = Segment::make(rings_, memory);
  if (!theirs || !own) {
    log::info("no memory shared with a peer on this host: {}", std::strerror(theirs ? own.error() : theirs.error()));
    return refuse(wire::Verdict::resources);
  }
  const int fd = socket.fd.get();
  auto made = make_channel(visitor, socket, std::move(*own), std::move(*theirs));
  answer.receives = kDepth;
  // The answer comes before any ring of ours. What the peer posts meanwhile waits in the segment.
  if (!made || !send(fd, wire::encode(answer), memory.get())) return made ? discard(std::move(made)) : void();
  join(meeting, std::move(entry), std::move(made), false, from, said->greeting);
}

// A point that we dialled answers.
void SocketDialler::answer(Meeting& meeting, uint64_t dial) {
  Packet packet(wire::kAnswerSize);  // rings may follow
  const auto got = Packet::receive(sockets_.at(dial).fd.get(), packet);
  if (got.is(EAGAIN)) return;
  auto entry = sockets_.extract(dial);
  auto& socket = entry.mapped();
  const auto greeting = got ? wire::decode_answer(packet.span()) : std::nullopt;
  const auto failed = [&](Reason reason) { meeting.dial_failed(socket.cookie, reason, greeting); };
  // Closed before it was heard: as if nobody had been there.
  if (!got || *got == 0) return failed(Reason::plain_peer);
  if (!greeting) return failed(Reason::protocol);
  if (greeting->verdict != wire::Verdict::welcome || !greeting->common()) return failed(Reason::peer_declined);
  const auto with_no_greeting = [&](Reason reason) { meeting.dial_failed(socket.cookie, reason, {}); };
  if (greeting->receives > kDepth) return with_no_greeting(Reason::protocol);
  auto theirs = packet.segment();
  if (!theirs) return with_no_greeting(theirs.is(EPROTO) ? Reason::protocol : reason_of(theirs.error()));
  const auto peer = socket.peer;
  auto own = std::move(socket.segment);
  auto made = make_channel(dial, socket, std::move(own), std::move(*theirs));
  if (!made) return with_no_greeting(Reason::descriptors);
  join(meeting, std::move(entry), std::move(made), true, peer, *greeting);
}

}  // namespace rsock::fabric::shm
