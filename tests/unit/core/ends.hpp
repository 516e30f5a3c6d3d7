#pragma once
// The two ends of a connection, each with an engine of its own, and links between them that are in memory and deliver
// when they are told to; the TCP connection and all else are the library's own.

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/engine/engine.hpp"

namespace rsock::engine {

inline const std::string kNothing = "nothing yet";
inline constexpr uint32_t kReceives = 128;
inline constexpr auto kPatience = std::chrono::seconds(10);

// One end of the link. What the peer posts waits in `arrived`.
class Wire final : public fabric::Connection {
 public:
  void attach(fabric::Sink& sink) override { sink_ = &sink; }
  void detach() override { sink_ = nullptr; }
  bool post_write(const flow::TxRing::Write& write, uint32_t immediate, bool) override {
    std::memcpy(reinterpret_cast<std::byte*>(write.remote), write.local, write.length);
    data += write.length;
    peer->arrived.push_back([=](fabric::Sink& sink) { sink.data_landed(immediate, write.length); });
    return true;
  }
  bool post_message(std::span<const uint8_t> bytes, bool) override {
    if (const auto message = wire::decode_message(bytes))
      if (const auto* pieces = std::get_if<wire::Pieces>(&message->body)) data += pieces->packed.size();
    peer->arrived.push_back(
        [copy = std::vector(bytes.begin(), bytes.end())](fabric::Sink& sink) { sink.message_landed(copy); });
    return true;
  }
  bool post_probe(bool) override { return true; }
  Result<flow::Block> allocate(uint32_t size) override {
    memory_.push_back(std::make_unique<std::byte[]>(size));
    return flow::Block{.base = memory_.back().get(), .size = size};
  }
  void release(flow::Block) override {}
  Result<flow::Block> mirror(const wire::RingPlace& place) override { return allocate(place.size); }
  void release_mirror(flow::Block) override {}
  bool completes_at_once() const override { return at_once; }
  uint32_t send_depth() const override { return kReceives; }
  uint32_t receive_depth() const override { return kReceives; }
  uint32_t largest_write() const override { return 1 << 20; }
  Lane lane() const override { return medium; }
  std::array<uint32_t, 2> numbers() const override { return {number, peer->number}; }

  // False if nothing had arrived.
  bool deliver() {
    if (arrived.empty()) return false;
    take()();
    return true;
  }
  // What has arrived first, to be handled by whoever has taken it.
  std::function<void()> take() {
    auto next = std::move(arrived.front());
    arrived.pop_front();
    return [this, next] {
      if (sink_) next(*sink_);
    };
  }

  Wire* peer = nullptr;
  uint32_t number = next_number();
  Lane medium = Lane::rdma;
  uint64_t data = 0;  // that was posted of programs' bytes, in writes or messages
  bool at_once = true;
  std::deque<std::function<void(fabric::Sink&)>> arrived;

 private:
  static uint32_t next_number() {
    static uint32_t last = 0;
    return ++last;
  }

  fabric::Sink* sink_ = nullptr;
  std::vector<std::unique_ptr<std::byte[]>> memory_;
};

// A TCP connection of this host: the connecting end, and the accepted one. `buffers`: SO_SNDBUF and SO_RCVBUF of both.
inline std::array<int, 2> tcp_connection(int buffers = 0) {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  REQUIRE(listen(listener, 1) == 0);
  REQUIRE(getsockname(listener, reinterpret_cast<sockaddr*>(&name), &size) == 0);
  const int one = socket(AF_INET, SOCK_STREAM, 0);
  for (const int fd : {listener, one})
    for (const int which : {SO_SNDBUF, SO_RCVBUF})
      if (buffers > 0) REQUIRE(setsockopt(fd, SOL_SOCKET, which, &buffers, sizeof buffers) == 0);
  REQUIRE(::connect(one, reinterpret_cast<sockaddr*>(&name), size) == 0);
  const int other = accept(listener, nullptr, nullptr);
  REQUIRE(other >= 0);
  REQUIRE(close(listener) == 0);
  return {one, other};
}

inline Settings small() {
  Settings settings;
  settings.ring_max = 64 << 10;
  settings.dial = milliseconds(100);
  return settings;
}

// An engine, as a process has one: it is never destroyed, since its thread goes on. Under the locks of both: posts go
// to the other end.
struct End {
  explicit End(const Settings& settings) : engine(*new Engine(settings)) {}
  explicit End(Engine& of) : engine(of) {}

