// How a flow enters its lane or does not, step by step: marks on TCP, messages on the link, and what the
// programs write and read meanwhile.

#include <sys/ioctl.h>

#include <array>
#include <string>

#include "ends.hpp"

using namespace rsock;
using namespace rsock::engine;
using flow::State;

namespace {

// Both, at last, are the kernel's, with nothing of ours on the connection, which carries what they write.
void back_on_tcp(Ends& ends) {
  auto& [acceptor, connector] = ends;
  CHECK(ends.eventually([&] { return acceptor.flow->on_kernel() && connector.flow->on_kernel(); }));
  ends.with_both([&] {
    CHECK(on_tcp(acceptor) == 0);
    CHECK(on_tcp(connector) == 0);
    acceptor.write("there");
    connector.write("back");
    CHECK(acceptor.read() == "back");
    CHECK(connector.read() == "there");
    return true;
  });
}

enum class How { shown, confirmed, accepted };
// The cutover, as far as that: C has shown its token; S waits for it; or C has said ACCEPT.
void go_to(Ends& ends, How how) {
  CHECK(Ends::deliver(ends.connector));                           // CLAIM
  if (how != How::accepted) CHECK(Ends::deliver(ends.acceptor));  // ACCEPT
  if (how == How::shown) CHECK(Ends::deliver(ends.connector));    // CONFIRM
  CHECK(ends.connector.flow->state() == (how == How::shown ? State::shown : State::accepted));
  CHECK(ends.acceptor.flow->state() == (how == How::accepted ? State::claimed : State::confirmed));
}

}  // namespace

TEST_CASE("no byte enters a ring before the peer has read the token", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  ends.enter([&] {
    const auto& by_acceptor = acceptor.wire->data;
    const auto& by_connector = connector.wire->data;
    CHECK(Ends::deliver(connector));  // CLAIM
    connector.write("in accepted, ");
    deliver_to(acceptor);  // ACCEPT
    CHECK(acceptor.flow->state() == State::confirmed);
    acceptor.write("in confirmed, ");
    CHECK(by_acceptor + by_connector == 0);
    deliver_to(connector);  // CONFIRM
    CHECK(connector.flow->state() == State::shown);
    connector.write("in shown");
    CHECK(by_acceptor + by_connector == 0);
    CHECK(acceptor.read() == kNothing);  // but the connector's token
    CHECK(acceptor.flow->state() == State::answered);
    acceptor.write("in answered");
    CHECK(by_acceptor + by_connector == 0);
    CHECK(connector.read() == kNothing);
    CHECK(connector.flow->state() == State::lane);
    CHECK(by_connector > 0);
    CHECK(by_acceptor == 0);
    CHECK(Ends::deliver(acceptor));  // WITNESS
    CHECK(acceptor.flow->state() == State::lane);
    CHECK(by_acceptor > 0);
    deliver_to(acceptor);
    deliver_to(connector);
    CHECK(read_all(acceptor) == "in accepted, in shown");
    CHECK(read_all(connector) == "in confirmed, in answered");
  });
}

// Of another cutover, or made up by somebody who has not read S's token; or said again; or left out.
TEST_CASE("WITNESS is right, and said once before all else", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  const int which = GENERATE(0, 1, 2, 3);
  CAPTURE(which);
  ends.enter([&] {
    go_to(ends, How::shown);
    CHECK(acceptor.read() == kNothing);
    CHECK(acceptor.flow->state() == State::answered);
    const uint8_t byte = 1;
    switch (which) {
      case 0: CHECK_FALSE(acceptor.flow->handle(wire::Witness{})); break;
      case 1: CHECK_FALSE(acceptor.flow->data_landed({&byte, 1})); break;
      case 2: CHECK_FALSE(acceptor.flow->handle(wire::Fin{})); break;
      case 3:
        CHECK(connector.read() == kNothing);
        CHECK(Ends::deliver(acceptor));
        CHECK(acceptor.flow->state() == State::lane);
        CHECK_FALSE(acceptor.flow->handle(wire::Witness{}));
        break;
    }
    CHECK_FALSE(connector.flow->handle(wire::Witness{}));  // of S it is never said
  });
}

