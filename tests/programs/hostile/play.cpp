#include "tests/programs/hostile/play.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace hostile {

namespace keys = rsock::keys;

namespace {

constexpr auto kJudgement = 6s;  // in which a link is lost, or is not

}  // namespace

const keys::KeyPair& own_keys() {
  static const auto made = keys::KeyPair::of(random_array<keys::Scalar>());
  if (!made) die("a key pair");
  return *made;
}

wire::Greeting greeting() { return {wire::kVersion, wire::Verdict::welcome, random_number(), kReceives, {}}; }
Bytes first_bytes(const wire::Greeting& greeting) {
  auto bytes = bytes_of(wire::encode(greeting));
  bytes.resize(wire::kGreetingSize);
  return bytes;
}
Bytes greeting_bytes() { return first_bytes(greeting()); }

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
  return std::none_of(lines_.begin(), lines_.end(),
                      [](const auto& line) { return line->state == Line::State::pending; });
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
    privately.insert(privately.end(), behind.begin(), behind.end());
  }
  auto& made = *lines_.emplace_back(std::make_unique<Line>());
  made.privately = std::move(privately);
  auto from = tcp.local();
  from.port = 0;
  sockaddr_storage source{}, destination{};
  write(from, source);
  write(tcp.remote(), destination);
  if (rdma_create_id(channel_, &made.id, &made, RDMA_PS_TCP) != 0 ||
      rdma_resolve_addr(made.id, reinterpret_cast<sockaddr*>(&source), reinterpret_cast<sockaddr*>(&destination),
                        1000) != 0)
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
  if (privately.size() == wire::kGreetingSize) {
    const auto& own = own_keys().own();
    privately.insert(privately.end(), own.begin(), own.end());
    privately.insert(privately.end(), behind.begin(), behind.end());
  }
  auto& made = *lines_.emplace_back(std::make_unique<Line>());
  made.id = id;
  id->context = &made;
  made.privately = std::move(privately);
  made.prepare();
  auto with = made.parameters();
  if (rdma_accept(id, &with) != 0) made.state = Line::State::refused;
  return made;
}

