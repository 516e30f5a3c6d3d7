// A peer that misbehaves, played by hand over RDMA-CM and verbs, for tests of what a live preloaded process makes of it.
//
//   hostile server ADDRESS PORT MISDEED...    a plain TCP server that dials the preloaded client which connects to it
//   hostile client ADDRESS PORT MISDEED...    a plain TCP client that lets the preloaded server dial it
//   hostile server|client list
//
// One misdeed after the other, each on a connection of its own. Each prints
//
//   NAME: link refused|never|kept|lost, tcp works|over|silent, N dials
//
// `tcp works`: a PING on the connection was answered afterwards. After NAME+ the link stays up, if it is, and
// the connection; else both are let go. The program says "done" at the end of the list, and waits for SIGTERM. The other program is a Redis server, or one that sends back whatever
// comes.

#include <arpa/inet.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <netinet/in.h>
#include <poll.h>
#include <rdma/rdma_cma.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/endpoint.hpp"
#include "core/wire/frame.hpp"
#include "core/wire/greeting.hpp"
#include "core/wire/message.hpp"

namespace {

using namespace rsock;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Bytes = std::vector<uint8_t>;

constexpr uint32_t kReceives = 64, kReceiveSize = 8 << 10;
constexpr uint32_t kSends = 512, kStaged = 512;
constexpr uint32_t kRing = 16 << 10;
constexpr uint32_t kBlank = 64 << 10;  // memory to send from, for what has no meaning
constexpr size_t kMemory = kReceives * kReceiveSize + kSends * kStaged + kRing + kBlank;
constexpr wire::Slot kOwnSlot = 7;
constexpr auto kPatience = 5s;       // for what a well-behaved process does
constexpr auto kJudgement = 4s;      // in which a link is lost, or is not

std::mt19937_64 random_numbers{20240229};

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "hostile: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

Bytes random_bytes(size_t size) {
  Bytes bytes(size);
  for (auto& byte : bytes) byte = static_cast<uint8_t>(random_numbers());
  return bytes;
}

template <class Encoded>
Bytes bytes_of(const Encoded& encoded) {
  return {encoded.begin(), encoded.end()};
}

wire::Token random_token() {
  wire::Token token;
  for (auto& byte : token) byte = static_cast<uint8_t>(random_numbers());
  return token;
}

wire::Greeting greeting() { return {wire::kVersion, wire::Verdict::welcome, random_numbers(), kReceives}; }

// The TCP connection; it counts, as the cutover wants it.
class Tcp {
 public:
  explicit Tcp(int fd) : fd_(fd) {}
  Tcp(const Tcp&) = delete;
  ~Tcp() { close(); }

  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  Endpoint end(decltype(getsockname)* of) const {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    Endpoint endpoint;
    if (of(fd_, reinterpret_cast<sockaddr*>(&address), &size) == 0) parse(reinterpret_cast<sockaddr&>(address), endpoint);
    return endpoint;
  }
  Endpoint local() const { return end(getsockname); }
  Endpoint remote() const { return end(getpeername); }

  template <class Encoded>
  void send(const Encoded& bytes) {
    if (::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) sent_ += bytes.size();
  }
  // Whatever comes until `enough`, the end, or the time is up.
  std::string receive(const std::function<bool(const std::string&)>& enough, std::chrono::milliseconds patience) {
    std::string got;
    const auto deadline = Clock::now() + patience;
    while (!enough(got) && Clock::now() < deadline) {
      pollfd wait{fd_, POLLIN, 0};
      if (::poll(&wait, 1, 50) <= 0) continue;
      char piece[4096];
      const auto size = ::recv(fd_, piece, sizeof piece, 0);
      if (size <= 0) {
        over_ = true;
        break;
      }
      got.append(piece, static_cast<size_t>(size));
      got_ += static_cast<uint64_t>(size);
    }
    return got;
  }
  const char* probe() {
    if (fd_ < 0) return "over";
    const std::string words(57, 'x');
    send("PING " + words + "\r\n");
    const auto answer = receive([&](const auto& got) { return got.find(words) != got.npos; }, kPatience);
    return answer.find(words) != answer.npos ? "works" : over_ ? "over" : "silent";
  }
  uint64_t sent() const { return sent_; }
  uint64_t got() const { return got_; }

