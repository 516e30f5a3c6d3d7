#include "core/fabric/verbs/dialler.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#include "core/base/kernel.hpp"
#include "core/base/log.hpp"
#include "core/base/own.hpp"

namespace rsock::fabric::verbs {
namespace {

constexpr int kResolveTimeoutMs = 1000;
// 4.096 us * 2^15 = 134 ms for an acknowledgement; with five retries a dead path is known within a second, by devices
// that take the time at its word. Not seven retries, the most: Soft-RoCE takes that for no end of them.
constexpr uint8_t kAckTimeout = 15;
constexpr uint8_t kRetries = 5;
constexpr int kBacklog = 4;

sockaddr* generic(sockaddr_storage& address) { return reinterpret_cast<sockaddr*>(&address); }

std::span<const uint8_t> private_data(const rdma_cm_event& event) {
  const auto& parameters = event.param.conn;
  if (!parameters.private_data) return {};
  return {static_cast<const uint8_t*>(parameters.private_data), parameters.private_data_len};
}

// For this end's work requests: the peer does the same for its own.
void set_ack_timeout(const Library& library, rdma_cm_id* id) {
  auto timeout = kAckTimeout;
  library.rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, sizeof timeout);
}

// What rdma-core maps of a device, a child of fork would have, too, and so keep the device from going.
void withhold_mappings() {
  const auto file = sys::open("/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
  if (!file) return;
  const UniqueFd owned(*file);
  std::string maps;
  char piece[8192];
  for (auto got = sys::read(*file, piece, sizeof piece); got && *got > 0; got = sys::read(*file, piece, sizeof piece))
    maps.append(piece, *got);
  for (size_t at = 0, end; at < maps.size(); at = end + 1) {
    end = std::min(maps.find('\n', at), maps.size());
    const auto line = maps.substr(at, end - at);
    if (line.find(" /dev/infiniband/") == std::string::npos) continue;
    char* rest = nullptr;
    const auto from = std::strtoull(line.c_str(), &rest, 16), to = std::strtoull(rest + 1, nullptr, 16);
    (void)sys::advise(reinterpret_cast<void*>(from), to - from, MADV_DONTFORK);
  }
}

Status watch(int set, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  return sys::epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
}

}  // namespace

Reason reason_of(int error) {
  switch (error) {
    case ENODEV:
    case ENOENT:
    case ENXIO:
    case EADDRNOTAVAIL: return Reason::no_device;
    case EACCES:
    case EPERM: return Reason::no_permission;
    case ENOMEM: return Reason::locked_memory;
    case EMFILE:
    case ENFILE: return Reason::descriptors;
    case EADDRINUSE: return Reason::port_taken;
    case ENETUNREACH:
    case EHOSTUNREACH: return Reason::no_route;
    default: return Reason::link_failed;
  }
}

std::unique_ptr<CmDialler> CmDialler::make(Lock& lock, PinnedBudget& budget, const std::string& device,
                                           Announce announce, Drain drain, Reason& why) {
  const auto* loaded = library();
  if (!loaded) {
    why = Reason::no_device;
    return nullptr;
  }
  auto* channel = loaded->rdma_create_event_channel();
  if (!channel) {
    why = reason_of(loaded->error());
    // rdma-core answers "no such file" for a device that it may not open.
    if (const auto tried = sys::open("/dev/infiniband/rdma_cm", O_RDWR | O_CLOEXEC, 0))
      (void)sys::close(*tried);
    else if (tried.is(EACCES) || tried.is(EPERM))
      why = Reason::no_permission;
    log::info("RDMA is not available: {}", key(why));
    return nullptr;
  }
  (void)sys::fcntl(channel->fd, F_SETFL, O_NONBLOCK);
  (void)sys::fcntl(channel->fd, F_SETFD, FD_CLOEXEC);
  adopt(channel->fd);
  auto events = out_of_the_way([] { return sys::epoll_create(); });
  auto inert = out_of_the_way([] { return sys::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); });
  const bool complete = events && inert && watch(events->get(), channel->fd);
  std::unique_ptr<CmDialler> made(new CmDialler(*loaded, channel, events ? std::move(*events) : UniqueFd(),
                                                inert ? std::move(*inert) : UniqueFd(), lock, budget, device,
                                                std::move(announce), std::move(drain)));
  if (complete) return made;
  why = Reason::descriptors;
  return nullptr;
}

CmDialler::CmDialler(const Library& library, rdma_event_channel* channel, UniqueFd events, UniqueFd inert, Lock& lock,
                     PinnedBudget& budget, std::string device, Announce announce, Drain drain)
    : library_(library),
      channel_(channel),
      events_(std::move(events)),
      inert_(std::move(inert)),
      lock_(lock),
      budget_(budget),
      device_(std::move(device)),
      announce_(std::move(announce)),
      drain_(std::move(drain)) {}

