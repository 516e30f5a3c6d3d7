// Two flows over a link that dies at one end, of which the other hears by the first one's word alone: what one program sent is what the
// other reads. The link is in memory, and delivers when it is told to; the TCP connection and all else are the library's own.

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>

#include "core/engine/engine.hpp"

using namespace rsock;
using namespace rsock::engine;

namespace {

const std::string kNothing = "nothing yet";
constexpr uint32_t kReceives = 128;
constexpr auto kPatience = std::chrono::seconds(10);

// One end of the link. What the peer posts waits in `arrived`.
class Wire final : public fabric::Connection {
 public:
  void attach(fabric::Sink& sink) override { sink_ = &sink; }
  void detach() override { sink_ = nullptr; }
  bool post_write(const flow::TxRing::Write& write, uint32_t immediate, bool) override {
    std::memcpy(reinterpret_cast<std::byte*>(write.remote), write.local, write.length);
    peer->arrived.push_back([=](fabric::Sink& sink) { sink.data_landed(immediate, write.length); });
    return true;
  }
  bool post_message(std::span<const uint8_t> bytes, bool) override {
    peer->arrived.push_back([copy = std::vector(bytes.begin(), bytes.end())](fabric::Sink& sink) { sink.message_landed(copy); });
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
  bool completes_at_once() const override { return true; }
  uint32_t send_depth() const override { return kReceives; }
  uint32_t receive_depth() const override { return kReceives; }
  uint32_t largest_write() const override { return 1 << 20; }
  Lane lane() const override { return Lane::rdma; }

  // False if nothing had arrived.
  bool deliver() {
    if (arrived.empty()) return false;
    const auto next = std::move(arrived.front());
    arrived.pop_front();
    if (sink_) next(*sink_);
    return true;
  }

  Wire* peer = nullptr;
  std::deque<std::function<void(fabric::Sink&)>> arrived;

 private:
  fabric::Sink* sink_ = nullptr;
  std::vector<std::unique_ptr<std::byte[]>> memory_;
};

Settings small() {
  Settings settings;
  settings.ring_max = 64 << 10;
  settings.dial = milliseconds(100);
  return settings;
}

// An engine, as a process has one: it is never destroyed, since its thread goes on. Under the locks of both: posts go to the other end.
struct End {
  Engine& engine = *new Engine(small());
  Wire* wire = nullptr;
  Link* link = nullptr;
  std::vector<Wire*> wires;  // of all links so far, which the engine keeps
  std::shared_ptr<Flow> flow;

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

  Ends() {
    REQUIRE(acceptor.engine.start_service());
    REQUIRE(connector.engine.start_service());
  }

  // A connection, in its lane.
  void meet() {
    connect();
    enter();
    REQUIRE(eventually([&] { return acceptor.flow->stage() == Stage::lane && connector.flow->stage() == Stage::lane; }));
  }