 private:
  int fd_;
  uint64_t sent_ = 0, got_ = 0;
  bool over_ = false;
};

// One queue pair. Its memory: receives, staged messages, the ring that the victim writes to, and bytes that mean nothing.
class Line {
 public:
  enum class State { pending, refused, up, lost };
  State state = State::pending;
  rdma_cm_id* id = nullptr;
  Bytes privately;  // the private data to be sent

  ~Line() {
    if (!id) return;
    if (id->qp) rdma_disconnect(id), rdma_destroy_qp(id);
    if (region_) ibv_dereg_mr(region_);
    if (completions_) ibv_destroy_cq(completions_);
    rdma_destroy_id(id);
  }

  void prepare() {
    completions_ = ibv_create_cq(id->verbs, kReceives + kSends, nullptr, nullptr, 0);
    if (!completions_) die("ibv_create_cq");
    ibv_qp_init_attr wanted{};
    wanted.send_cq = wanted.recv_cq = completions_;
    wanted.qp_type = IBV_QPT_RC;
    wanted.cap = {kSends, kReceives, 1, 1, 0};
    if (rdma_create_qp(id, nullptr, &wanted) != 0) die("rdma_create_qp");
    region_ = ibv_reg_mr(id->pd, memory_.data(), memory_.size(), IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    if (!region_) die("ibv_reg_mr");
    for (uint32_t buffer = 0; buffer < kReceives; ++buffer) post_receive(buffer);
  }
  rdma_conn_param parameters() const {
    rdma_conn_param with{};
    with.private_data = privately.data();
    with.private_data_len = static_cast<uint8_t>(privately.size());
    with.retry_count = with.rnr_retry_count = 7;
    return with;
  }
  wire::RingPlace ring() const { return {address(kReceives * kReceiveSize + kSends * kStaged), region_->rkey, kRing}; }

  // What the victim has sent by now. A completion in error: the link is lost.
  void poll() {
    ibv_wc done;
    while (completions_ && ibv_poll_cq(completions_, 1, &done) > 0) {
      if (done.status != IBV_WC_SUCCESS) {
        if (state == State::up) state = State::lost;
        continue;
      }
      if (!(done.opcode & IBV_WC_RECV)) {
        --outstanding_;
        continue;
      }
      const auto buffer = static_cast<uint32_t>(done.wr_id);
      if (done.opcode == IBV_WC_RECV)
        if (const auto message = wire::decode_message({memory_.data() + buffer * kReceiveSize, done.byte_len}))
          inbox_.push_back(*message);
      post_receive(buffer);
      ++received_;
    }
  }
  template <class Body>
  std::optional<Body> take() {
    for (; !inbox_.empty(); inbox_.pop_front())
      if (const auto* body = std::get_if<Body>(&inbox_.front().body)) {
        const auto found = *body;
        inbox_.pop_front();
        return found;
      }
    return {};
  }

  // `returned`: the true number unless another is wanted.
  void say(const wire::Body& body, std::optional<uint32_t> returned = {}) {
    const auto message = wire::encode({returned.value_or(received_), body});
    raw(message.span());
  }
  void raw(std::span<const uint8_t> bytes) {
    const auto at = kReceives * kReceiveSize + sent_ % kSends * kStaged;
    if (!bytes.empty()) std::memcpy(memory_.data() + at, bytes.data(), std::min<size_t>(bytes.size(), kStaged));
    ibv_send_wr request{};
    request.opcode = IBV_WR_SEND;
    post(request, address(at), static_cast<uint32_t>(bytes.size()));
  }
  void blank(uint32_t size) {
    ibv_send_wr request{};
    request.opcode = IBV_WR_SEND;
    post(request, address(kMemory - kBlank), size);
  }
  void write(const wire::RingPlace& to, uint32_t size, uint32_t immediate, ibv_wr_opcode how = IBV_WR_RDMA_WRITE_WITH_IMM) {
    ibv_send_wr request{};
    request.opcode = how;
    request.imm_data = htonl(immediate);
    request.wr.rdma = {to.address, to.key};
    post(request, address(kMemory - kBlank), size);
  }

 private:
  uint64_t address(size_t at) const { return reinterpret_cast<uintptr_t>(memory_.data() + at); }
  void post_receive(uint32_t buffer) {
    ibv_sge piece{address(buffer * kReceiveSize), kReceiveSize, region_->lkey};
    ibv_recv_wr request{}, *bad = nullptr;
    request.wr_id = buffer;
    request.sg_list = &piece;
    request.num_sge = 1;
    ibv_post_recv(id->qp, &request, &bad);
  }
  void post(ibv_send_wr& request, uint64_t from, uint32_t size) {
    const auto deadline = Clock::now() + 300ms;
    while (outstanding_ + 1 >= kSends && state == State::up && Clock::now() < deadline) poll();
    ibv_sge piece{from, size, region_->lkey};
    request.sg_list = &piece;
    request.num_sge = 1;
    request.send_flags = IBV_SEND_SIGNALED;
    ibv_send_wr* bad = nullptr;
    if (state == State::up && ibv_post_send(id->qp, &request, &bad) == 0) ++sent_, ++outstanding_;
  }

  Bytes memory_ = Bytes(kMemory);
  ibv_cq* completions_ = nullptr;
  ibv_mr* region_ = nullptr;
  uint32_t sent_ = 0, outstanding_ = 0, received_ = 0;
  std::deque<wire::Message> inbox_;
};

// How far the protocol is kept before it is broken.
enum class Step { linked, claimed, accepted, confirmed, acknowledged, lane };

// One connection, from its TCP handshake to the misdeed.
class Play {
 public:
  Play(int fd, bool dialler) : tcp(fd), dials_(dialler), channel_(rdma_create_event_channel()) {
    if (!channel_) die("rdma_create_event_channel");
    ::fcntl(channel_->fd, F_SETFL, O_NONBLOCK);
    if (dials_) return;
    // The victim uses its end, so that it looks for ours.
    sockaddr_storage address{};
    write(tcp.local(), address);
    if (rdma_create_id(channel_, &listener_, nullptr, RDMA_PS_TCP) != 0 ||
        rdma_bind_addr(listener_, reinterpret_cast<sockaddr*>(&address)) != 0 || rdma_listen(listener_, 64) != 0)
      die("rdma_listen");
    tcp.send(std::string_view("PING\r\n"));
    tcp.receive([](const auto& got) { return got.ends_with("\r\n"); }, kPatience);
  }
  ~Play() {
    for (auto* id : requests_) rdma_destroy_id(id);
    lines_.clear();
    if (listener_) rdma_destroy_id(listener_);
    rdma_destroy_event_channel(channel_);
  }