bool CmDialler::wrong_device(const rdma_cm_id* id) const {
  return !device_.empty() && (!id->verbs || device_ != id->verbs->device->name);
}

CmDialler::~CmDialler() {
  for (const auto& [cookie, id] : points_) library_.rdma_destroy_id(id);
  devices_.clear();
  own::forget(channel_->fd);
  library_.rdma_destroy_event_channel(channel_);
}

// The port space has no room for the other end: whoever dials says which flow is meant.
std::optional<Reason> CmDialler::open_point(uint64_t cookie, const Endpoint& local, const Endpoint&) {
  rdma_cm_id* id = nullptr;
  if (library_.rdma_create_id(channel_, &id, nullptr, RDMA_PS_TCP) != 0) return reason_of(library_.error());
  sockaddr_storage address;
  write(local, address);
  if (library_.rdma_bind_addr(id, generic(address)) != 0 || library_.rdma_listen(id, kBacklog) != 0) {
    const int error = library_.error();
    log::info("no rendezvous at {}: {}", to_string(local), std::strerror(error));
    library_.rdma_destroy_id(id);
    return reason_of(error);
  }
  if ((id->verbs && !device_of(id)) || wrong_device(id)) {
    doomed_.push_back(id);
    bury_doomed();
    return Reason::no_device;
  }
  // The context names the point; a request carries its listener.
  id->context = reinterpret_cast<void*>(cookie);
  points_[cookie] = id;
  log::debug("a point at {} for flow {}", to_string(local), cookie);
  return {};
}

void CmDialler::close_point(uint64_t cookie) {
  const auto found = points_.find(cookie);
  if (found == points_.end()) return;
  log::debug("the point for flow {} closes", cookie);
  doomed_.push_back(found->second);
  points_.erase(found);
  bury_doomed();
}

std::optional<Reason> CmDialler::dial(uint64_t cookie, const Endpoint& from, const Endpoint& to,
                                      const wire::Greeting& greeting) {
  rdma_cm_id* id = nullptr;
  if (library_.rdma_create_id(channel_, &id, nullptr, RDMA_PS_TCP) != 0) return reason_of(library_.error());
  Endpoint any_port = from;
  any_port.port = 0;
  sockaddr_storage source, destination;
  write(any_port, source);
  write(to, destination);
  if (library_.rdma_resolve_addr(id, generic(source), generic(destination), kResolveTimeoutMs) != 0) {
    const int error = library_.error();
    log::info("cannot dial {}: {}", to_string(to), std::strerror(error));
    library_.rdma_destroy_id(id);
    return reason_of(error);
  }
  auto& call = calls_[id];
  call.cookie = cookie;
  call.dialled = true;
  call.peer = to.address;
  call.hello = {greeting, from};
  return {};
}

void CmDialler::cancel_dial(uint64_t cookie) {
  for (auto& [id, call] : calls_) {
    if (!call.dialled || call.cookie != cookie || call.established) continue;
    if (call.queue_pair)
      doomed_pairs_.push_back(std::move(call.queue_pair));
    else
      doomed_.push_back(id);
    calls_.erase(id);
    return bury_doomed();
  }
}

void CmDialler::bury(std::unique_ptr<Connection> connection) {
  calls_.erase(static_cast<QueuePair&>(*connection).id());
  connection.reset();
  clean_up();
}

// A queue pair that is destroyed leaves its flushed receives behind, in a completion queue that nobody may be polling.
void CmDialler::clean_up() {
  const std::lock_guard guard(lock_);
  drain_();
  for (const auto& device : devices_) device->let_go(inert_.get());
}

void CmDialler::dispatch(Meeting& meeting) {
  {
    const std::lock_guard guard(lock_);
    for (const auto& device : devices_) device->check_health();
  }
  rdma_cm_event* event = nullptr;
  dispatching_ = true;
  while (library_.rdma_get_cm_event(channel_, &event) == 0) {
    handle(meeting, *event);
    library_.rdma_ack_cm_event(event);
  }
  dispatching_ = false;
  bury_doomed();
}

void CmDialler::bury_doomed() {
  if (dispatching_) return;
  doomed_pairs_.clear();
  for (auto* id : doomed_) library_.rdma_destroy_id(id);
  doomed_.clear();
  clean_up();
}

