#include "tests/fabric/device/cm.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace fabric {
namespace {

// As the InfiniBand architecture numbers them.
constexpr int kNobodyListens = 8, kConsumerRejects = 28;
constexpr auto kUnreachable = milliseconds(2000);
constexpr uint16_t kFirstPort = 32768, kPorts = 28000;

uint16_t port_of(const sockaddr_storage& address) {
  return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
}
void set_port(sockaddr_storage& address, uint16_t port) {
  reinterpret_cast<sockaddr_in&>(address).sin_port = htons(port);
}

bool is_any(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET6)
    return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
  return reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr == INADDR_ANY;
}

bool same_host(const sockaddr_storage& a, const sockaddr_storage& b) {
  if (a.ss_family != b.ss_family) return false;
  if (a.ss_family == AF_INET6)
    return IN6_ARE_ADDR_EQUAL(&reinterpret_cast<const sockaddr_in6&>(a).sin6_addr,
                              &reinterpret_cast<const sockaddr_in6&>(b).sin6_addr);
  return reinterpret_cast<const sockaddr_in&>(a).sin_addr.s_addr ==
         reinterpret_cast<const sockaddr_in&>(b).sin_addr.s_addr;
}

}  // namespace

using State = Identifier::State;

Identifier& Manager::create(Channel& channel, uint64_t network, uint64_t space) {
  auto& id = all_[++last_];
  id.number = last_;
  id.channel = &channel;
  id.network = network;
  id.space = space;
  channel.adopt(id.number);
  return id;
}

Identifier* Manager::find(uint64_t number) {
  const auto found = all_.find(number);
  return found == all_.end() ? nullptr : &found->second;
}

void Manager::destroy(uint64_t number) {
  auto* id = find(number);
  if (!id) return;
  leave(*id);
  std::erase_if(names_, [&](const auto& name) { return name.second == number; });
  all_.erase(number);
}

bool Manager::is_taken(const Identifier& by, const sockaddr_storage& address) const {
  const auto [first, last] = names_.equal_range({by.network, by.space, port_of(address)});
  return std::any_of(first, last, [&](const auto& name) {
    const auto& other = all_.at(name.second).local;
    return is_any(other) || is_any(address) || same_host(other, address);
  });
}

int Manager::bind(Identifier& id, sockaddr_storage address) {
  if (id.state != State::idle) return EINVAL;
  if (!present_ && !is_any(address)) return ENODEV;
  if (port_of(address) != 0) {
    if (is_taken(id, address)) return EADDRINUSE;
  } else {
    do set_port(address, static_cast<uint16_t>(kFirstPort + last_port_++ % kPorts));
    while (is_taken(id, address));
  }
  id.local = address;
  id.state = State::bound;
  names_.emplace(Name{id.network, id.space, port_of(address)}, id.number);
  return 0;
}

int Manager::listen(Identifier& id, uint64_t backlog) {
  if (id.state != State::bound) return EINVAL;
  id.state = State::listens;
  id.room = backlog;
  return 0;
}

int Manager::resolve_address(Identifier& id, const Request& request) {
  if (id.state == State::idle)
    if (const int error = bind(id, request.source)) return error;
  if (id.state != State::bound) return EINVAL;
  id.remote = request.destination;
  id.remote_is_near = request.domain != 0;
  tell(id, RDMA_CM_EVENT_ADDR_RESOLVED);
  return 0;
}

int Manager::resolve_route(Identifier& id) {
  if (id.state != State::bound) return EINVAL;
  tell(id, RDMA_CM_EVENT_ROUTE_RESOLVED);
  return 0;
}

Identifier* Manager::listener_at(const Identifier& from) {
  Identifier* wild = nullptr;
  const auto [first, last] = names_.equal_range({from.network, from.space, port_of(from.remote)});
  for (auto at = first; at != last; ++at) {
    auto& id = all_.at(at->second);
    if (id.state != State::listens) continue;
    if (same_host(id.local, from.remote)) return &id;
    if (is_any(id.local) && id.local.ss_family == from.remote.ss_family) wild = &id;
  }
  return wild;
}

int Manager::connect(Identifier& id, uint32_t queue_pair, const PrivateData& data) {
  if (!present_) return ENODEV;
  if (id.state != State::bound || id.remote.ss_family == AF_UNSPEC) return EINVAL;
  id.state = State::connecting;
  id.queue_pair = queue_pair;
  if (!id.remote_is_near) {
    loop_.after(kUnreachable, [this, number = id.number] {
      auto* still = find(number);
      if (!still || still->state != State::connecting) return;
      still->state = State::ended;
      tell(*still, RDMA_CM_EVENT_UNREACHABLE, -ETIMEDOUT);
    });
    return 0;
  }
  auto* listener = listener_at(id);
  if (!listener || listener->room == 0) {
    refuse(id, listener ? kConsumerRejects : kNobodyListens);
    return 0;
  }
  --listener->room;
  auto& made = create(*listener->channel, id.network, id.space);
  made.state = State::requested;
  made.local = id.remote;
  made.remote = id.local;
  made.listener = listener->number;
  made.peer = id.number;
  id.peer = made.number;
  CmEvent event{.type = RDMA_CM_EVENT_CONNECT_REQUEST,
                .id = listener->number,
                .made = made.number,
                .source = made.local,
                .destination = made.remote,
                .data = data};
  event.data.size = kRequestData;
  listener->channel->send(event);
  return 0;
}