  Tcp tcp;
  int dials = 0;  // that were made, or came
  wire::Slot peer_slot = 0;
  wire::RingPlace peer_ring;
  uint64_t peer_offset = 0;
  wire::Token shown{}, expected = random_token();
  std::optional<wire::RingPlace> claimed_ring;  // told in place of the true one

  Line& line() { return *lines_.back(); }
  bool linked() const { return !lines_.empty() && lines_.back()->state != Line::State::pending; }
  const char* fate() {
    if (lines_.empty()) return "never";
    until([&] { return line().state == Line::State::lost; }, kJudgement);
    constexpr const char* kFates[] = {"never", "refused", "kept", "lost"};
    return kFates[static_cast<int>(line().state)];
  }

  bool all_answered() const {
    return std::none_of(lines_.begin(), lines_.end(), [](const auto& line) { return line->state == Line::State::pending; });
  }
  // Whether a link is up still.
  bool holds() const {
    return std::any_of(lines_.begin(), lines_.end(), [](const auto& line) { return line->state == Line::State::up; });
  }

  bool until(const std::function<bool()>& condition, std::chrono::milliseconds patience) {
    for (const auto deadline = Clock::now() + patience;;) {
      attend();
      if (condition()) return true;
      if (Clock::now() >= deadline) return false;
      pollfd wait{channel_->fd, POLLIN, 0};
      ::poll(&wait, 1, 2);
    }
  }