  Engine& engine;
  Wire* wire = nullptr;
  Link* link = nullptr;
  std::vector<Wire*> wires;  // of all links so far, which the engine keeps
  std::shared_ptr<Flow> flow;
  bool at_once = true;  // what it posts is complete, and nothing gathers

  std::string read(size_t most = 100) {
    std::string bytes(most, 0);
    const iovec to{bytes.data(), bytes.size()};
    const auto got = flow->read({&to, 1}, false);
    if (!got) return got.is(EAGAIN) ? kNothing : "error " + std::to_string(got.error());
    bytes.resize(*got);
    return bytes;
  }
  void write(std::string bytes) {
    const iovec from{bytes.data(), bytes.size()};
    const auto taken = flow->write({&from, 1}, 0);
    REQUIRE(taken);
    REQUIRE(*taken == bytes.size());
  }
};

struct Ends {
  End acceptor, connector;

  explicit Ends(const Settings& acceptors = small(), const Settings& connectors = small())
      : acceptor(acceptors), connector(connectors) {
    REQUIRE(acceptor.engine.start_service());
    REQUIRE(connector.engine.start_service());
  }

  // A connection, in its lane.
  void meet() {
    connect();
    enter();
    REQUIRE(
        eventually([&] { return acceptor.flow->stage() == Stage::lane && connector.flow->stage() == Stage::lane; }));
  }

  void connect(int buffers = 0) {
    const auto connection = tcp_connection(buffers);
    const int one = connection[0], other = connection[1];
    with_both([&] {
      join(acceptor, Role::acceptor, other);
      join(connector, Role::connector, one);
      connector.engine.add_connector(*connector.flow);
      return true;
    });
  }

  // Over a new link. `then`: at once, with nothing of the cutover delivered.
  void enter(const std::function<void()>& then = [] {}) {
    with_both([&] {
      acceptor.wire = new Wire, connector.wire = new Wire;  // the links'
      acceptor.wire->peer = connector.wire, connector.wire->peer = acceptor.wire;
      acceptor.wire->at_once = acceptor.at_once, connector.wire->at_once = connector.at_once;
      link();
      acceptor.flow->claim(*acceptor.link);
      then();
      return true;
    });
  }

  static void join(End& end, Role role, int fd) {
    Endpoint local, remote;
    sockaddr_storage name{};
    socklen_t size = sizeof name;
    REQUIRE(getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) == 0);
    REQUIRE(parse(reinterpret_cast<sockaddr&>(name), local));
    REQUIRE(getpeername(fd, reinterpret_cast<sockaddr*>(&name), &size) == 0);
    REQUIRE(parse(reinterpret_cast<sockaddr&>(name), remote));
    REQUIRE(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    end.flow = end.engine.make_flow(role, fd);
    end.flow->set_endpoints(local, remote);
    end.flow->select({.rdma = true, .shm = false});
  }

  // The acceptor dials, and each end says its key.
  void link() {
    link(acceptor, connector.engine, true);
    link(connector, acceptor.engine, false);
    acceptor.link->set_ready();
    REQUIRE(connector.wire->deliver());
    REQUIRE(acceptor.wire->deliver());
    REQUIRE(acceptor.link->ready());
    REQUIRE(connector.link->ready());
  }

  static void link(End& end, Engine& peer, bool dials) {
    REQUIRE(peer.has_keys());
    wire::Greeting greeting;
    greeting.engine = peer.identity;
    greeting.receives = kReceives;
    if (dials) greeting.key = peer.keys().own();
    link(end, greeting, dials);
  }

