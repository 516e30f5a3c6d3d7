#include "tests/programs/hostile/relay.hpp"

#include <unistd.h>

#include <cstdio>

namespace hostile {
namespace {

constexpr wire::Slot kSlotForServer = 11, kSlotForClient = 12;
constexpr auto kTurn = 5ms;
constexpr auto kStart = 50s;  // until the victims have told each other all: machines may be slow
constexpr auto kStay = 10s;   // from then on

// What the halves tell each other: a message of the protocol, as it is on a link, behind its length in a byte.
class Half {
 public:
  explicit Half(int fd) : fd_(fd) {}
  Half(const Half&) = delete;
  ~Half() { ::close(fd_); }

  void say(const wire::Body& body) {
    const auto message = wire::encode({0, body});
    const auto bytes = message.span();
    const auto size = static_cast<uint8_t>(bytes.size());
    if (::send(fd_, &size, 1, MSG_NOSIGNAL | MSG_MORE) != 1) return;
    (void)!::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  // What the other says next, if it has come.
  template <class Body>
  std::optional<Body> take() {
    uint8_t bytes[256];
    if (::recv(fd_, bytes, 1, MSG_DONTWAIT) != 1) return {};
    const size_t size = bytes[0];
    if (::recv(fd_, bytes, size, MSG_WAITALL) != static_cast<ssize_t>(size)) return {};
    const auto message = wire::decode_message({bytes, size});
    const auto* body = message ? std::get_if<Body>(&message->body) : nullptr;
    return body ? std::optional(*body) : std::nullopt;
  }

 private:
  const int fd_;
};

class Relay {
 public:
  Relay(Play& victim, int other_half) : victim_(victim), half_(other_half) {}

  // Attends to the link until `take` gives something; nothing when the time is over.
  template <class Body>
  std::optional<Body> await(const std::function<std::optional<Body>()>& take) {
    std::optional<Body> got;
    while (Clock::now() < end_ && !victim_.until([&] { return (got = take()).has_value(); }, kTurn)) {
    }
    return got;
  }
  template <class Body>
  std::optional<Body> of_victim() {
    return await<Body>([this] { return victim_.line().take<Body>(); });
  }
  template <class Body>
  std::optional<Body> of_half() {
    return await<Body>([this] { return half_.take<Body>(); });
  }
  // The victim's word, for the other half to say.
  template <class Body>
  void hand_on(const Body& body, const char* name) {
    half_.say(body);
    std::printf("handed on %s\n", name);
  }
  void tell_linked() { half_.say(wire::Blocked{kSlotForServer}); }
  // And whatever comes into the ring. The exit status.
  int tell(const char* victim) {
    (void)victim_.until([this] { return victim_.line().take<wire::Retire>() && false; }, kStay);
    std::printf("read %zu bytes of the %s, link %s\n", victim_.line().landed(), victim, victim_.fate());
    return 0;
  }

 private:
  Play& victim_;
  Half half_;
  const Clock::time_point end_ = Clock::now() + kStart;
};

}  // namespace

int relay_to_server(Play& server, int other_half) {
  if (!server.reach(Step::keyed)) return std::puts("no link"), 1;
  std::puts("linked");
  Relay relay(server, other_half);
  relay.tell_linked();
  auto claim = relay.of_victim<wire::Claim>();
  while (claim && claim->connector == server.tcp.local()) {  // that connection is another matter
    server.say(wire::Decline{claim->from, wire::DeclineCause::unwilling});
    claim = relay.of_victim<wire::Claim>();
  }
  if (claim) relay.hand_on(*claim, "CLAIM");
  if (const auto accept = relay.of_half<wire::Accept>(); claim && accept)
    server.say(wire::Accept{claim->from, kSlotForServer, server.line().ring(), accept->nonce, accept->offset});
  if (const auto confirm = relay.of_victim<wire::Confirm>()) relay.hand_on(*confirm, "CONFIRM");
  return relay.tell("server");
}

int relay_to_client(Play& client, int other_half) {
  if (!client.reach(Step::keyed)) return std::puts("no link"), 1;
  std::puts("linked");
  Relay relay(client, other_half);
  if (!relay.of_half<wire::Blocked>()) return std::puts("no other half"), 1;
  client.tcp.send(std::string_view("!"));
  if (const auto claim = relay.of_half<wire::Claim>())
    client.say(wire::Claim{kSlotForClient, claim->connector, claim->acceptor, client.line().ring(), claim->nonce});
  const auto accept = relay.of_victim<wire::Accept>();
  if (accept) relay.hand_on(*accept, "ACCEPT");
  if (const auto confirm = relay.of_half<wire::Confirm>(); accept && confirm)
    client.say(wire::Confirm{accept->from, confirm->offset});
  return relay.tell("client");
}

}  // namespace hostile