// C may be in its lane, and out of it, before S has heard.
TEST_CASE("an S that waits for WITNESS goes back with C", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  const bool seen = GENERATE(false, true);  // C has seen S's token by then
  const int who = GENERATE(0, 1, 2);
  CAPTURE(seen, who);
  ends.enter([&] {
    go_to(ends, How::shown);
    acceptor.write("held");
    connector.write("as well");
    CHECK(acceptor.read() == kNothing);
    CHECK(acceptor.flow->state() == State::answered);
    if (seen) CHECK(connector.read() == kNothing);
    if (who == 0) acceptor.flow->step_aside(Reason::by_operator);
    if (who == 1) connector.flow->step_aside(Reason::by_operator);
    if (who == 2) {
      connector.wire->arrived.clear(), acceptor.wire->arrived.clear();
      acceptor.link->fail(Reason::link_failed), connector.link->fail(Reason::link_failed);
    }
  });
  std::string one, other;
  CHECK(ends.eventually([&] {
    one += read_all(acceptor), other += read_all(connector);
    return one.size() >= 7 && other.size() >= 4;
  }));
  CHECK(one == "as well");
  CHECK(other == "held");
  back_on_tcp(ends);
}

TEST_CASE("a hold takes what a small ring takes, once, and room is told when it is over", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  const bool given_up = GENERATE(false, true);
  const size_t room = small().ring_min;
  std::string bytes(room + 5000, 0);
  for (size_t at = 0; at < bytes.size(); ++at) bytes[at] = static_cast<char>(at * 7 + at / 251);
  ends.enter([&] {
    CHECK(Ends::deliver(connector));  // CLAIM
    CHECK(connector.flow->readiness() & EPOLLOUT);
    iovec from{bytes.data(), bytes.size()};
    CHECK(*connector.flow->write({&from, 1}, 0) == room);
    CHECK(connector.flow->write({&from, 1}, room).is(EAGAIN));
    CHECK_FALSE(connector.flow->readiness() & EPOLLOUT);
    CHECK(connector.flow->unsent_bytes() == room);
    if (given_up) connector.flow->step_aside(Reason::by_operator);
  });
  std::string got;
  CHECK(ends.eventually([&] { return (got += read_all(acceptor)).size() >= room; }));
  CHECK(got == bytes.substr(0, room));
  CHECK(ends.eventually([&] { return connector.flow->readiness() & EPOLLOUT; }));
  CHECK((connector.wire->data > 0) == !given_up);
}

// The peer of a program that waits for the cutover has heard so, at whatever moment; that a ring is full is news all
// the same.
TEST_CASE("a ring grows under a program that waited for the cutover", "[entering]") {
  const bool late = GENERATE(false, true);
  const bool by_connector = GENERATE(false, true);
  CAPTURE(late, by_connector);
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  auto& writer = by_connector ? connector : acceptor;
  ends.enter([&] {
    CHECK(Ends::deliver(connector));  // CLAIM
    if (by_connector) connector.write("held");
    CHECK(Ends::deliver(acceptor));  // ACCEPT
    if (!by_connector) acceptor.write("held");
    if (!late) return;
    CHECK(Ends::deliver(connector));  // CONFIRM
    CHECK(acceptor.read() == kNothing);
    CHECK(acceptor.flow->state() == State::answered);
    deliver_to(acceptor);
    deliver_to(connector);
    CHECK(connector.flow->state() == State::shown);
  });
  CHECK(
      ends.eventually([&] { return acceptor.flow->state() == State::lane && connector.flow->state() == State::lane; }));
  const size_t room = small().ring_min;
  std::string bytes(2 * room, 'x');
  size_t taken = 0;
  CHECK(ends.eventually([&] {
    iovec from{bytes.data(), bytes.size()};
    if (const auto more = writer.flow->write({&from, 1}, taken)) taken += *more;
    return taken == bytes.size();  // and the other reads nothing
  }));
}

// S has claimed, and C has given up before S had a use for its word. C has opened its point by then, and waits.
TEST_CASE("S tries again when C gave up before S went on", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  const bool by_retire = GENERATE(true, false);
  ends.with_both([&] {
    if (by_retire) connector.write("unread");
    return true;
  });
  ends.enter([&] {
    CHECK(Ends::deliver(connector));  // CLAIM
    connector.flow->give_up();
    CHECK(connector.flow->state() == State::tcp);
    if (by_retire) {
      CHECK(Ends::deliver(acceptor));  // ACCEPT, which waits for the program to read
      CHECK(acceptor.flow->state() == State::claimed);
    } else {
      connector.write("raw");
      CHECK(acceptor.read() == "raw");  // more than came before C's mark
    }
    deliver_to(acceptor);
    CHECK(acceptor.flow->state() == State::tcp);
    CHECK(acceptor.flow->candidacy().tried_before());
    CHECK(connector.flow->candidacy().tried_before());
  });
}

