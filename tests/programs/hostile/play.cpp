#include "tests/programs/hostile/play.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>

namespace hostile {
namespace {

constexpr auto kJudgement = 4s;  // in which a link is lost, or is not

}  // namespace

wire::Greeting greeting() { return {wire::kVersion, wire::Verdict::welcome, random_number(), kReceives}; }
Bytes greeting_bytes() { return bytes_of(wire::encode(greeting())); }

Play::Play(int fd, bool dialler) : tcp(fd), dials_(dialler), channel_(rdma_create_event_channel()) {
  if (!channel_) die("rdma_create_event_channel");
  ::fcntl(channel_->fd, F_SETFL, O_NONBLOCK);
  if (!dials_) listen();
}

Play::~Play() {
  for (auto* id : requests_) rdma_destroy_id(id);
  lines_.clear();
  if (listener_) rdma_destroy_id(listener_);
  rdma_destroy_event_channel(channel_);
}

// The victim uses its end, so that it looks for ours.
void Play::listen() {
  sockaddr_storage address{};
  write(tcp.local(), address);
  if (rdma_create_id(channel_, &listener_, nullptr, RDMA_PS_TCP) != 0 ||
      rdma_bind_addr(listener_, reinterpret_cast<sockaddr*>(&address)) != 0 || rdma_listen(listener_, 64) != 0)
    die("rdma_listen");
  tcp.send(std::string_view("PING\r\n"));
  tcp.receive([](const auto& got) { return got.ends_with("\r\n"); }, kPatience);
}

const char* Play::fate() {
  if (lines_.empty()) return "never";
  until([&] { return line().state == Line::State::lost; }, kJudgement);
  constexpr const char* kFates[] = {"never", "refused", "kept", "lost"};
  return kFates[static_cast<int>(line().state)];
}

bool Play::all_answered() const {
  return std::none_of(lines_.begin(), lines_.end(), [](const auto& line) { return line->state == Line::State::pending; });
}

bool Play::holds() const {
  return std::any_of(lines_.begin(), lines_.end(), [](const auto& line) { return line->state == Line::State::up; });
}

bool Play::until(const std::function<bool()>& condition, std::chrono::milliseconds patience) {
  for (const auto deadline = Clock::now() + patience;;) {
    attend();
    if (condition()) return true;
    if (Clock::now() >= deadline) return false;
    pollfd wait{channel_->fd, POLLIN, 0};
    ::poll(&wait, 1, 2);
  }
}

Line& Play::dial(Bytes privately) {
  if (privately.size() == wire::kGreetingSize) {
    std::array<uint8_t, wire::kEndpointSize> own;
    wire::Writer writer(own);
    put(writer, tcp.local());
    privately.insert(privately.end(), own.begin(), own.end());
  }
  auto& made = *lines_.emplace_back(std::make_unique<Line>());
  made.privately = std::move(privately);
  auto from = tcp.local();
  from.port = 0;
  sockaddr_storage source{}, destination{};
  write(from, source);
  write(tcp.remote(), destination);
  if (rdma_create_id(channel_, &made.id, &made, RDMA_PS_TCP) != 0 ||
      rdma_resolve_addr(made.id, reinterpret_cast<sockaddr*>(&source), reinterpret_cast<sockaddr*>(&destination), 1000) != 0)
    die("rdma_resolve_addr");
  ++dials;
  return made;
}

rdma_cm_id* Play::request(std::chrono::milliseconds patience) {
  if (!until([&] { return !requests_.empty(); }, patience)) return nullptr;
  auto* id = requests_.front();
  requests_.pop_front();
  return id;
}

Line& Play::answer(rdma_cm_id* id, Bytes privately) {
  auto& made = *lines_.emplace_back(std::make_unique<Line>());
  made.id = id;
  id->context = &made;
  made.privately = std::move(privately);
  made.prepare();
  auto with = made.parameters();
  if (rdma_accept(id, &with) != 0) made.state = Line::State::refused;
  return made;
}

void Play::link(const Bytes& privately) {
  for (const auto deadline = Clock::now() + 1s; Clock::now() < deadline;) {
    if (dials_) {
      if (linked()) hang_up();
      dial(privately);
    } else if (auto* id = request()) {
      answer(id, privately);
    } else {
      return;
    }
    until([&] { return linked(); }, kPatience);
    if (!dials_ || line().state != Line::State::refused) return;
    ::usleep(20000);
  }
}

bool Play::reach(Step step) {
  link(greeting_bytes());
  if (lines_.empty() || line().state != Line::State::up) return false;
  for (auto at = Step::linked; at < step;) {
    at = static_cast<Step>(static_cast<int>(at) + 1);
    if (!(dials_ ? as_acceptor(at) : as_connector(at))) return false;
  }
  return true;
}

wire::Claim Play::claim() {
  return {kOwnSlot, tcp.remote(), tcp.local(), claimed_ring.value_or(line().ring()), expected};
}

bool Play::as_acceptor(Step step) {
  switch (step) {
    case Step::linked: return true;
    case Step::claimed: return say(claim()), true;
    case Step::accepted: {
      const auto accept = await<wire::Accept>();
      if (accept) note(accept->from, accept->ring, accept->token), peer_offset = accept->offset;
      return accept.has_value();
    }
    case Step::confirmed: return say(wire::Confirm{peer_slot, tcp.sent()}), true;
    case Step::acknowledged: return await<wire::ConfirmAck>().has_value();
    case Step::lane: return exchange_tokens();
  }
  return false;
}

bool Play::as_connector(Step step) {
  switch (step) {
    case Step::linked: return true;
    case Step::claimed: {
      const auto claim = await<wire::Claim>();
      if (claim) note(claim->from, claim->ring, claim->token);
      return claim.has_value();
    }
    case Step::accepted:
      return say(wire::Accept{peer_slot, kOwnSlot, claimed_ring.value_or(line().ring()), expected, tcp.sent()}), true;
    case Step::confirmed: {
      const auto confirm = await<wire::Confirm>();
      if (confirm) peer_offset = confirm->offset;
      return confirm.has_value();
    }
    case Step::acknowledged: return say(wire::ConfirmAck{peer_slot}), true;
    case Step::lane: return exchange_tokens();
  }
  return false;
}

bool Play::exchange_tokens() {
  tcp.send(shown);
  const auto whole = peer_offset + wire::kTokenSize;
  tcp.receive([&](const auto&) { return tcp.got() >= whole; }, kPatience);
  return tcp.got() == whole;
}

void Play::attend() {
  rdma_cm_event* event = nullptr;
  while (rdma_get_cm_event(channel_, &event) == 0) {
    handle(*event);
    rdma_ack_cm_event(event);
  }
  for (const auto& each : lines_) each->poll();
}

void Play::handle(const rdma_cm_event& event) {
  if (event.event == RDMA_CM_EVENT_CONNECT_REQUEST) {
    ++dials;
    event.id->context = nullptr;
    requests_.push_back(event.id);
    return;
  }
  auto* of = static_cast<Line*>(event.id->context);
  if (!of) return;
  switch (event.event) {
    case RDMA_CM_EVENT_ADDR_RESOLVED: rdma_resolve_route(event.id, 1000); break;
    case RDMA_CM_EVENT_ROUTE_RESOLVED: {
      of->prepare();
      auto with = of->parameters();
      if (rdma_connect(event.id, &with) != 0) of->state = Line::State::refused;
      break;
    }
    case RDMA_CM_EVENT_ESTABLISHED: of->state = Line::State::up; break;
    case RDMA_CM_EVENT_DISCONNECTED: of->state = Line::State::lost; break;
    case RDMA_CM_EVENT_TIMEWAIT_EXIT: break;
    default: of->state = Line::State::refused;
  }
}

}  // namespace hostile