  static void link(End& end, const wire::Greeting& greeting, bool dials) {
    REQUIRE(end.engine.has_keys());
    end.link = &end.engine.add_link(std::unique_ptr<Wire>(end.wire), end.flow->remote().address, greeting, dials);
    end.wires.push_back(end.wire);
    // The service buries a link without flows, and knows none of this kind.
    REQUIRE(end.link->bind(*end.engine.make_flow(Role::acceptor, -1)));
  }

  bool with_both(const std::function<bool()>& act) {
    const std::scoped_lock both(acceptor.engine.lock, connector.engine.lock);
    return act();
  }
  static bool deliver(End& end) {
    return std::any_of(end.wires.begin(), end.wires.end(), [](auto* wire) { return wire->deliver(); });
  }
  void deliver_all() {
    while (deliver(acceptor) || deliver(connector)) {
    }
  }
  bool eventually(std::function<bool()> condition) {
    for (const auto deadline = now() + kPatience; now() < deadline; std::this_thread::sleep_for(milliseconds(1)))
      if (with_both([&] {
            deliver_all();
            return condition();
          }))
        return true;
    return false;
  }
};

// All that has arrived there.
inline void deliver_to(End& end) {
  while (Ends::deliver(end)) {
  }
}

// All that there is.
inline std::string read_all(End& end) {
  std::string all;
  for (;;) {
    const auto more = end.read();
    if (more == kNothing || more.empty()) return all;
    all += more;
    if (more.starts_with("error")) return all;
  }
}

// Bytes that the kernel holds for it.
inline int on_tcp(End& end) {
  int unread = 0;
  REQUIRE(ioctl(end.flow->shadow(), FIONREAD, &unread) == 0);
  return unread;
}

// The other end of a link, played by the test. All that it hears is kept.
class Stranger final : public fabric::Sink {
 public:
  explicit Stranger(keys::End end) : end_(end) {}

  // Makes the link `of` that end, which `dials` or was dialled.
  void meet(End& of) {
    of.wire = new Wire, wire = new Wire;
    of.wire->peer = wire, wire->peer = of.wire;
    wire->attach(*this);
    wire::Greeting greeting{.engine = 7, .receives = kReceives};
    if (end_ == keys::End::dialled) greeting.key = pair.own();
    Ends::link(of, greeting, end_ == keys::End::dialled);
    peer_ = of.engine.keys().own();
  }
  keys::LinkKey secret(const keys::Preshared* preshared = nullptr) const {
    return *keys::LinkKey::agree(pair, peer_, end_, wire->numbers(), preshared);
  }
  wire::Key key(const keys::Preshared* preshared = nullptr) const {
    return {pair.own(), secret(preshared).proof(end_)};
  }
  // Says it, and it has arrived.
  void say(const wire::Body& body) {
    wire->post_message(wire::encode({0, body}).span(), false);
    wire->peer->deliver();
  }
  // Whether the last thing said there was its key, rightly proven.
  bool heard_key(const keys::Preshared* preshared = nullptr) {
    hear();
    const auto* key = heard.empty() ? nullptr : std::get_if<wire::Key>(&heard.back());
    const auto other = end_ == keys::End::dialler ? keys::End::dialled : keys::End::dialler;
    return key && key->key == peer_ && secret(preshared).proves(other, key->proof);
  }
  // All that has been said to it.
  size_t hear() {
    while (wire->deliver()) {
    }
    return heard.size();
  }

  void data_landed(uint32_t, uint32_t length) override { data += length; }
  void message_landed(std::span<const uint8_t> bytes) override {
    const auto message = wire::decode_message(bytes);
    REQUIRE(message);
    if (const auto* pieces = std::get_if<wire::Pieces>(&message->body))
      data += pieces->packed.size();
    else
      heard.push_back(message->body);
  }
  void sends_completed(uint32_t) override {}
  void connection_failed() override {}

  Wire* wire = nullptr;
  std::vector<wire::Body> heard;
  size_t data = 0;
  const keys::KeyPair pair = std::move(*keys::KeyPair::make());

 private:
  const keys::End end_;
  keys::PublicKey peer_{};
};

}  // namespace rsock::engine