void CmDialler::handle(Meeting& meeting, const rdma_cm_event& event) {
  auto* id = event.id;
  switch (event.event) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
      if (id->verbs && !device_of(id)) {
        failed(meeting, id, Reason::no_device, {});
        break;
      }
      set_ack_timeout(library_, id);
      if (calls_.contains(id) && library_.rdma_resolve_route(id, kResolveTimeoutMs) != 0)
        failed(meeting, id, reason_of(library_.error()), {});
      break;
    case RDMA_CM_EVENT_ROUTE_RESOLVED: route_found(meeting, id); break;
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
      failed(meeting, id, event.status == -ENODEV ? Reason::no_device : Reason::no_route, {});
      break;
    case RDMA_CM_EVENT_CONNECT_REQUEST: request(meeting, event); break;
    case RDMA_CM_EVENT_ESTABLISHED: established(meeting, event); break;
    case RDMA_CM_EVENT_REJECTED: {
      const auto greeting = wire::decode_answer(private_data(event));
      failed(meeting, id, greeting ? Reason::peer_declined : Reason::plain_peer, greeting);
      break;
    }
    case RDMA_CM_EVENT_UNREACHABLE: failed(meeting, id, Reason::dial_timeout, {}); break;
    case RDMA_CM_EVENT_CONNECT_ERROR: failed(meeting, id, Reason::link_failed, {}); break;
    case RDMA_CM_EVENT_DISCONNECTED: lost(meeting, id); break;
    case RDMA_CM_EVENT_DEVICE_REMOVAL: removed(meeting, id); break;
    default: break;
  }
}

// The device that `id` is on; nullptr if it goes, or cannot be used.
Device* CmDialler::device_of(rdma_cm_id* id) {
  device_is_opened();
  auto* device = serving(id->verbs);
  if (!device) device = watched(id);
  return device && !device->removed() ? device : nullptr;
}

// A device that is met for the first time. rdma-core has opened it, and keeps it open, while the kernel removes it only
// when nobody has; but who has no identifier on it is not told. Those of points and links come and go: at the removal
// of a device a link's may be gone, with the news for it, since the peer was told first, and ended the link.
Device* CmDialler::watched(rdma_cm_id* id) {
  rdma_cm_id* witness = nullptr;
  if (library_.rdma_create_id(channel_, &witness, nullptr, RDMA_PS_UDP) != 0) return nullptr;
  sockaddr_storage address{};
  Endpoint local;
  if (parse(*rdma_get_local_addr(id), local)) write({local.address, 0}, address);
  const bool bound = library_.rdma_bind_addr(witness, generic(address)) == 0;
  const bool going = !bound && library_.error() == ENODEV;
  if (!bound || witness->verbs != id->verbs) {
    library_.rdma_destroy_id(std::exchange(witness, nullptr));
    if (!going) return nullptr;
  }
  auto* device = vacant_device();
  if (device) {
    const std::lock_guard guard(lock_);
    if (device->open(id->verbs, witness)) {
      (void)watch(events_.get(), id->verbs->async_fd);
      return device;
    }
  }
  if (witness) library_.rdma_destroy_id(witness);
  return nullptr;
}

Device* CmDialler::serving(const ibv_context* context) {
  for (const auto& device : devices_)
    if (device->context() == context) return device.get();
  return nullptr;
}

Device* CmDialler::vacant_device() {
  if (auto* device = serving(nullptr)) return device;
  auto made = Device::make(library_);
  if (!made) return nullptr;
  announce_(*made);
  return devices_.emplace_back(std::move(made)).get();
}

std::unique_ptr<QueuePair> CmDialler::make_queue_pair(rdma_cm_id* id, Reason& why) {
  why = Reason::link_failed;
  auto* device = device_of(id);
  if (!device) return doomed_.push_back(id), nullptr;
  Shortage shortage = Shortage::none;
  auto made = QueuePair::make(*device, id, lock_, budget_, shortage);
  withhold_mappings();
  if (shortage == Shortage::memory) why = Reason::locked_memory;
  // Not at once: destroying an identifier waits until its events are acknowledged.
  if (!made) doomed_.push_back(id);
  return made;
}

rdma_conn_param CmDialler::parameters(std::span<const uint8_t> privately) const {
  rdma_conn_param parameters{};
  parameters.private_data = privately.data();
  parameters.private_data_len = static_cast<uint8_t>(privately.size());
  parameters.retry_count = kRetries;
  parameters.rnr_retry_count = 7;  // for ever: credits keep it from being needed
  return parameters;
}

