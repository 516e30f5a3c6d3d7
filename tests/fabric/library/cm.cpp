// The connection manager: identifiers and their events. What the kernel does in reality, the device does
// here; what is left is to tell it of them and to know them again by the numbers that it gave.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "tests/fabric/library/verbs.hpp"

namespace fabric {
namespace {

struct Identifier : rdma_cm_id {
  uint64_t number = 0;
  Identifier* next = nullptr;
  uint32_t events = 0;  // that are not acknowledged
};

struct Channel : rdma_event_channel {
  Line line;
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  Identifier* identifiers = nullptr;

  Identifier* find(uint64_t number) {
    auto* at = identifiers;
    while (at && at->number != number) at = at->next;
    return at;
  }
};

struct Event : rdma_cm_event {
  Channel* channel = nullptr;
  PrivateData data;
};

Identifier& of(rdma_cm_id* id) { return static_cast<Identifier&>(*id); }
Channel& of(rdma_event_channel* channel) { return static_cast<Channel&>(*channel); }

socklen_t size_of(const sockaddr* address) {
  return address->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
}

sockaddr_storage stored(const sockaddr* address) {
  sockaddr_storage storage{};
  if (address) std::memcpy(&storage, address, size_of(address));
  return storage;
}

sockaddr* generic(sockaddr_storage& address) { return reinterpret_cast<sockaddr*>(&address); }

in_port_t& port_of(sockaddr_storage& address) {  // it is at the same place in both
  return reinterpret_cast<sockaddr_in&>(address).sin_port;
}

bool is_any(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET6)
    return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6&>(address).sin6_addr);
  return reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr == INADDR_ANY;
}

// One that is no program's, for what the kernel knows of addresses.
class Probe {
 public:
  explicit Probe(int family) : fd_(static_cast<int>(call(SYS_socket, family, SOCK_DGRAM | SOCK_CLOEXEC, 0))) {}
  ~Probe() {
    const int error = errno;
    if (fd_ >= 0) call(SYS_close, fd_);
    errno = error;
  }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

bool is_of_this_host(sockaddr_storage address) {
  port_of(address) = 0;
  const Probe probe(address.ss_family);
  return probe.fd() < 0 || call(SYS_bind, probe.fd(), &address, size_of(generic(address))) == 0;
}

// The address that the kernel would send from.
bool find_source(const sockaddr_storage& destination, sockaddr_storage& source) {
  sockaddr_storage to = destination;
  if (port_of(to) == 0) port_of(to) = htons(9);
  const Probe probe(to.ss_family);
  socklen_t size = sizeof source;
  if (probe.fd() < 0 || call(SYS_connect, probe.fd(), &to, size_of(generic(to))) < 0 ||
      call(SYS_getsockname, probe.fd(), &source, &size) < 0)
    return false;
  port_of(source) = 0;
  return true;
}

// That of the calling thread; the last that was known, where /proc is not to be seen.
uint64_t network() {
  static std::atomic<uint64_t> known{0};
  struct stat facts {};
  if (call(SYS_newfstatat, AT_FDCWD, "/proc/thread-self/ns/net", &facts, 0) == 0) known = facts.st_ino;
  return known;
}

// 0, or -1 and errno.
int ask(Identifier& id, Verb verb, Request& request, Answer& answer) {
  request.verb = verb;
  request.handle = id.number;
  return of(id.channel).line.ask(id.channel->fd, request, answer) ? 0 : -1;
}

int ask(Identifier& id, Verb verb) {
  Request request;
  Answer answer;
  return ask(id, verb, request, answer);
}

int ask(Identifier& id, Verb verb, const void* data, size_t size, size_t most) {
  if (size > most) return errno = EINVAL, -1;
  Request request;
  if (size > 0) std::memcpy(request.data.bytes.data(), data, size);
  request.data.size = static_cast<uint32_t>(size);
  request.address = id.qp ? id.qp->qp_num : 0;
  Answer answer;
  return ask(id, verb, request, answer);
}

bool put_on_device(Identifier& id) {
  if (!id.verbs) id.verbs = Context::get();
  id.port_num = 1;
  return id.verbs != nullptr;
}

Identifier* make(Channel& channel, void* context, rdma_port_space space, uint64_t number) {
  auto* id = made<Identifier>();
  if (!id) return nullptr;
  id->channel = &channel;
  id->context = context;
  id->ps = space;
  id->qp_type = space == RDMA_PS_TCP ? IBV_QPT_RC : IBV_QPT_UD;
  id->number = number;
  id->next = std::exchange(channel.identifiers, id);
  return id;
}

void forget(Channel& channel, uint64_t number) {
  Request request;
  request.verb = Verb::destroy_id;
  request.handle = number;
  Answer answer;
  (void)channel.line.ask(channel.fd, request, answer);
}

// What the library itself does at an event, as rdma-core does.
void become(Identifier& id, Event& event, const CmEvent& told) {
  switch (event.event) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
      id.route.addr.src_storage = told.source;
      id.route.addr.dst_storage = told.destination;
      if (!put_on_device(id)) {
        event.event = RDMA_CM_EVENT_ADDR_ERROR;
        event.status = -errno;
      }
      break;
    case RDMA_CM_EVENT_ROUTE_RESOLVED: id.route.num_paths = 1; break;
    case RDMA_CM_EVENT_CONNECT_RESPONSE:
      event.event = RDMA_CM_EVENT_ESTABLISHED;
      if (ask(id, Verb::establish) != 0) {
        event.event = RDMA_CM_EVENT_CONNECT_ERROR;
        event.status = -errno;
      }
      break;
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
      if (id.verbs) fabric::of(id.verbs).removed = true;
      break;
    default: break;
  }
}