void Play::link(const Bytes& privately, std::chrono::milliseconds patience) {
  for (const auto deadline = Clock::now() + patience; Clock::now() < deadline;) {
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
  link(greeting_bytes(), kPatience);
  if (lines_.empty() || line().state != Line::State::up) return false;
  constexpr const char* kSteps[] = {"linked", "keyed", "claimed", "accepted", "confirmed", "answered", "lane"};
  for (int at = 0; at <= static_cast<int>(step); ++at)
    if (!goes_on(static_cast<Step>(at)))
      return std::printf("not %s: %llu bytes came, %llu before the mark\n", kSteps[at],
                         static_cast<unsigned long long>(tcp.got()), static_cast<unsigned long long>(peer_offset)),
             false;
  return true;
}

wire::Claim Play::claim() {
  claim_ = {kOwnSlot, tcp.remote(), tcp.local(), claimed_ring.value_or(line().ring()), random_array<wire::Nonce>()};
  return claim_;
}

// One of which our mark is plain, where it is read by a program.
wire::Accept Play::accept(std::optional<uint64_t> told) {
  offset = told.value_or(tcp.sent());
  do {
    accept_ = {peer_slot, kOwnSlot, claimed_ring.value_or(line().ring()), random_array<wire::Nonce>(), offset};
    marks_ = marks_by(*secret_, claim_.nonce, accept_.nonce);
  } while (!plain(own_mark()));
  return accept_;
}

bool Play::agree(const wire::PublicKey& peer) {
  const auto made =
      keys::LinkKey::agree(own_keys(), peer, dials_ ? keys::End::dialler : keys::End::dialled, line().numbers());
  if (made) secret_ = *made;
  return static_cast<bool>(made);
}

bool Play::is_proven(const wire::Key& its) const {
  return secret_->proves(dials_ ? keys::End::dialled : keys::End::dialler, its.proof);
}

wire::Key Play::key() const {
  return {own_keys().own(), secret_->proof(dials_ ? keys::End::dialler : keys::End::dialled)};
}

keys::CutoverKey Play::marks_by(const keys::LinkKey& secret, const wire::Nonce& acceptor,
                                const wire::Nonce& connector) const {
  const auto claim = wire::encode({0, claim_}), accept = wire::encode({0, accept_});
  return keys::CutoverKey::make(secret, acceptor, connector, claim.body(), accept.body());
}

wire::Mark Play::no_that_answers(const keys::Fresh& fresh) const {
  auto mark = marks_->no(offset, fresh);
  const auto own = own_mark();
  std::copy_n(own.begin(), keys::kTagSize, mark.begin());
  return mark;
}

wire::WitnessCode Play::witness() const {
  const auto its = keys::fresh_in(peer_mark_);
  return dials_ ? marks_->witness(its, fresh_) : marks_->witness(fresh_, its);
}

wire::Mark Play::mark_of_another_link() const {
  const auto other = keys::KeyPair::of(random_array<keys::Scalar>());
  const auto secret = keys::LinkKey::agree(own_keys(), other->own(), keys::End::dialler, {1, 2});
  return marks_by(*secret, claim_.nonce, accept_.nonce).mark(side(), offset, fresh_, answered());
}

wire::Mark Play::mark_of_another_nonce() const {
  for (;;) {
    const auto other = random_array<wire::Nonce>();
    const auto marks = dials_ ? marks_by(*secret_, other, accept_.nonce) : marks_by(*secret_, claim_.nonce, other);
    if (const auto mark = marks.mark(side(), offset, fresh_, answered()); plain(mark)) return mark;
  }
}

bool Play::as_acceptor(Step step) {
  switch (step) {
    case Step::linked: {
      const auto answer = wire::decode_answer(line().received);
      return answer && agree(answer->key);
    }
    case Step::keyed: {
      say(key());
      const auto came = await<wire::Key>();
      return came && is_proven(*came);
    }
    case Step::claimed: return say(claim()), true;
    case Step::accepted: {
      const auto accept = await<wire::Accept>();
      if (!accept) return false;
      note(accept->from, accept->ring), peer_offset = accept->offset;
      accept_ = *accept;
      marks_ = marks_by(*secret_, claim_.nonce, accept_.nonce);
      return true;
    }
    case Step::confirmed: return say(wire::Confirm{peer_slot, offset = tcp.sent()}), true;
    case Step::answered: return await_token() && (tcp.send(own_mark()), true);
    case Step::lane: {
      const auto came = await<wire::Witness>();
      return came && came->to == kOwnSlot && came->code == witness();
    }
  }
  return false;
}

bool Play::as_connector(Step step) {
  switch (step) {
    case Step::linked: {
      const auto came = await<wire::Key>();
      if (came) shown = *came;
      return came && agree(came->key) && is_proven(*came);
    }
    case Step::keyed: return say(key()), true;
    case Step::claimed: {
      const auto claim = await<wire::Claim>();
      if (claim) note(claim->from, claim->ring), claim_ = *claim;
      return claim.has_value();
    }
    case Step::accepted: return say(accept()), true;
    case Step::confirmed: {
      const auto confirm = await<wire::Confirm>();
      if (confirm) peer_offset = confirm->offset;
      return confirm.has_value();
    }
    case Step::answered: return tcp.send(own_mark()), await_token();
    case Step::lane: return say(wire::Witness{peer_slot, witness()}), true;
  }
  return false;
}

bool Play::await_token() {
  const auto whole = peer_offset + wire::kMarkSize;
  const auto got = tcp.receive([&](const auto&) { return tcp.got() >= whole; }, kPatience);
  if (tcp.got() != whole || got.size() < wire::kMarkSize) return false;
  std::copy(got.end() - wire::kMarkSize, got.end(), peer_mark_.begin());
  return marks_->judge(peer_mark_, other_side(), peer_offset, dials_ ? keys::Fresh{} : fresh_) == keys::Seen::token;
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
    case RDMA_CM_EVENT_ESTABLISHED: {
      of->state = Line::State::up;
      const auto& with = event.param.conn;
      const auto* bytes = static_cast<const uint8_t*>(with.private_data);
      if (bytes) of->received.assign(bytes, bytes + with.private_data_len);
      break;
    }
    case RDMA_CM_EVENT_DISCONNECTED: of->state = Line::State::lost; break;
    case RDMA_CM_EVENT_TIMEWAIT_EXIT: break;
    // A victim that has had enough before it heard that the link is up refuses it still.
    default: of->state = of->state == Line::State::up ? Line::State::lost : Line::State::refused;
  }
}

}  // namespace hostile