Identifier* Manager::peer_of(const Identifier& id) { return id.peer ? find(id.peer) : nullptr; }

int Manager::accept(Identifier& id, uint32_t queue_pair, const PrivateData& data) {
  auto* peer = peer_of(id);
  auto* mine = wire_.find(queue_pair);
  if (id.state != State::requested || !peer || !mine) return EINVAL;
  give_room(id);
  id.state = State::accepted;
  id.queue_pair = queue_pair;
  mine->connect(peer->queue_pair);
  peer->state = State::responded;
  tell(*peer, RDMA_CM_EVENT_CONNECT_RESPONSE, 0, data, kAcceptData);
  return 0;
}

int Manager::establish(Identifier& id) {
  auto* peer = peer_of(id);
  auto* mine = wire_.find(id.queue_pair);
  if (id.state != State::responded || !peer || !mine) return EINVAL;
  id.state = peer->state = State::connected;
  mine->connect(peer->queue_pair);
  tell(*peer, RDMA_CM_EVENT_ESTABLISHED);
  return 0;
}

int Manager::reject(Identifier& id, const PrivateData& data) {
  if (id.state != State::requested) return EINVAL;
  give_room(id);
  id.state = State::ended;
  if (auto* peer = peer_of(id)) refuse(*peer, kConsumerRejects, data);
  id.peer = 0;
  return 0;
}

void Manager::refuse(Identifier& id, int status, const PrivateData& data) {
  id.state = State::ended;
  id.peer = 0;
  tell(id, RDMA_CM_EVENT_REJECTED, status, data, kRejectData);
}

int Manager::disconnect(Identifier& id) {
  if (id.state != State::connected && id.state != State::accepted && id.state != State::responded) return EINVAL;
  if (auto* mine = wire_.find(id.queue_pair)) mine->break_off();
  leave(id);
  tell(id, RDMA_CM_EVENT_DISCONNECTED);
  return 0;
}

void Manager::remove() {
  if (!std::exchange(present_, false)) return;
  for (const auto& [number, id] : all_)
    if (id.state != State::idle && !is_any(id.local)) tell(id, RDMA_CM_EVENT_DEVICE_REMOVAL);
}

void Manager::give_room(Identifier& id) {
  if (auto* listener = find(std::exchange(id.listener, 0))) ++listener->room;
}

// Its end of a connection, or of one that was to be, is no more.
void Manager::leave(Identifier& id) {
  const auto before = std::exchange(id.state, State::ended);
  give_room(id);
  auto* peer = peer_of(id);
  id.peer = 0;
  if (!peer || peer->state == State::ended) return;
  peer->peer = 0;
  if (before == State::connected) {
    peer->state = State::ended;
    tell(*peer, RDMA_CM_EVENT_DISCONNECTED);
  } else {
    refuse(*peer, kConsumerRejects);
  }
}

// What carries private data has as much of it as there is room for, with zeros behind what was given.
void Manager::tell(const Identifier& id, rdma_cm_event_type type, int status, const PrivateData& data, size_t size) {
  CmEvent event{
      .type = type, .status = status, .id = id.number, .source = id.local, .destination = id.remote, .data = data};
  event.data.size = static_cast<uint32_t>(size);
  id.channel->send(event);
}

Channel::~Channel() {
  for (const auto number : identifiers_) manager_.destroy(number);
}

Answer Channel::answer(const Request& request, Descriptors) {
  auto& chance = manager_.chance();
  if (makes(request.verb) && chance.refuses()) return {.error = chance.refusal()};
  Answer answer;
  if (request.verb == Verb::create_id) {
    answer.handle = manager_.create(*this, request.domain, request.address).number;
    return answer;
  }
  if (request.verb == Verb::destroy_id) {
    std::erase(identifiers_, request.handle);
    manager_.destroy(request.handle);
    return answer;
  }
  auto* id = manager_.find(request.handle);
  if (!id || id->channel != this) return {.error = EINVAL};
  const auto queue_pair = static_cast<uint32_t>(request.address);
  switch (request.verb) {
    case Verb::bind: answer.error = manager_.bind(*id, request.source); break;
    case Verb::listen: answer.error = manager_.listen(*id, request.size); break;
    case Verb::resolve_address: answer.error = manager_.resolve_address(*id, request); break;
    case Verb::resolve_route: answer.error = manager_.resolve_route(*id); break;
    case Verb::connect: answer.error = manager_.connect(*id, queue_pair, request.data); break;
    case Verb::establish: answer.error = manager_.establish(*id); break;
    case Verb::accept: answer.error = manager_.accept(*id, queue_pair, request.data); break;
    case Verb::reject: answer.error = manager_.reject(*id, request.data); break;
    case Verb::disconnect: answer.error = manager_.disconnect(*id); break;
    default: answer.error = ENOSYS;
  }
  answer.source = id->local;
  return answer;
}

}  // namespace fabric