// An event for whoever asked; nothing if it is for nobody any more.
bool fill(Channel& channel, const CmEvent& told, Event& event) {
  const Locked locked(channel.mutex);
  auto* id = channel.find(told.id);
  if (!id) {
    if (told.made) forget(channel, told.made);
    return false;
  }
  event.channel = &channel;
  event.event = static_cast<rdma_cm_event_type>(told.type);
  event.status = told.status;
  event.data = told.data;
  event.param.conn.private_data = told.data.size ? event.data.bytes.data() : nullptr;
  event.param.conn.private_data_len = static_cast<uint8_t>(told.data.size);
  if (told.made) {
    event.listen_id = id;
    auto* made_id = make(channel, id->context, id->ps, told.made);
    if (!made_id || !put_on_device(*made_id)) return forget(channel, told.made), false;
    made_id->route.addr.src_storage = told.source;
    made_id->route.addr.dst_storage = told.destination;
    event.id = made_id;
  } else {
    event.id = id;
    become(*id, event, told);
  }
  ++id->events;
  return true;
}

}  // namespace
}  // namespace fabric

using namespace fabric;

FABRIC_EXPORT rdma_event_channel* rdma_create_event_channel() {
  auto* channel = made<Channel>();
  if (!channel || channel->line.open(channel->fd, Verb::open_channel, {})) return channel;
  const int error = errno;
  delete channel;
  errno = error;
  return nullptr;
}

FABRIC_EXPORT void rdma_destroy_event_channel(rdma_event_channel* given) {
  auto& channel = of(given);
  channel.line.close(channel.fd);
  delete &channel;
}

FABRIC_EXPORT int rdma_create_id(rdma_event_channel* given, rdma_cm_id** made_id, void* context,
                                 rdma_port_space space) {
  if (!given) return errno = EINVAL, -1;
  auto& channel = of(given);
  const Locked locked(channel.mutex);
  Request request;
  request.verb = Verb::create_id;
  request.domain = network();
  request.address = space;
  Answer answer;
  if (!channel.line.ask(channel.fd, request, answer)) return -1;
  *made_id = make(channel, context, space, answer.handle);
  if (*made_id) return 0;
  forget(channel, answer.handle);
  return errno = ENOMEM, -1;
}

FABRIC_EXPORT int rdma_destroy_id(rdma_cm_id* given) {
  auto& id = of(given);
  auto& channel = of(id.channel);
  const Locked locked(channel.mutex);
  if (id.events > 0) misused("an identifier is destroyed that has an event which is not acknowledged");
  if (id.qp) misused("an identifier is destroyed that has a queue pair");
  forget(channel, id.number);
  auto** at = &channel.identifiers;
  while (*at != &id) at = &(*at)->next;
  *at = id.next;
  delete &id;
  return 0;
}