// A slow machine may need many cutovers. None of them is a failure of the link.
TEST_CASE("a cutover that is given up is tried again, however often", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  for (int i = 0; i < 12; ++i) {
    ends.enter([&] {
      CHECK(Ends::deliver(connector));  // CLAIM
      CHECK(Ends::deliver(acceptor));   // ACCEPT
      connector.flow->give_up();
      connector.write("x");
    });
    // It may have been taken for the beginning of a mark, and is the library's until it is read: once in 256 times.
    std::string got;
    CHECK(ends.eventually([&] {
      got += read_all(acceptor);
      return got == "x" && acceptor.flow->free_to_enter() && connector.flow->free_to_enter();
    }));
    CHECK_FALSE(acceptor.flow->settled());
    CHECK_FALSE(connector.flow->settled());
  }
}

// The peer's word never comes.
TEST_CASE("a hold ends by time, and its bytes go by TCP", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  ends.enter([&] {
    CHECK(Ends::deliver(connector));  // CLAIM
    connector.write("held, ");
    CHECK(connector.flow->state() == State::accepted);
  });
  for (const auto deadline = now() + kPatience; now() < deadline; std::this_thread::sleep_for(milliseconds(1)))
    if (ends.with_both([&] { return connector.flow->state() == State::tcp; })) break;
  ends.with_both([&] {
    CHECK(connector.flow->state() == State::tcp);
    connector.write("raw");
    CHECK(read_all(acceptor) == "held, raw");
    return true;
  });
}

TEST_CASE("an end that has shown its token does not give up by time, others do", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  ends.enter([&] {
    go_to(ends, How::shown);
    connector.write("held, ");
    connector.flow->give_up();
    CHECK(connector.flow->state() == State::shown);
    acceptor.write("held as well, ");
    acceptor.flow->give_up();  // it has seen the token by now, or gives up
    acceptor.write("or not");
    connector.write("later");
  });
  std::string one, other;
  CHECK(ends.eventually([&] {
    one += read_all(acceptor), other += read_all(connector);
    return one.size() >= 11 && other.size() >= 20;
  }));
  CHECK(one == "held, later");
  CHECK(other == "held as well, or not");
}

TEST_CASE("what was held goes in front of what is written when the cutover was given up", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  const bool by_connector = GENERATE(true, false);
  const bool link_lives = GENERATE(true, false);
  CAPTURE(by_connector, link_lives);
  auto& self = by_connector ? connector : acceptor;
  auto& peer = by_connector ? acceptor : connector;
  ends.enter([&] {
    go_to(ends, How::confirmed);
    self.write("held, ");
    if (link_lives)
      self.flow->step_aside(Reason::by_operator);
    else
      self.link->fail(Reason::link_failed);
    CHECK(self.flow->state() == (by_connector ? State::tcp : State::yielded));
    self.write("raw");
  });
  std::string got;
  CHECK(ends.eventually([&] { return (got += read_all(peer)).size() >= 9; }));
  CHECK(got == "held, raw");
  back_on_tcp(ends);
}

// C's token is out, and S gives up before it has seen it.
TEST_CASE("C hears that S gave up by NO, or by the bytes in its place", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  const std::string raw = GENERATE("", "raw");
  const bool told = GENERATE(true, false);  // by RETIRE as well, which changes nothing
  CAPTURE(raw, told);
  ends.enter([&] {
    go_to(ends, How::shown);
    connector.write("held");
    acceptor.flow->step_aside(Reason::by_operator);
    CHECK(acceptor.flow->state() == State::yielded);
    if (!raw.empty()) acceptor.write(raw);
    if (!told) connector.wire->arrived.clear();
    deliver_to(connector);
    if (raw.empty() || !told) CHECK(connector.flow->state() == (told ? State::shown_resuming : State::shown));
    acceptor.flow->tcp_ready(EPOLLIN);
    CHECK(acceptor.flow->state() == State::tcp);
    CHECK(on_tcp(connector) == static_cast<int>(raw.empty() ? wire::kMarkSize : raw.size()));
    CHECK(read_all(connector) == raw);
    CHECK(connector.flow->state() == State::tcp);
    CHECK(read_all(acceptor) == "held");
    CHECK(acceptor.wire->data + connector.wire->data == 0);
    deliver_to(acceptor);
    if (!told) acceptor.link->fail(Reason::link_failed), connector.link->fail(Reason::link_failed);
  });
  back_on_tcp(ends);
}

