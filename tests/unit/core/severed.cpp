// Two flows over a link that dies at one end, of which the other hears by the first one's word alone: what one program sent is what the
// other reads. The link is in memory, and delivers when it is told to; the TCP connection and all else are the library's own.

#include <catch2/catch.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "core/engine/engine.hpp"

using namespace rsock;
using namespace rsock::engine;

namespace {

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

// An engine, as a process has one: it is never destroyed, since its thread goes on. Under the locks of both: posts go to the other end.
struct End {
  Engine& engine = *new Engine({});
  Wire* wire = new Wire;
  Link* link = nullptr;
  std::shared_ptr<Flow> flow;

  std::string read() {
    std::string bytes(100, 0);
    const iovec to{bytes.data(), bytes.size()};
    const auto got = flow->read({&to, 1}, false);
    if (!got) return got.is(EAGAIN) ? "nothing yet" : "error";
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
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_storage name{};
    socklen_t size = sizeof name;
    REQUIRE(listen(listener, 1) == 0);
    REQUIRE(getsockname(listener, reinterpret_cast<sockaddr*>(&name), &size) == 0);
    const int one = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(connect(one, reinterpret_cast<sockaddr*>(&name), size) == 0);
    const int other = accept(listener, nullptr, nullptr);
    REQUIRE(close(listener) == 0);
    acceptor.wire->peer = connector.wire, connector.wire->peer = acceptor.wire;
    join(acceptor, Role::acceptor, other, connector.engine);
    join(connector, Role::connector, one, acceptor.engine);
    connector.engine.add_connector(*connector.flow);
    with_both([&] { return acceptor.flow->claim(*acceptor.link), true; });
    REQUIRE(eventually([&] { return acceptor.flow->stage() == Stage::lane && connector.flow->stage() == Stage::lane; }));
  }

  static void join(End& end, Role role, int fd, const Engine& peer) {
    Endpoint local, remote;
    sockaddr_storage name{};
    socklen_t size = sizeof name;
    REQUIRE(getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) == 0);
    REQUIRE(parse(reinterpret_cast<sockaddr&>(name), local));
    REQUIRE(getpeername(fd, reinterpret_cast<sockaddr*>(&name), &size) == 0);
    REQUIRE(parse(reinterpret_cast<sockaddr&>(name), remote));
    REQUIRE(end.engine.start_service());
    const std::lock_guard guard(end.engine.lock);
    end.flow = end.engine.make_flow(role, fd);
    end.flow->set_endpoints(local, remote);
    end.flow->select({.rdma = true, .shm = false});
    wire::Greeting greeting;
    greeting.engine = peer.identity;
    greeting.receives = kReceives;
    end.link = &end.engine.add_link(std::unique_ptr<Wire>(end.wire), remote.address, greeting);
    end.link->set_ready();
    REQUIRE(end.link->bind(*end.engine.make_flow(role, fd)));  // the service buries a link without flows, and knows none of this kind
  }

  bool with_both(const std::function<bool()>& act) {
    const std::scoped_lock both(acceptor.engine.lock, connector.engine.lock);
    return act();
  }
  bool eventually(std::function<bool()> condition) {
    for (const auto deadline = now() + kPatience; now() < deadline; std::this_thread::sleep_for(milliseconds(1)))
      if (with_both([&] {
            while (acceptor.wire->deliver() || connector.wire->deliver()) {
            }
            return condition();
          }))
        return true;
    return false;
  }
};

// Either end writes.
template <class Case>
void for_each_writer(Case run) {
  for (const bool first : {true, false}) {
    auto& ends = *new Ends;
    first ? run(ends, ends.acceptor, ends.connector) : run(ends, ends.connector, ends.acceptor);
  }
}

}  // namespace

TEST_CASE("what was sent before the end of a stream comes before it, where the link fails at the reader's end alone", "[severed]") {
  for_each_writer([](Ends& ends, End& writer, End& reader) {
    ends.with_both([&] {
      writer.write("last");
      CHECK(writer.flow->shutdown(SHUT_WR));
      reader.link->fail(Reason::link_failed);
      return true;
    });
    std::string got;
    CHECK(ends.eventually([&] { return (got = reader.read()) != "nothing yet"; }));
    CHECK(got == "last");
    CHECK(ends.eventually([&] { return (got = reader.read()) != "nothing yet"; }));
    CHECK(got == "");
  });
}

TEST_CASE("the same, where it fails at the writer's end alone", "[severed]") {
  for_each_writer([](Ends& ends, End& writer, End& reader) {
    ends.with_both([&] {
      writer.write("last");
      CHECK(writer.flow->shutdown(SHUT_WR));
      writer.link->fail(Reason::link_failed);
      reader.wire->arrived.clear();
      return true;
    });
    std::string got;
    CHECK(ends.eventually([&] { return (got = reader.read()) != "nothing yet"; }));
    CHECK(got == "last");
    CHECK(ends.eventually([&] { return (got = reader.read()) != "nothing yet"; }));
    CHECK(got == "");
  });
}