  // Begins a dial; behind a whole greeting it says which end of the connection this is.
  Line& dial(Bytes privately) {
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
  // The next dial of the victim.
  rdma_cm_id* request(std::chrono::milliseconds patience = kPatience) {
    if (!until([&] { return !requests_.empty(); }, patience)) return nullptr;
    auto* id = requests_.front();
    requests_.pop_front();
    return id;
  }
  Line& answer(rdma_cm_id* id, Bytes privately) {
    auto& made = *lines_.emplace_back(std::make_unique<Line>());
    made.id = id;
    id->context = &made;
    made.privately = std::move(privately);
    made.prepare();
    auto with = made.parameters();
    if (rdma_accept(id, &with) != 0) made.state = Line::State::refused;
    return made;
  }
  void hang_up() { lines_.pop_back(); }

  // A link, with this private data. Until the victim's point is open, it refuses.
  void link(const Bytes& privately) {
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

  // Keeps the protocol as far as that; false if the victim does not.
  bool reach(Step step) {
    link(bytes_of(wire::encode(greeting())));
    if (lines_.empty() || line().state != Line::State::up) return false;
    for (auto at = Step::linked; at < step;) {
      at = static_cast<Step>(static_cast<int>(at) + 1);
      if (!(dials_ ? as_acceptor(at) : as_connector(at))) return false;
    }
    return true;
  }
  void say(const wire::Body& body, std::optional<uint32_t> returned = {}) { line().say(body, returned); }
  wire::Claim claim() {
    return {kOwnSlot, tcp.remote(), tcp.local(), claimed_ring.value_or(line().ring()), expected};
  }

 private:
  template <class Body>
  std::optional<Body> await() {
    std::optional<Body> got;
    until([&] { return (got = line().take<Body>()) || line().state != Line::State::up; }, kPatience);
    return got;
  }
  bool as_acceptor(Step step) {
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
  bool as_connector(Step step) {
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
  void note(wire::Slot slot, const wire::RingPlace& ring, const wire::Token& token) {
    peer_slot = slot, peer_ring = ring, shown = token;
  }
  bool exchange_tokens() {
    tcp.send(shown);
    const auto whole = peer_offset + wire::kTokenSize;
    tcp.receive([&](const auto&) { return tcp.got() >= whole; }, kPatience);
    return tcp.got() == whole;
  }

  void attend() {
    rdma_cm_event* event = nullptr;
    while (rdma_get_cm_event(channel_, &event) == 0) {
      handle(*event);
      rdma_ack_cm_event(event);
    }
    for (const auto& each : lines_) each->poll();
  }
  void handle(const rdma_cm_event& event) {
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

  const bool dials_;
  rdma_event_channel* channel_;
  rdma_cm_id* listener_ = nullptr;
  std::deque<rdma_cm_id*> requests_;
  std::vector<std::unique_ptr<Line>> lines_;
};

// ---- private data ---------------------------------------------------------------------------------------------------------

struct Privately {
  const char* name;
  Bytes (*bytes)();
};

Bytes changed(void (*change)(wire::Greeting&)) {
  auto told = greeting();
  change(told);
  return bytes_of(wire::encode(told));
}

const Privately kPrivately[] = {
    {"garbage-greeting", [] { return random_bytes(56); }},
    {"no-greeting", [] { return Bytes{}; }},
    {"wrong-magic",
     [] {
       auto bytes = bytes_of(wire::encode(greeting()));
       bytes[0] ^= 1;
       return bytes;
     }},
    {"wrong-version", [] { return changed([](auto& told) { told.version = wire::kVersion + 6; }); }},
    {"unknown-verdict", [] { return changed([](auto& told) { told.verdict = static_cast<wire::Verdict>(9); }); }},
    // The rest of it arrives as zeros.
    {"short-greeting",
     [] {
       auto bytes = bytes_of(wire::encode(greeting()));
       bytes.resize(8);
       return bytes;
     }},
    {"no-receives", [] { return changed([](auto& told) { told.receives = 0; }); }},
    {"endless-receives", [] { return changed([](auto& told) { told.receives = UINT32_MAX; }); }},
    {"long-greeting",  // in order: bytes behind the greeting are ignored
     [] {
       auto bytes = bytes_of(wire::encode(greeting()));
       bytes.resize(56, 0xee);
       return bytes;
     }},
};

// ---- misdeeds -------------------------------------------------------------------------------------------------------------

enum class Who { either, server, client };

struct Misdeed {
  const char* name;
  Who who;
  Step step;
  void (*commit)(Play&);
};

wire::Claim claim_of_nobody(Play& play) {
  auto claim = play.claim();
  claim.connector.port ^= 0x5555;
  return claim;
}

void raw_message(Play& play, const Bytes& bytes) { play.line().raw(bytes); }

// Questions that must be answered, with just enough credits to keep the victim from failing the link for that.
void starve(Play& play, const wire::Body& question) {
  const auto deadline = Clock::now() + 10s;
  for (int i = 0; i < 60000 && play.line().state == Line::State::up && Clock::now() < deadline; ++i) {
    play.until([] { return true; }, 0ms);
    play.say(question, static_cast<uint32_t>(std::max(0, i / 33 - static_cast<int>(kReceives))));
  }
}

const Misdeed kMisdeeds[] = {
    // messages
    {"random-message", Who::either, Step::claimed, [](Play& p) { raw_message(p, random_bytes(48)); }},
    {"empty-message", Who::either, Step::claimed, [](Play& p) { raw_message(p, {}); }},
    {"short-message", Who::either, Step::claimed, [](Play& p) { raw_message(p, {0, 0, 0}); }},
    {"unknown-kind", Who::either, Step::claimed, [](Play& p) { raw_message(p, {200, 0, 0, 0, 0, 0, 0, 0}); }},
    {"long-message", Who::either, Step::claimed, [](Play& p) { p.line().blank(kBlank); }},
    {"slot-of-nobody", Who::either, Step::claimed, [](Play& p) { p.say(wire::Window{12345, 0}); }},
    {"data-for-nobody", Who::either, Step::claimed, [](Play& p) { p.line().write({}, 0, 999); }},
    {"data-of-no-slot", Who::either, Step::claimed, [](Play& p) { p.line().write({}, 0, 0xff000000); }},
    {"unused-credits", Who::either, Step::claimed, [](Play& p) { p.say(wire::Credit{}, 1000); }},
    {"too-many-messages", Who::either, Step::accepted,
     [](Play& p) {
       for (int i = 0; i < 20000 && p.line().state == Line::State::up; ++i) {
         p.until([] { return true; }, 0ms);
         p.say(wire::Credit{}, 0);
       }
     }},
    // CLAIM
    {"claims-of-nobody", Who::either, Step::claimed,
     [](Play& p) {
       for (int i = 0; i < 100; ++i) p.say(claim_of_nobody(p));  // within its credits
     }},
    {"starved-claims", Who::either, Step::accepted, [](Play& p) { starve(p, claim_of_nobody(p)); }},
    {"claimed-twice", Who::server, Step::accepted, [](Play& p) { p.say(p.claim()); }},
    {"ring-of-odd-size", Who::server, Step::linked,
     [](Play& p) {
       auto claim = p.claim();
       claim.ring.size = 3000;
       p.say(claim);
     }},
    {"ring-too-large", Who::server, Step::linked,
     [](Play& p) {
       auto claim = p.claim();
       claim.ring.size = 1 << 26;
       p.say(claim);
     }},
    // the cutover
    {"accepted-twice", Who::client, Step::accepted,
     [](Play& p) { p.say(wire::Accept{p.peer_slot, kOwnSlot, p.line().ring(), p.expected, 0}); }},
    {"acknowledged-unasked", Who::server, Step::accepted, [](Play& p) { p.say(wire::ConfirmAck{p.peer_slot}); }},
    {"acknowledged-early", Who::client, Step::claimed, [](Play& p) { p.say(wire::ConfirmAck{p.peer_slot}); }},
    {"offset-too-large", Who::client, Step::claimed,
     [](Play& p) { p.say(wire::Accept{p.peer_slot, kOwnSlot, p.line().ring(), p.expected, 1ull << 60}); }},
    {"retired-early", Who::client, Step::claimed, [](Play& p) { p.say(wire::Retire{p.peer_slot, false}); }},
    {"ended-early", Who::either, Step::accepted, [](Play& p) { p.say(wire::Fin{p.peer_slot, 0, false}); }},
    {"closed-early", Who::either, Step::accepted, [](Play& p) { p.say(wire::Fin{p.peer_slot, 0, true}); }},
    {"reset-early", Who::either, Step::accepted, [](Play& p) { p.say(wire::Reset{p.peer_slot}); }},
    {"wrong-token", Who::either, Step::acknowledged, [](Play& p) { p.tcp.send(random_bytes(wire::kTokenSize)); }},
    {"half-a-token", Who::either, Step::acknowledged,
     [](Play& p) {
       p.tcp.send(std::span(p.shown).first(8));
       p.tcp.send(random_bytes(8));
     }},
    // in the lane
    {"data-beyond-window", Who::either, Step::lane,
     [](Play& p) { p.line().write(p.peer_ring, 2 * p.peer_ring.size, p.peer_slot); }},
    {"data-elsewhere", Who::either, Step::lane, [](Play& p) { p.line().write({0x1000, p.peer_ring.key, 0}, 64, p.peer_slot); }},
    {"data-by-wrong-key", Who::either, Step::lane,
     [](Play& p) { p.line().write({p.peer_ring.address, ~p.peer_ring.key, 0}, 64, p.peer_slot); }},
    {"read-of-memory", Who::either, Step::lane,
     [](Play& p) { p.line().write(p.peer_ring, 64, 0, IBV_WR_RDMA_READ); }},
    {"window-beyond-posted", Who::either, Step::lane, [](Play& p) { p.say(wire::Window{p.peer_slot, 1ull << 40}); }},
    {"growth-without-end", Who::either, Step::lane,
     [](Play& p) {
       auto ring = p.line().ring();
       for (uint32_t i = 0; i < 8; ++i) ring.size = 4096u << i, p.say(wire::Grow{p.peer_slot, ring});
     }},
    {"growth-of-odd-size", Who::either, Step::lane,
     [](Play& p) { p.say(wire::Grow{p.peer_slot, {p.line().ring().address, 0, 5000}}); }},
    {"switch-to-nothing", Who::either, Step::lane, [](Play& p) { p.say(wire::Switch{p.peer_slot}); }},
    {"starved-windows", Who::either, Step::lane,
     [](Play& p) {
       for (int i = 0; i < 4; ++i) p.line().write(p.peer_ring, 2, p.peer_slot);
       p.until([] { return false; }, 50ms);
       starve(p, wire::Blocked{p.peer_slot});
     }},
    {"ended-twice", Who::either, Step::lane,
     [](Play& p) { p.say(wire::Fin{p.peer_slot, 0, false}), p.say(wire::Fin{p.peer_slot, 0, false}); }},
    {"ended-elsewhere", Who::either, Step::lane, [](Play& p) { p.say(wire::Fin{p.peer_slot, 999, false}); }},
    {"retired-twice", Who::either, Step::lane,
     [](Play& p) { p.say(wire::Retire{p.peer_slot, false}), p.say(wire::Retire{p.peer_slot, false}); }},
    {"garbage-frame", Who::either, Step::lane, [](Play& p) { p.tcp.send(random_bytes(wire::kFrameSize)); }},
    {"resume-beyond", Who::either, Step::lane,
     [](Play& p) { p.tcp.send(wire::encode(p.shown, {wire::FrameKind::resume, 1ull << 50})); }},
    {"resume-elsewhere", Who::either, Step::lane,
     [](Play& p) { p.tcp.send(wire::encode(random_token(), {wire::FrameKind::resume, 0})); }},
    // RETIRE{finished} answers FIN{closed}, which nobody sent: the victim has only ended its stream, and has bytes to read.
    {"retired-half", Who::client, Step::lane,
     [](Play& p) {
       p.until([&] { return p.line().take<wire::Fin>().has_value(); }, kPatience);
       p.line().write(p.peer_ring, 64, p.peer_slot);
       p.say(wire::Retire{p.peer_slot, true});
     }},
};

// Those that end by leaving: the link only, or the connection only; or that say nothing more.
const std::pair<const char*, Step> kSteps[] = {{"linked", Step::linked},       {"claimed", Step::claimed},
                                               {"accepted", Step::accepted},   {"confirmed", Step::confirmed},
                                               {"acknowledged", Step::acknowledged}, {"lane", Step::lane}};

// ---- a victim that dials is led on ----------------------------------------------------------------------------------------

using LeadOn = void (*)(Play&, rdma_cm_id*);

const std::pair<const char*, LeadOn> kLeadOn[] = {
    {"never-answered", [](Play&, rdma_cm_id*) {}},
    {"always-declined",
     [](Play& p, rdma_cm_id* id) { p.answer(id, bytes_of(wire::encode(greeting()))); }},
    {"always-hung-up",
     [](Play& p, rdma_cm_id* id) {
       p.answer(id, bytes_of(wire::encode(greeting())));
       p.until([&] { return p.linked(); }, kPatience);
       p.hang_up();
     }},
    {"always-refused", [](Play&, rdma_cm_id* id) { rdma_reject(id, nullptr, 0), rdma_destroy_id(id); }},
};

// ---- all of them by name --------------------------------------------------------------------------------------------------

constexpr int kManyDials = 50;
constexpr auto kLeading = 2500ms;

struct Act {
  std::string name;
  Who who;
  std::function<void(Play&)> play;
};

std::vector<Act> all_acts() {
  std::vector<Act> acts;
  for (const auto& each : kPrivately)
    acts.push_back({each.name, Who::either, [&each](Play& play) { play.link(each.bytes()); }});
  for (const auto& each : kMisdeeds)
    acts.push_back({each.name, each.who, [&each](Play& play) {
                      if (play.reach(each.step))
                        each.commit(play);
                      else
                        std::printf("%s: not reached\n", each.name);
                    }});
  for (const auto& each : kSteps) {
    const std::string name = each.first;
    const Step step = each.second;
    acts.push_back({"link-leaves-" + name, Who::either, [step](Play& play) {
                      if (play.reach(step)) rdma_disconnect(play.line().id);
                    }});
    acts.push_back({"tcp-leaves-" + name, Who::either, [step](Play& play) {
                      if (play.reach(step)) play.tcp.close();
                    }});
    acts.push_back({"mute-when-" + name, Who::either, [step](Play& play) { play.reach(step); }});
  }
  acts.push_back({"ring-of-nobody", Who::either, [](Play& play) {
                    play.claimed_ring = wire::RingPlace{0x1000, 1, kRing};
                    if (play.reach(Step::accepted)) play.tcp.send(std::string_view("PING\r\n"));
                  }});
  acts.push_back({"many-dials", Who::server, [](Play& play) {
                    play.link(bytes_of(wire::encode(greeting())));
                    for (int i = 1; i < kManyDials; ++i) play.dial(bytes_of(wire::encode(greeting())));
                    play.until([&] { return play.all_answered(); }, kPatience);
                  }});
  for (const auto& each : kLeadOn)
    acts.push_back({each.first, Who::client, [lead = each.second](Play& play) {
                      for (const auto deadline = Clock::now() + kLeading; Clock::now() < deadline;) {
                        if (auto* id = play.request(50ms)) lead(play, id);
                        while (play.linked())
                          if (const auto claim = play.line().take<wire::Claim>())
                            play.say(wire::Decline{claim->from, wire::DeclineCause::unknown_flow});
                          else
                            break;
                      }
                    }});
  return acts;
}

int connection(const sockaddr_in& name, int listener) {
  if (listener >= 0) return ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) die("connect");
  return fd;
}

int listen_at(const sockaddr_in& name) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 || ::listen(fd, 64) != 0) die("listen");
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view role = argc > 1 ? argv[1] : "";
  const bool server = role == "server";
  const auto acts = all_acts();
  const auto fits = [&](const Act& act) { return act.who == Who::either || (act.who == Who::server) == server; };
  if ((server || role == "client") && argc == 3 && std::string_view(argv[2]) == "list") {
    for (const auto& act : acts)
      if (fits(act)) std::puts(act.name.c_str());
    return 0;
  }
  sockaddr_in name{};
  name.sin_family = AF_INET;
  if ((!server && role != "client") || argc < 5 || inet_pton(AF_INET, argv[2], &name.sin_addr) != 1)
    return std::fprintf(stderr, "usage: hostile server|client ADDRESS PORT MISDEED... | server|client list\n"), 2;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[3])));
  ::alarm(240);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  const int listener = server ? listen_at(name) : -1;
  std::puts("ready");

  std::vector<std::unique_ptr<Play>> played;
  for (int i = 4; i < argc; ++i) {
    std::string_view wanted = argv[i];
    const bool held = wanted.ends_with('+');
    wanted = wanted.substr(0, wanted.find('+'));
    const auto act = std::find_if(acts.begin(), acts.end(), [&](const Act& each) { return each.name == wanted; });
    if (act == acts.end() || !fits(*act)) return std::fprintf(stderr, "hostile: no misdeed %s\n", argv[i]), 2;
    const int fd = connection(name, listener);
    if (fd < 0) die("accept");
    auto& play = *played.emplace_back(std::make_unique<Play>(fd, server));
    act->play(play);
    const auto* fate = play.fate();
    const auto* tcp = play.tcp.probe();
    std::printf("%s: link %s, tcp %s, %d dials\n", act->name.c_str(), fate, tcp, play.dials);
    if (!held || !play.holds()) played.pop_back();
  }
  std::puts("done");
  for (;;) ::pause();
}