TEST_CASE("RETIRE tells S whether C's token has begun", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  const bool begun = GENERATE(false, true);
  CAPTURE(begun);
  ends.enter([&] {
    go_to(ends, begun ? How::shown : How::confirmed);
    connector.flow->step_aside(Reason::by_operator);
    CHECK(connector.flow->state() == (begun ? State::shown_resuming : State::tcp));
    deliver_to(acceptor);
    // No byte has come by TCP in the one case. In the other its token is on the way, and must not be the
    // program's.
    CHECK(acceptor.flow->state() == (begun ? State::yielded : State::tcp));
    CHECK(on_tcp(acceptor) == (begun ? static_cast<int>(wire::kMarkSize) : 0));
  });
  back_on_tcp(ends);
}

TEST_CASE("an end of the stream in the place of S's mark is its end, and no lane", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  ends.enter([&] {
    go_to(ends, How::shown);
    acceptor.flow->step_aside(Reason::by_operator);
    CHECK(acceptor.flow->shutdown(SHUT_WR));
    connector.write("held");
  });
  std::string end = kNothing, got;
  CHECK(ends.eventually([&] { return (end = connector.read()) != kNothing; }));
  CHECK(end.empty());
  CHECK(ends.eventually([&] { return (got += read_all(acceptor)).size() >= 4; }));
  CHECK(got == "held");
  CHECK(ends.with_both([&] { return connector.flow->state() == State::tcp && acceptor.flow->state() == State::tcp; }));
}

TEST_CASE("an end of the stream in the place of C's mark is its end, and no lane", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  ends.enter([&] {
    go_to(ends, How::confirmed);
    acceptor.write("held");
    connector.write("last");
    CHECK(connector.flow->shutdown(SHUT_WR));
    CHECK(connector.flow->state() == State::tcp);
    acceptor.wire->arrived.clear();  // nothing is said on the link
  });
  std::string one, end = kNothing, other;
  CHECK(ends.eventually([&] { return (one = acceptor.read()) != kNothing; }));
  CHECK(one == "last");
  CHECK(ends.eventually([&] { return (end = acceptor.read()) != kNothing; }));
  CHECK(end.empty());
  CHECK(ends.eventually([&] { return (other += read_all(connector)).size() >= 4; }));
  CHECK(other == "held");
}

TEST_CASE("an end of the stream in the place of a mark is seen behind unread bytes", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  ends.with_both([&] { return acceptor.write("unread"), true; });
  ends.enter([&] {
    CHECK(Ends::deliver(connector));  // CLAIM
    CHECK(Ends::deliver(acceptor));   // ACCEPT
    acceptor.flow->step_aside(Reason::by_operator);
    CHECK(acceptor.flow->shutdown(SHUT_WR));
    ends.deliver_all();
  });
  // Nobody has read anything.
  CHECK(ends.eventually([&] { return connector.flow->state() == State::tcp; }));
  ends.with_both([&] {
    CHECK((connector.flow->readiness() & EPOLLRDHUP) != 0);
    CHECK(connector.read() == "unread");
    CHECK(connector.read().empty());
    return true;
  });
}