void CmDialler::route_found(Meeting& meeting, rdma_cm_id* id) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return;
  if (wrong_device(id)) return failed(meeting, id, Reason::no_device, {});
  auto& call = found->second;
  Reason why;
  call.queue_pair = make_queue_pair(id, why);
  if (!call.queue_pair) {
    const auto cookie = call.cookie;
    calls_.erase(found);
    meeting.dial_failed(cookie, why, {});
    return;
  }
  call.hello.greeting.receives = call.queue_pair->receive_depth();
  const auto bytes = wire::encode(call.hello);
  auto with = parameters(bytes);
  if (library_.rdma_connect(id, &with) != 0) failed(meeting, id, reason_of(library_.error()), {});
}

void CmDialler::failed(Meeting& meeting, rdma_cm_id* id, Reason reason, std::optional<wire::Greeting> greeting) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return;
  auto call = std::move(found->second);
  calls_.erase(found);
  if (call.established) {
    meeting.disconnected(*call.established);
    return;
  }
  if (call.queue_pair)
    doomed_pairs_.push_back(std::move(call.queue_pair));
  else
    doomed_.push_back(id);
  if (call.dialled) meeting.dial_failed(call.cookie, reason, greeting);
}

// A device goes away. The kernel waits until nobody has it open: all that is on it is let go of, whichever of its
// identifiers the event is for.
void CmDialler::removed(Meeting& meeting, rdma_cm_id* id) {
  auto* context = id->verbs;
  auto* device = serving(context);
  if (!device || device->removed()) return;
  log::info("the device {} is removed", context->device->name);
  device->remove();
  std::vector<uint64_t> points;
  for (const auto& [cookie, point] : points_)
    if (point->verbs == context) points.push_back(cookie);
  for (const auto cookie : points) meeting.point_lost(cookie, Reason::no_device);
  std::vector<rdma_cm_id*> calls;
  for (const auto& [call, its] : calls_)
    if (call->verbs == context) calls.push_back(call);
  for (auto* call : calls) failed(meeting, call, Reason::no_device, {});
}

void CmDialler::lost(Meeting& meeting, rdma_cm_id* id) { failed(meeting, id, Reason::link_failed, {}); }

void CmDialler::request(Meeting& meeting, const rdma_cm_event& event) {
  auto* id = event.id;
  const auto refuse = [&](wire::Greeting verdict) {
    const auto bytes = wire::encode(verdict);
    library_.rdma_reject(id, bytes.data(), static_cast<uint8_t>(bytes.size()));
    doomed_.push_back(id);
  };
  const auto hello = wire::decode_hello(private_data(event));
  Endpoint from;
  if (!hello || !parse(*rdma_get_peer_addr(id), from)) {
    library_.rdma_reject(id, nullptr, 0);
    doomed_.push_back(id);
    return;
  }
  const auto cookie = reinterpret_cast<uint64_t>(event.listen_id->context);
  auto answer = meeting.asked(Lane::rdma, cookie, from.address, *hello);
  if (answer.verdict != wire::Verdict::welcome) return refuse(answer);
  Reason why;
  auto queue_pair = make_queue_pair(id, why);
  if (!queue_pair) {
    answer.verdict = wire::Verdict::resources;
    const auto bytes = wire::encode(answer);
    library_.rdma_reject(id, bytes.data(), static_cast<uint8_t>(bytes.size()));
    return;
  }
  set_ack_timeout(library_, id);
  answer.receives = queue_pair->receive_depth();
  const auto bytes = wire::encode(answer);
  auto with = parameters(bytes);
  auto& call = calls_[id];
  call.cookie = cookie;
  call.peer = from.address;
  call.established = queue_pair.get();
  auto& device = queue_pair->device();
  // The link comes first: once accepted, the peer speaks, and whoever polls takes what it said.
  meeting.linked(cookie, false, from.address, hello->greeting, std::move(queue_pair), device);
  if (library_.rdma_accept(id, &with) != 0) failed(meeting, id, reason_of(library_.error()), {});
}

void CmDialler::established(Meeting& meeting, const rdma_cm_event& event) {
  const auto found = calls_.find(event.id);
  if (found == calls_.end()) return;
  auto& call = found->second;
  if (!call.dialled) return meeting.established(*call.established);
  const auto greeting = wire::decode_answer(private_data(event));
  if (!greeting || !greeting->common()) return failed(meeting, event.id, Reason::peer_version, greeting);
  // A point that takes the dial says welcome, and only then is `receives` a number that was looked at.
  if (greeting->verdict != wire::Verdict::welcome) return failed(meeting, event.id, Reason::protocol, {});
  call.established = call.queue_pair.get();
  auto& device = call.queue_pair->device();
  auto owned = std::move(call.queue_pair);
  meeting.linked(call.cookie, true, call.peer, *greeting, std::move(owned), device);
  meeting.established(*call.established);
}

}  // namespace rsock::fabric::verbs