  void connect() {
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_storage name{};
    socklen_t size = sizeof name;
    REQUIRE(listen(listener, 1) == 0);
    REQUIRE(getsockname(listener, reinterpret_cast<sockaddr*>(&name), &size) == 0);
    const int one = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(::connect(one, reinterpret_cast<sockaddr*>(&name), size) == 0);
    const int other = accept(listener, nullptr, nullptr);
    REQUIRE(close(listener) == 0);
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
      link(acceptor, connector.engine);
      link(connector, acceptor.engine);
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

  static void link(End& end, const Engine& peer) {
    wire::Greeting greeting;
    greeting.engine = peer.identity;
    greeting.receives = kReceives;
    end.link = &end.engine.add_link(std::unique_ptr<Wire>(end.wire), end.flow->remote().address, greeting);
    end.link->set_ready();
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
  bool eventually(std::function<bool()> condition) {
    for (const auto deadline = now() + kPatience; now() < deadline; std::this_thread::sleep_for(milliseconds(1)))
      if (with_both([&] {
            while (deliver(acceptor) || deliver(connector)) {
            }
            return condition();
          }))
        return true;
    return false;
  }
};

// Either end says its last, ends its stream, and `fail` comes then, before any of that has arrived: the other reads it all the same.
template <class Fail>
void last_is_read(Fail fail) {
  for (const bool first : {true, false}) {
    auto& ends = *new Ends;
    ends.meet();
    auto& writer = first ? ends.acceptor : ends.connector;
    auto& reader = first ? ends.connector : ends.acceptor;
    ends.with_both([&] {
      writer.write("last");
      CHECK(writer.flow->shutdown(SHUT_WR));
      fail(writer, reader);
      return true;
    });
    for (const std::string expected : {"last", ""}) {
      std::string got;
      CHECK(ends.eventually([&] { return (got = reader.read()) != kNothing; }));
      CHECK(got == expected);
    }
  }
}

}  // namespace

TEST_CASE("what was sent before the end of a stream comes before it, where the link fails at the reader's end alone", "[severed]") {
  last_is_read([](End&, End& reader) { reader.link->fail(Reason::link_failed); });
}

TEST_CASE("the same, where it fails at the writer's end alone", "[severed]") {
  last_is_read([](End& writer, End& reader) {
    writer.link->fail(Reason::link_failed);
    reader.wire->arrived.clear();
  });
}

// The acceptor's token is on TCP, behind bytes that went there before; its ring has more; and then it closes. The link is faster than
// the connector's look at TCP.
TEST_CASE("to write to a peer that closed loses nothing of what it had sent", "[severed]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  ends.with_both([&] { return acceptor.write("by TCP, "), true; });
  ends.enter([&] {
    CHECK(Ends::deliver(connector));  // CLAIM
    CHECK(Ends::deliver(acceptor));   // ACCEPT
    CHECK(Ends::deliver(connector));  // CONFIRM
    acceptor.write("by the ring");
    CHECK(Ends::deliver(connector));
    connector.flow->look_further();
    CHECK(connector.flow->state() == flow::State::shown);
    CHECK(acceptor.read() == kNothing);  // but the connector's token
    CHECK(acceptor.flow->state() == flow::State::lane);
    acceptor.flow->close(false);
    while (Ends::deliver(connector)) {
    }
    CHECK(connector.flow->state() == flow::State::shown);
    CHECK(connector.flow->over());
    connector.write("too late");
    CHECK(connector.read() == "by TCP, by the ring");
    CHECK(connector.read() == "");
  });
}

// Either end has bytes unread that came by TCP, when it learns that all that follows comes by the lane.
TEST_CASE("what is unread in front of the lane stays the kernel's as long as nobody waits for more", "[severed]") {
  for (const bool first : {true, false}) {
    auto& ends = *new Ends;
    ends.connect();
    auto& writer = first ? ends.acceptor : ends.connector;
    auto& reader = first ? ends.connector : ends.acceptor;
    ends.with_both([&] { return writer.write("unread"), true; });
    ends.enter([&] {
      while (Ends::deliver(ends.connector) || Ends::deliver(ends.acceptor)) {
      }
      CHECK(reader.flow->state() == (first ? flow::State::accepted : flow::State::claimed));
      reader.flow->leave(Reason::shared);
      CHECK(reader.flow->on_kernel());
    });
    CHECK(ends.with_both([&] { return reader.read() == "unread"; }));
  }
}

// The connector says nothing by which the acceptor, which gave up first, could see that the other did so, too.
TEST_CASE("who has given up hears that its silent peer has as well", "[severed]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  ends.with_both([&] { return acceptor.write("unread"), true; });
  ends.enter([&] {
    CHECK(Ends::deliver(connector));  // CLAIM
    CHECK(Ends::deliver(acceptor));   // ACCEPT
    acceptor.flow->step_aside();
    CHECK(acceptor.flow->state() == flow::State::yielded);
    while (Ends::deliver(connector) || Ends::deliver(acceptor)) {
    }
    CHECK(connector.flow->on_kernel());
    CHECK(acceptor.flow->on_kernel());
  });
}

// The connector gives up its cutover, for urgent data, while the acceptor waits for its token.
TEST_CASE("urgent data in the place of a token is not stepped over", "[severed]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  ends.enter([&] {
    CHECK(Ends::deliver(connector));  // CLAIM
    CHECK(Ends::deliver(acceptor));   // ACCEPT
    CHECK(acceptor.flow->state() == flow::State::confirmed);
    connector.flow->leave(Reason::unserved_call);
    CHECK(connector.flow->on_kernel());
    CHECK(send(connector.flow->shadow(), "u", 1, MSG_OOB) == 1);
  });
  CHECK(ends.eventually([&] { return acceptor.flow->on_kernel(); }));
  char urgent = 0;
  CHECK(ends.with_both([&] { return recv(acceptor.flow->shadow(), &urgent, 1, MSG_OOB) == 1; }));
  CHECK(urgent == 'u');
}

namespace {

// What one program has sent and the other read.
struct Stream {
  End& writer;
  End& reader;
  std::string sent{};
  size_t got = 0;
  bool shut = false, over = false;