// C's program writes and does not read: the lane begins behind what it has not read.
TEST_CASE("a mark is seen behind unread bytes, which are read first", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  const size_t most = GENERATE(size_t{2}, size_t{3}, size_t{4}, size_t{100});
  CAPTURE(most);
  ends.with_both([&] { return acceptor.write("raw "), true; });
  ends.enter([&] {
    CHECK(Ends::deliver(connector));  // CLAIM
    CHECK(Ends::deliver(acceptor));   // ACCEPT
    CHECK(Ends::deliver(connector));  // CONFIRM, which waits for the reader
    CHECK(connector.flow->state() == State::accepted);
    connector.write("request");
    CHECK(connector.flow->state() == State::shown);
    CHECK(acceptor.read() == kNothing);
    acceptor.write("ring");
    deliver_to(connector);
    connector.flow->tcp_ready(EPOLLIN);
    CHECK(connector.flow->state() == State::lane);
    deliver_to(acceptor);
    deliver_to(connector);
    CHECK(on_tcp(connector) == static_cast<int>(4 + wire::kMarkSize));
    CHECK_FALSE(connector.flow->on_kernel());
    deliver_to(acceptor);
    CHECK(read_all(acceptor) == "request");  // before the other has read anything
    CHECK(connector.flow->readiness() & EPOLLIN);
    std::string got;
    for (std::string more; (more = connector.read(most)) != kNothing; got += more) CHECK(more.size() <= most);
    CHECK(got == "raw ring");
    CHECK(on_tcp(connector) == 0);
    acceptor.write("more");
    deliver_to(connector);
    CHECK(connector.read() == "more");
  });
}

// The same, and the lane is left before they are read: what was in the ring comes again, behind them.
TEST_CASE("a lane that is left in front of unread bytes gives them first", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  const bool by_connector = GENERATE(true, false);
  const bool link_lives = GENERATE(true, false);
  CAPTURE(by_connector, link_lives);
  auto& leaver = by_connector ? connector : acceptor;
  ends.with_both([&] { return acceptor.write("raw "), true; });
  ends.enter([&] {
    CHECK(Ends::deliver(connector));
    CHECK(Ends::deliver(acceptor));
    CHECK(Ends::deliver(connector));
    connector.write("request");
    CHECK(acceptor.read() == kNothing);
    acceptor.write("ring");
    deliver_to(connector);
    connector.flow->tcp_ready(EPOLLIN);
    CHECK(connector.flow->state() == State::lane);
    if (link_lives)
      leaver.flow->step_aside(Reason::by_operator);
    else
      leaver.link->fail(Reason::link_failed);
  });
  std::string one, other;
  CHECK(ends.eventually([&] {
    one += read_all(acceptor), other += read_all(connector);
    return one.size() >= 7 && other.size() >= 8;
  }));
  CHECK(one == "request");
  CHECK(other == "raw ring");
}

namespace {

// S gives its cutover up when C has shown its token, and says NO behind four bytes that C has not read. Then `then`,
// under the locks.
void give_up_behind_unread(Ends& ends, const std::function<void()>& then) {
  auto& [acceptor, connector] = ends;
  ends.with_both([&] { return acceptor.write("raw "), true; });
  ends.enter([&] {
    CHECK(Ends::deliver(connector));  // CLAIM
    CHECK(Ends::deliver(acceptor));   // ACCEPT
    CHECK(Ends::deliver(connector));  // CONFIRM, which waits for the reader
    connector.write("request");
    CHECK(connector.flow->state() == State::shown);
    acceptor.flow->step_aside(Reason::by_operator);
    acceptor.flow->tcp_ready(EPOLLIN);  // C's token, which is answered by NO
    CHECK(acceptor.flow->state() == State::tcp);
    connector.flow->tcp_ready(EPOLLIN);
    CHECK(connector.flow->state() == State::tcp);
    CHECK(connector.flow->readable_bytes() == 4);
    then();
  });
}

}  // namespace

// The cutover is given up, and what S says then stands behind its mark.
TEST_CASE("bytes behind the mark of a cutover that was given up are counted, and read with those before it",
          "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  give_up_behind_unread(ends, [&] {
    acceptor.write("more");
    CHECK(on_tcp(connector) == static_cast<int>(4 + wire::kMarkSize + 4));
    CHECK(connector.flow->readable_bytes() == 8);
    CHECK(connector.read() == "raw more");
    CHECK(on_tcp(connector) == 0);
    CHECK(connector.flow->readable_bytes() == 0);
    CHECK(read_all(acceptor) == "request");
  });
  back_on_tcp(ends);
}

// The kernel could not step over the mark; what is in front of it moves to where the flow finds it.
TEST_CASE("a flow that leaves takes the mark from between what is unread", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  give_up_behind_unread(ends, [&] {
    CHECK_FALSE(connector.flow->kernel_follows());
    connector.flow->leave(Reason::unserved_call);
    CHECK(connector.flow->kernel_follows());
    CHECK(on_tcp(connector) == 0);
    CHECK(connector.read() == "raw ");
    CHECK(connector.flow->on_kernel());
  });
}

