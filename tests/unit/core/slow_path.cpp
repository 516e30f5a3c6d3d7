// A cutover whose TCP bytes come late, or a few at a time: they pass when the test passes them.

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>

#include "ends.hpp"

using namespace rsock;
using namespace rsock::engine;
using flow::State;

namespace {

struct Passed {
  explicit Passed(Ends& ends) {
    ends.with_both([&] {
      Ends::join(ends.acceptor, Role::acceptor, far[1]);
      Ends::join(ends.connector, Role::connector, near[0]);
      ends.acceptor.flow->set_endpoints(ends.connector.flow->remote(), ends.connector.flow->local());
      ends.connector.engine.add_connector(*ends.connector.flow);
      return true;
    });
  }
  ~Passed() {
    for (const int fd : {near[1], far[0]}) ::close(fd);
  }
  std::string to_acceptor(size_t bytes) { return pass(near[1], far[0], bytes); }
  std::string to_connector(size_t bytes) { return pass(far[0], near[1], bytes); }
  static std::string pass(int from, int to, size_t bytes) {
    std::string text(bytes, 0);
    REQUIRE(::recv(from, text.data(), bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes));
    REQUIRE(::send(to, text.data(), bytes, 0) == static_cast<ssize_t>(bytes));
    return text;
  }

  const std::array<int, 2> near = tcp_connection(), far = tcp_connection();
};

// What the kernel holds for it, after the service's look.
size_t left_on_tcp(End& end) {
  end.flow->tcp_ready(EPOLLIN);
  return on_tcp(end);
}

}  // namespace

// As long as they lie in a small buffer, the kernel may let nothing more in.
TEST_CASE("the parts of a mark are taken as they come", "[slow_path]") {
  auto& ends = *new Ends;
  Passed connection(ends);
  auto& [acceptor, connector] = ends;
  ends.enter([&] {
    CHECK(Ends::deliver(connector));
    CHECK(Ends::deliver(acceptor));
    CHECK(Ends::deliver(connector));
    connection.to_acceptor(6);
    CHECK(left_on_tcp(acceptor) == 0);
    CHECK(acceptor.flow->state() == State::confirmed);
    connection.to_acceptor(wire::kMarkSize - 6);
    CHECK(left_on_tcp(acceptor) == 0);
    CHECK(acceptor.flow->state() == State::answered);
    for (size_t byte = 1; byte < wire::kMarkSize; ++byte) {
      connection.to_connector(1);
      CHECK(left_on_tcp(connector) == 0);
      CHECK(connector.flow->state() == State::shown);
      CHECK(connector.read() == kNothing);
    }
    connection.to_connector(1);
    CHECK(left_on_tcp(connector) == 0);
    CHECK(connector.flow->state() == State::lane);
    deliver_to(acceptor);
    CHECK(acceptor.flow->state() == State::lane);
    acceptor.write("ring");
    deliver_to(connector);
    CHECK(read_all(connector) == "ring");
  });
}

// Else its program would wait for as long as a slow path needs for what is in front of S's mark.
TEST_CASE("C goes on when all that S sent before the lane has arrived", "[slow_path]") {
  auto& ends = *new Ends;
  Passed connection(ends);
  auto& [acceptor, connector] = ends;
  const bool in_time = GENERATE(true, false);
  CAPTURE(in_time);
  ends.with_both([&] { return acceptor.write("by a slow path"), true; });
  ends.enter([&] {
    CHECK(Ends::deliver(connector));
    CHECK(Ends::deliver(acceptor));
    CHECK(Ends::deliver(connector));
    connection.to_connector(2);
    CHECK(connector.read() == "by");
    connector.write("in a hurry");
    CHECK(connector.flow->state() == State::accepted);
    connection.to_connector(5);
    connector.flow->tcp_ready(EPOLLIN);
    CHECK(connector.flow->state() == State::accepted);
    if (in_time) {
      connection.to_connector(7);
      connector.flow->tcp_ready(EPOLLIN);
      CHECK(connector.flow->state() == State::shown);
      CHECK(connector.read() == " a slow path");
    } else {
      connector.flow->give_up();
      CHECK(connector.flow->state() == State::tcp);
      CHECK(connection.to_acceptor(10) == "in a hurry");
    }
  });
}