  void write(size_t size) {
    if (shut) return;
    std::string bytes(size, 0);
    for (auto& byte : bytes) byte = static_cast<char>(random());
    const iovec from{bytes.data(), bytes.size()};
    if (const auto taken = writer.flow->write({&from, 1}, 0)) sent.append(bytes, 0, *taken);
  }
  void shutdown() {
    if (!std::exchange(shut, true)) CHECK(writer.flow->shutdown(SHUT_WR));
  }
  void read(size_t most) {
    if (over) return;
    const auto bytes = reader.read(most);
    if (bytes == kNothing) return;
    over = bytes.empty() || bytes.starts_with("error");
    CHECK(sent.substr(std::min(got, sent.size()), bytes.size()) == bytes);
    got += bytes.size();
  }
};

}  // namespace

// Bytes go both ways; links fail at either end, sooner or later at the other, with messages on the way that arrive or do not; the flows
// enter again; each end says at some time that it has said all.
TEST_CASE("whatever fails when, each end reads what the other sent, and then its end", "[severed]") {
  constexpr int kRounds = 200, kSteps = 150, kMostFailures = 6;
  auto& ends = *new Ends;
  std::mt19937 dice(1);
  const auto any = [&](size_t below) { return dice() % below; };
  size_t entered = 0;
  for (int round = 0; round < kRounds; ++round) {
    CAPTURE(round);
    ends.meet();
    std::array<Stream, 2> streams{Stream{ends.acceptor, ends.connector}, Stream{ends.connector, ends.acceptor}};
    std::array<End*, 2> both{&ends.acceptor, &ends.connector};
    const auto ending = any(kSteps);
    auto* mute = round % 3 == 0 ? &streams[any(2)] : nullptr;  // says nothing, and ends only when the other has
    for (size_t step = 0, failures = 0; step < kSteps; ++step) {
      auto& stream = streams[any(2)];
      auto& end = *both[any(2)];
      bool enters = false;
      ends.with_both([&] {
        switch (any(8)) {
          case 0:
          case 1: if (&stream != mute) stream.write(1 + any(3000)); break;
          case 2:
          case 3: stream.read(1 + any(3000)); break;
          case 4:
          case 5: for (auto messages = any(8); messages > 0 && Ends::deliver(end); --messages) {} break;
          case 6:
            if (any(4) == 0 && end.link->alive() && failures++ < kMostFailures) {
              end.link->fail(Reason::link_failed);
            }
            enters = std::none_of(both.begin(), both.end(), [](auto* it) { return it->link->alive() || !it->flow->eligible(); });
            break;
          case 7: if (step > ending && &stream != mute) stream.shutdown(); break;
        }
        return true;
      });
      if (enters) ends.enter(), ++entered;
      if (any(4) == 0) std::this_thread::sleep_for(microseconds(50));
    }
    REQUIRE(ends.eventually([&] {
      for (auto& stream : streams) {
        if (&stream != mute || streams[mute == &streams[0]].over) stream.shutdown();
        stream.read(5000);
      }
      return streams[0].over && streams[1].over;
    }));
    for (const auto& stream : streams) CHECK(stream.got == stream.sent.size());
    ends.with_both([&] {
      for (auto* end : both) {
        end->flow->close(false);
        for (const auto& link : end->engine.links()) link->fail(Reason::link_failed);
        end->wires.clear();
      }
      return true;
    });
  }
  CHECK(entered > kRounds / 2);
}