namespace {

// Somebody that has a link to each end, each by keys of its own, and passes on what they say.
struct Relay {
  explicit Relay(Ends& ends) : acceptor(ends.acceptor), connector(ends.connector) {
    to_acceptor.meet(acceptor);
    to_connector.meet(connector);
    acceptor.link->set_ready();
    to_acceptor.say(to_acceptor.key());
    to_connector.say(to_connector.key());
    CHECK(to_acceptor.heard_key());
    CHECK(to_connector.heard_key());
    said_there = to_acceptor.hear(), said_here = to_connector.hear();
    CHECK(acceptor.link->ready());
    CHECK(connector.link->ready());
  }
  void pass_on() {
    for (to_acceptor.hear(); said_there < to_acceptor.heard.size();) to_connector.say(to_acceptor.heard[said_there++]);
    for (to_connector.hear(); said_here < to_connector.heard.size();) to_acceptor.say(to_connector.heard[said_here++]);
  }
  End& acceptor;
  End& connector;
  Stranger& to_acceptor = *new Stranger(keys::End::dialled);
  Stranger& to_connector = *new Stranger(keys::End::dialler);
  size_t said_there = 0, said_here = 0;
};

}  // namespace

TEST_CASE("a token that was made for another link is taken off the stream, and costs the link", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  const bool yields = GENERATE(false, true);  // S gives up before it has seen it
  CAPTURE(yields);
  ends.with_both([&] {
    Relay relay(ends);
    acceptor.flow->claim(*acceptor.link);
    relay.pass_on();
    relay.pass_on();
    CHECK(acceptor.flow->state() == State::confirmed);
    CHECK(connector.flow->state() == State::shown);
    acceptor.write("of S, ");
    connector.write("of C, ");
    if (yields) acceptor.flow->step_aside(Reason::by_operator);
    acceptor.flow->tcp_ready(EPOLLIN);
    CHECK(acceptor.flow->state() == State::tcp);
    CHECK((yields || !acceptor.link->alive()));
    connector.flow->tcp_ready(EPOLLIN);
    CHECK(connector.flow->state() == State::tcp);
    acceptor.write("raw");
    connector.write("raw");
    CHECK(read_all(acceptor) == "of C, raw");
    CHECK(read_all(connector) == "of S, raw");
    CHECK(relay.to_acceptor.data + relay.to_connector.data == 0);
    CHECK(acceptor.wire->data + connector.wire->data == 0);
    relay.pass_on();
    CHECK(on_tcp(acceptor) + on_tcp(connector) == 0);
    return true;
  });
}

namespace {

// From now on it is so many seconds later than it is.
template <int kSeconds>
void set_clock() {
  rsock::kernel.clock_gettime = [](clockid_t clock, timespec* time) {
    const int failed = ::clock_gettime(clock, time);
    time->tv_sec += kSeconds;
    return failed;
  };
}

}  // namespace

// The stranger claims the flow, and says nothing more: not even that it has no use for its slot.
TEST_CASE("whoever keeps a slot keeps neither the end of the stream nor the slot", "[entering]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  auto& stranger = *new Stranger(keys::End::dialler);
  const int program = connector.flow->shadow();
  ends.with_both([&] {
    stranger.meet(connector);
    stranger.say(stranger.key());
    CHECK(stranger.heard_key());
    const auto unbound = connector.link->flows();
    stranger.say(wire::Claim{5, connector.flow->local(), connector.flow->remote(), {0, 0, 4096}, {}});
    CHECK(connector.flow->state() == State::accepted);
    connector.write("held");
    const auto flow = connector.flow;
    flow->close(false);
    REQUIRE(close(program) == 0);
    CHECK(acceptor.read() == "held");
    CHECK(acceptor.read() == "");
    CHECK(stranger.hear() > 1);
    CHECK(std::holds_alternative<wire::Retire>(stranger.heard.back()));
    CHECK(connector.link->flows() == unbound + 1);
    for (int times = 0; times < 3; ++times) flow->give_up();
    set_clock<9>();
    flow->give_up();
    CHECK(connector.link->alive());
    CHECK_FALSE(flow->finished());
    set_clock<11>();
    flow->give_up();
    rsock::kernel.clock_gettime = ::clock_gettime;
    CHECK_FALSE(connector.link->alive());
    CHECK(flow->finished());
    return true;
  });
}