TEST_CASE("what begins as a mark and goes on otherwise is the program's", "[slow_path]") {
  auto& ends = *new Ends;
  Passed connection(ends);
  auto& [acceptor, connector] = ends;
  const bool yields = GENERATE(false, true);
  CAPTURE(yields);
  ends.enter([&] {
    CHECK(Ends::deliver(connector));
    CHECK(Ends::deliver(acceptor));
    CHECK(Ends::deliver(connector));
    if (yields) acceptor.flow->step_aside(Reason::by_operator);
    const auto begin = connection.to_acceptor(6);
    CHECK(left_on_tcp(acceptor) == 0);
    REQUIRE(::send(connection.far[0], "of its own", 10, 0) == 10);
    (void)left_on_tcp(acceptor);
    CHECK(acceptor.flow->state() == State::tcp);
    CHECK(read_all(acceptor) == begin + "of its own");
  });
}

// Its bytes were taken, and wait for room; a program that has read the end already would never hear that they
// cannot go.
TEST_CASE("what is owed and cannot go is an error of the stream", "[slow_path]") {
  auto& ends = *new Ends;
  const bool ended = GENERATE(false, true);
  CAPTURE(ended);
  ends.connect(4096);
  auto& [acceptor, connector] = ends;
  const int connectors = connector.flow->shadow();
  ends.enter();
  const auto lane = [](End& end) { return end.flow->stage() == Stage::lane; };
  REQUIRE(ends.eventually([&] { return lane(acceptor) && lane(connector); }));
  std::string bytes(4096, 'x');
  const iovec piece{bytes.data(), bytes.size()}, one{bytes.data(), 1};
  size_t written = 0;
  REQUIRE(ends.eventually([&] {
    if (const auto taken = acceptor.flow->write({&piece, 1}, 0)) written += *taken;
    return written == 16 << 10;  // a ring
  }));
  ends.with_both([&] { return acceptor.flow->step_aside(Reason::by_operator), true; });
  const auto left = [](End& end) { return end.flow->state() == State::tcp; };
  REQUIRE(ends.eventually([&] { return left(acceptor) && left(connector); }));
  ends.with_both([&] {
    CHECK(acceptor.flow->write({&one, 1}, 0).is(EAGAIN));  // the buffers are small, and nobody reads
    if (ended) CHECK(connector.flow->shutdown(SHUT_WR));
    return true;
  });
  if (ended) CHECK(ends.eventually([&] { return acceptor.read().empty(); }));
  ends.with_both([&] { return connector.flow->close(false), true; });
  REQUIRE(::close(connectors) == 0);  // with bytes unread
  const int error = ended ? EPIPE : ECONNRESET;
  REQUIRE(ends.eventually([&] { return acceptor.flow->write({&one, 1}, 0).is(error); }));
  ends.with_both([&] {
    CHECK(acceptor.flow->write({&one, 1}, 0).is(EPIPE));
    CHECK(acceptor.read().empty());
    CHECK((acceptor.flow->readiness() & (EPOLLHUP | EPOLLIN)) == (EPOLLHUP | EPOLLIN));
    return true;
  });
}

// Else it could begin the limit of C's hold anew for ever.
TEST_CASE("CONFIRM that waits is said once", "[slow_path]") {
  auto& ends = *new Ends;
  Passed connection(ends);
  auto& [acceptor, connector] = ends;
  ends.with_both([&] { return acceptor.write("on its way"), true; });
  ends.enter([&] {
    CHECK(Ends::deliver(connector));
    CHECK(Ends::deliver(acceptor));
    CHECK(Ends::deliver(connector));
    CHECK(connector.flow->state() == State::accepted);
    CHECK_FALSE(connector.flow->handle(wire::Confirm{0, 1000}));
  });
}
