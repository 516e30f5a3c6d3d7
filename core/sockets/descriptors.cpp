// Descriptors of concern come, are copied, and go.

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/syscall.h>

#include "config/config.hpp"
#include "core/base/reserve.hpp"
#include "core/engine/service/service.hpp"
#include "core/sockets/epoll_set.hpp"

namespace rsock::sockets {
namespace {

constexpr bool is_inet(int domain) { return domain == AF_INET || domain == AF_INET6; }

// What a rule asks for, in the engine's terms; nothing: not selected.
Lanes lanes_of(std::optional<config::Lane> rule) {
  if (!rule) return {};
  switch (*rule) {
    case config::Lane::automatic: return {.rdma = true, .shm = true};
    case config::Lane::rdma: return {.rdma = true};
    case config::Lane::shm: return {.shm = true};
    case config::Lane::tcp: return {};
  }
  return {};
}

const config::Rules& rules() { return state.config.load(std::memory_order_acquire)->rules; }

// What the rules say of a flow that is there.
Lanes lanes_for(const engine::Flow& flow) {
  sockaddr_storage address;
  const bool accepted = flow.role() == engine::Role::acceptor;
  write(accepted ? flow.local() : flow.remote(), address);
  const auto& generic = reinterpret_cast<sockaddr&>(address);
  return lanes_of(accepted ? rules().listen(generic) : rules().connect(generic));
}

// The lanes that accepted flows may enter.
Lanes prepared() {
  Lanes all;
  for (const auto& rule : rules().all())
    if (rule.side == config::Rule::Side::listen) all = all | lanes_of(rule.lane);
  return all;
}

int option(int fd, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  (void)sys::getsockopt(fd, SOL_SOCKET, name, &value, size);
  return value;
}

bool nonblocking_now(int fd) {
  const auto flags = sys::fcntl(fd, F_GETFL, 0);
  return flags && (*flags & O_NONBLOCK);
}

Entry& new_flow(engine::Engine& engine, engine::Role role, int fd, bool nonblocking) {
  auto& entry = new_entry(Entry::Kind::flow);
  entry.flow = engine.make_flow(role, fd);
  entry.nonblocking = nonblocking;
  set_entry(fd, &entry);
  return entry;
}

// It will never be a flow of ours.
void disown(int fd, Entry& entry) {
  EpollSet::hand_over(*entry.flow);
  release(fd);
}

}  // namespace

Entry* known_socket(Section& section, int fd) {
  if (auto* entry = find(fd)) return entry;
  if (fd < 0 || fd >= kTableSize || option(fd, SO_TYPE) != SOCK_STREAM || option(fd, SO_PROTOCOL) != IPPROTO_TCP)
    return nullptr;
  return &new_flow(section.engine(), engine::Role::connector, fd, nonblocking_now(fd));
}

bool endpoints_of(int fd, Endpoint& local, Endpoint& remote) {
  sockaddr_storage here{};
  return endpoints_of(fd, local, remote, here);
}

bool endpoints_of(int fd, Endpoint& local, Endpoint& remote, sockaddr_storage& here) {
  sockaddr_storage there{};
  return sys::getsockname(fd, here) && sys::getpeername(fd, there) && parse(reinterpret_cast<sockaddr&>(here), local) &&
         parse(reinterpret_cast<sockaddr&>(there), remote);
}

bool idle() { return !state.engine; }

void socket_made(int fd, int domain, int type) {
  constexpr int kFlags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  if (idle() || !is_inet(domain) || (type & ~kFlags) != SOCK_STREAM || !rules().any_connect()) return;
  if (fd < 0 || fd >= kTableSize || reserve::short_of_memory()) return;
  const Section section;
  if (find(fd)) release(fd);
  new_flow(section.engine(), engine::Role::connector, fd, type & SOCK_NONBLOCK);
}

constinit std::atomic<uint64_t> met_listeners[kTableSize / kMetBits];

void listening(int fd) {
  if (idle() || fd < 0 || fd >= kTableSize) return;
  met_listeners[fd / kMetBits].fetch_or(met_bit(fd), std::memory_order_relaxed);
  sockaddr_storage bound{};
  if (!sys::getsockname(fd, bound)) return;
  const bool may = is_inet(bound.ss_family) && rules().may_listen(reinterpret_cast<sockaddr&>(bound));
  const Section section;
  // After a reload this is the service thread, and the program may have closed the descriptor meanwhile; before the
  // lock of before_close() is free it cannot name another flow.
  if (option(fd, SO_ACCEPTCONN) != 1) return;
  if (entry_of(fd, Entry::Kind::listener)) return;
  const auto* before = find(fd);
  const auto receive_limit = before ? before->receive_limit : std::nullopt,
             send_limit = before ? before->send_limit : std::nullopt;
  if (auto* entry = entry_of(fd, Entry::Kind::flow)) disown(fd, *entry);
  if (find(fd)) release(fd);
  if (!may) return;
  auto& listener = new_entry(Entry::Kind::listener);
  listener.receive_limit = receive_limit, listener.send_limit = send_limit;  // what it accepts has them, too
  set_entry(fd, &listener);
  if (!section.engine().start_service()) return;
  const Section::Outside outside;
  section.engine().service().prepare(prepared());
}

void accepted(int listener, int fd, int flags) {
  if (idle() || fd < 0 || fd >= kTableSize || reserve::short_of_memory()) return;
  Endpoint local, remote;
  sockaddr_storage address{};
  if (!endpoints_of(fd, local, remote, address)) return;
  const auto lanes = lanes_of(rules().listen(reinterpret_cast<sockaddr&>(address)));
  if (!lanes.any()) return;
  const Section section;
  const auto* parent = entry_of(listener, Entry::Kind::listener);
  if (!parent) return;
  if (find(fd)) release(fd);
  auto& entry = new_flow(section.engine(), engine::Role::acceptor, fd, flags & SOCK_NONBLOCK);
  entry.receive_limit = parent->receive_limit, entry.send_limit = parent->send_limit;
  entry.flow->set_endpoints(local, remote);
  entry.flow->select(lanes);
  if (!section.engine().start_service()) entry.flow->settle(Reason::descriptors);
}

bool connecting(int fd, const sockaddr* address, socklen_t size) {
  if (idle() || fd < 0 || fd >= kTableSize || !rules().any_connect()) return false;
  sockaddr_storage copy{};
  if (size < sizeof(sockaddr_in) || !rsock::copy(&copy, address, std::min<size_t>(size, sizeof copy))) return false;
  Endpoint remote;
  auto& generic = reinterpret_cast<sockaddr&>(copy);
  if (!is_inet(copy.ss_family) || !parse(generic, remote)) return false;
  if (copy.ss_family == AF_INET6 && size < sizeof(sockaddr_in6)) return false;
  const auto lanes = lanes_of(rules().connect(generic));
  Section section;
  auto* entry = entry_of(fd, Entry::Kind::flow);
  if (entry && entry->flow->selected()) return true;  // connect(2) again, on a connection under way
  if (!lanes.any()) {
    if (entry) disown(fd, *entry);
    return false;
  }
  if (!entry) entry = find(fd) ? nullptr : known_socket(section, fd);
  if (!entry) return false;
  auto& flow = *entry->flow;
  flow.set_endpoints({}, remote);
  flow.select(lanes);
  if (!section.engine().start_service()) {
    flow.settle(Reason::descriptors);
    return true;
  }
  section.engine().add_connector(flow);
  const Section::Outside outside;
  section.engine().service().prepare(lanes);
  return true;
}

void connected(int fd, int error) {
  sockaddr_storage address{};
  Endpoint local;
  const bool named = sys::getsockname(fd, address) && parse(reinterpret_cast<sockaddr&>(address), local);
  const Section section;
  auto* entry = entry_of(fd, Entry::Kind::flow);
  if (!entry || !entry->flow->selected()) return;
  auto& flow = *entry->flow;
  const bool under_way = error == 0 || error == EINPROGRESS || error == EALREADY || error == EISCONN || error == EINTR;
  if (!under_way) flow.dissolved();
  if (flow.settled()) return;
  if (!under_way || !named) return flow.settle(Reason::short_lived);
  if (flow.candidacy().expected() || local.port == 0) return;
  flow.candidacy().expect();
  auto remote = flow.remote();
  if (remote.address.unspecified()) remote.address = local.address;  // connect(2) to no address: to this host
  section.engine().name_connector(flow, local, remote);
  section.engine().is_young(flow);
}

void duplicated(int from, int to) {
  if (idle() || to < 0 || to >= kTableSize || !find(from)) return;
  const Section section;
  auto* entry = find(from);
  if (!entry || find(to) == entry) return;
  entry->meant = true;
  if (find(to)) release(to);
  set_entry(to, entry);
}

void meant_for_next_program(int fd) {
  if (idle()) return;
  const Section section;
  if (auto* entry = find(fd)) entry->meant = true;
}

void before_close(int fd) {
  if (idle()) return;
  Section section;
  const auto* entry = entry_of(fd, Entry::Kind::set);
  if (entry && entry->descriptors == 1 && entry->set->share() && !entry->set->share()->alone())
    give_up_and_wait(section, entry->set);
  if (find(fd)) release(fd);
}

engine::Program::Reloaded reload(const Again& again) {
  const auto parsed = again.read_rules();
  engine::Program::Reloaded done;
  for (const auto& error : parsed.errors) done.complaint += config::to_string(error) + "\n";
  if (!parsed.errors.empty()) return done;
  auto config = parsed.config;
  // Those of the start: children show what their parents show, and by now the process may not be allowed to read them.
  config.secrets = state.config.load(std::memory_order_acquire)->secrets;
  state.config.store(new config::Config(std::move(config)), std::memory_order_release);
  again.announce_listeners();
  const Section section;
  std::vector<std::shared_ptr<engine::Flow>> flows;
  for (const auto& [id, flow] : section.engine().flows())
    if (flow->selected() && !flow->settled() && !flow->closing()) flows.push_back(flow);
  for (const auto& flow : flows) {
    const auto lanes = lanes_for(*flow);
    flow->candidacy().want(lanes);
    const bool kept = lanes.any() && (flow->stage() == engine::Stage::tcp || lanes.has(flow->lane()));
    if (kept) continue;
    flow->leave(Reason::deselected);
    ++done.leave;
  }
  return done;
}

void nonblocking_set(int fd, bool nonblocking) {
  if (idle()) return;
  const Section section;
  if (auto* entry = find(fd)) entry->nonblocking = nonblocking;
}

}  // namespace rsock::sockets
