// Completions are handled in the order of their queue, also where a handler finds that a TCP connection has ended,
// which means one thing or another by what completes later.

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <vector>

#include "ends.hpp"

using namespace rsock;
using namespace rsock::engine;

namespace {

// As a completion queue of verbs: completions are taken off in batches, and then handled.
class Queue final : public fabric::Completions {
 public:
  int poll() override {
    nested = nested || handling_;
    handling_ = true;
    std::vector<std::function<void()>> batch;
    while (!completed.empty() && batch.size() < kBatch) {
      batch.push_back(std::move(completed.front()));
      completed.pop_front();
    }
    for (const auto& handle : batch) handle();
    handling_ = false;
    return static_cast<int>(batch.size());
  }
  void arm() override {}
  void acknowledge() override {}
  int fd() const override { return bell_; }

  void complete(Wire& wire) {
    while (!wire.arrived.empty()) completed.push_back(wire.take());
  }

  std::deque<std::function<void()>> completed;
  bool nested = false;

 private:
  static constexpr size_t kBatch = 2;
  const int bell_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  bool handling_ = false;
};

// The TCP connection ends at `writer`, as it does when a process dies, and `reader`'s kernel has heard of it.
void end_tcp(End& writer, End& reader) {
  REQUIRE(shutdown(writer.flow->shadow(), SHUT_WR) == 0);
  pollfd one{reader.flow->shadow(), POLLRDHUP, 0};
  REQUIRE(::poll(&one, 1, 10'000) == 1);
}

}  // namespace

// Two flows of one process, on two links with one queue. The link of one fails, that flow looks at TCP, and there is an
// end: of its connection, if it was in its lane, or of its stream in the place of a mark. Of what completes later,
// WRITEs have put their bytes where they belong, PIECES are put behind what is counted.
TEST_CASE("a handler that finds an end on TCP does not overtake what has completed", "[order]") {
  const bool in_lane = GENERATE(true, false);
  CAPTURE(in_lane);
  auto& ends = *new Ends;
  auto& queue = *new Queue;
  auto& [acceptor, connector] = ends;
  acceptor.at_once = false;
  ends.meet();
  const auto writer = acceptor.flow, reader = connector.flow;
  auto& wire = *connector.wire;
  ends.connect();
  ends.enter([&] {
    CHECK(Ends::deliver(connector));  // CLAIM
    CHECK(Ends::deliver(acceptor));   // ACCEPT
    CHECK(Ends::deliver(connector));  // CONFIRM
    const auto dying = connector.flow;
    CHECK(dying->state() == flow::State::shown);
    if (in_lane) {
      CHECK(acceptor.read() == kNothing);
      CHECK(connector.read() == kNothing);
      CHECK(dying->state() == flow::State::lane);
    }
    end_tcp(acceptor, connector);
    acceptor.flow = writer, connector.flow = reader;
    acceptor.write("one, ");
    acceptor.write("two, ");
    acceptor.write("three");  // gathers
    acceptor.engine.flush();
    queue.completed.push_back([&] {
      connector.link->connection_failed();
      if (in_lane) dying->tcp_ready(EPOLLIN | EPOLLRDHUP);  // on the way into it, it looks at once
    });
    queue.complete(wire);
    REQUIRE(queue.completed.size() == 4);
    connector.engine.add_source(queue);
    CHECK(connector.engine.drain());
    CHECK(connector.read() == "one, two, three");
    CHECK(dying->state() == (in_lane ? flow::State::broken : flow::State::tcp));
    CHECK_FALSE(queue.nested);
  });
}

// The peer writes, ends its stream, and its TCP connection ends; `looks`: between which of the four completions
// somebody looks at TCP.
TEST_CASE("an end on TCP is judged by all that has completed, whenever it is seen", "[order]") {
  struct Seen {
    const char* when;
    std::vector<size_t> looks;
    bool fin_comes;
    std::string end;
  };
  const std::vector<Seen> all{{"past: the end of the stream was counted", {2}, true, ""},
                              {"in order: it is next", {1}, true, ""},
                              {"it is in a later batch", {0}, true, ""},
                              {"duplicate: seen again and again", {0, 0, 1, 1, 2}, true, ""},
                              {"future: it has not come", {0}, false, "error " + std::to_string(ECONNRESET)}};
  for (const auto& seen : all) {
    INFO(seen.when);
    auto& ends = *new Ends;
    auto& queue = *new Queue;
    ends.meet();
    auto& [writer, reader] = ends;
    ends.with_both([&] {
      writer.write("last");
      CHECK(writer.flow->shutdown(SHUT_WR));
      end_tcp(writer, reader);
      auto& arrived = reader.wire->arrived;
      REQUIRE(arrived.size() == 2);
      if (!seen.fin_comes) arrived.pop_back();
      for (size_t at = 0; at <= 2; ++at) {
        for (auto looks = std::count(seen.looks.begin(), seen.looks.end(), at); looks > 0; --looks)
          queue.completed.push_back([&] { reader.flow->tcp_ready(EPOLLIN | EPOLLRDHUP); });
        if (!arrived.empty()) queue.completed.push_back(reader.wire->take());
      }
      reader.engine.add_source(queue);
      CHECK(reader.engine.drain());
      CHECK(reader.read() == "last");
      CHECK(reader.read() == seen.end);
      CHECK_FALSE(queue.nested);
      return true;
    });
  }
}