FABRIC_EXPORT int rdma_bind_addr(rdma_cm_id* given, sockaddr* address) {
  auto& id = of(given);
  Request request;
  request.source = stored(address);
  if (!is_of_this_host(request.source)) return errno = EADDRNOTAVAIL, -1;
  Answer answer;
  if (ask(id, Verb::bind, request, answer) != 0) return -1;
  id.route.addr.src_storage = answer.source;
  return is_any(request.source) || put_on_device(id) ? 0 : -1;
}

FABRIC_EXPORT int rdma_listen(rdma_cm_id* given, int backlog) {
  auto& id = of(given);
  Request request;
  request.size = static_cast<uint64_t>(std::max(backlog, 1));
  Answer answer;
  if (ask(id, Verb::listen, request, answer) != 0) return -1;
  id.route.addr.src_storage = answer.source;
  return 0;
}

FABRIC_EXPORT int rdma_resolve_addr(rdma_cm_id* given, sockaddr* source, sockaddr* destination, int) {
  auto& id = of(given);
  Request request;
  request.destination = stored(destination);
  request.domain = is_of_this_host(request.destination);
  if (source && !is_any(stored(source)))
    request.source = stored(source);
  else if (!find_source(request.destination, request.source))
    return -1;
  if (!is_of_this_host(request.source)) return errno = EADDRNOTAVAIL, -1;
  Answer answer;
  return ask(id, Verb::resolve_address, request, answer);
}

FABRIC_EXPORT int rdma_resolve_route(rdma_cm_id* id, int) { return ask(of(id), Verb::resolve_route); }

FABRIC_EXPORT int rdma_connect(rdma_cm_id* id, rdma_conn_param* with) {
  return ask(of(id), Verb::connect, with->private_data, with->private_data_len, kRequestData);
}

FABRIC_EXPORT int rdma_accept(rdma_cm_id* id, rdma_conn_param* with) {
  return ask(of(id), Verb::accept, with ? with->private_data : nullptr, with ? with->private_data_len : 0, kAcceptData);
}

FABRIC_EXPORT int rdma_reject(rdma_cm_id* id, const void* data, uint8_t size) {
  return ask(of(id), Verb::reject, data, size, kRejectData);
}

FABRIC_EXPORT int rdma_disconnect(rdma_cm_id* id) { return ask(of(id), Verb::disconnect); }

FABRIC_EXPORT int rdma_set_option(rdma_cm_id*, int, int, void*, size_t) { return 0; }

FABRIC_EXPORT int rdma_create_qp(rdma_cm_id* id, ibv_pd* domain, ibv_qp_init_attr* attributes) {
  if (id->qp || !id->verbs || (domain && domain->context != id->verbs)) return errno = EINVAL, -1;
  if (!domain && !(domain = fabric::of(id->verbs).usual_domain())) return -1;
  id->qp = create_queue_pair(static_cast<Domain&>(*domain), *attributes);
  if (!id->qp) return -1;
  id->pd = domain;
  return 0;
}

FABRIC_EXPORT void rdma_destroy_qp(rdma_cm_id* id) {
  if (destroy_queue_pair(id->qp) == 0) id->qp = nullptr;
}

FABRIC_EXPORT int rdma_get_cm_event(rdma_event_channel* given, rdma_cm_event** given_event) {
  auto& channel = of(given);
  auto* event = made<Event>();
  if (!event) return -1;
  for (;;) {
    *event = {};
    CmEvent told;
    const long got = call(SYS_read, channel.fd, &told, sizeof told);
    if (got != sizeof told) {
      const int error = got < 0 ? errno : ENODEV;
      delete event;
      errno = error;
      return -1;
    }
    if (fill(channel, told, *event)) break;
  }
  *given_event = event;
  return 0;
}

FABRIC_EXPORT int rdma_ack_cm_event(rdma_cm_event* given) {
  auto* event = static_cast<Event*>(given);
  {
    const Locked locked(event->channel->mutex);
    --of(event->listen_id ? event->listen_id : event->id).events;
  }
  delete event;
  return 0;
}
