// Two flows over a link that dies at one end, of which the other hears by the first one's word alone: what one program
// sent is what the other reads. The link is in memory, and delivers when it is told to; the TCP connection and all else
// are the library's own.

#include <algorithm>
#include <array>
#include <random>

#include "ends.hpp"

using namespace rsock;
using namespace rsock::engine;

namespace {

// Either end says its last, ends its stream, and `fail` comes then, before any of that has arrived: the other reads it
// all the same.
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

constexpr int kSmallBuffers = 4 << 10;

// All that the flow takes now: how many bytes.
size_t fill(End& writer) {
  const std::string bytes(1000, 'x');
  const iovec from{const_cast<char*>(bytes.data()), bytes.size()};
  for (size_t written = 0;;) {
    const auto taken = writer.flow->write({&from, 1}, 0);
    if (taken.is(EAGAIN)) return written;
    REQUIRE(taken);
    written += *taken;
  }
}

// How many bytes come before the end.
size_t read_to_end(Ends& ends, End& reader) {
  size_t count = 0;
  CHECK(ends.eventually([&] {
    for (std::string got;;) {
      if ((got = reader.read()) == kNothing || got == "") return got == "";
      count += got.size();
    }
  }));
  return count;
}

}  // namespace

TEST_CASE("what was sent before the end of a stream comes before it, where the link fails at the reader's end alone",
          "[severed]") {
  last_is_read([](End&, End& reader) { reader.link->fail(Reason::link_failed); });
}

TEST_CASE("the same, where it fails at the writer's end alone", "[severed]") {
  last_is_read([](End& writer, End& reader) {
    writer.link->fail(Reason::link_failed);
    reader.wire->arrived.clear();
  });
}

// The acceptor's token is on TCP, behind bytes that went there before and are unread; its ring has more; and then it
// closes.
TEST_CASE("to write to a peer that closed loses nothing of what it had sent", "[severed]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  ends.with_both([&] { return acceptor.write("by TCP, "), true; });
  ends.enter([&] {
    CHECK(Ends::deliver(connector));  // CLAIM
    CHECK(Ends::deliver(acceptor));   // ACCEPT
    CHECK(Ends::deliver(connector));  // CONFIRM, which waits for the reader
    CHECK(connector.flow->state() == flow::State::accepted);
    connector.write("hurry");
    CHECK(connector.flow->state() == flow::State::shown);
    CHECK(acceptor.read() == kNothing);  // but the connector's token
    CHECK(acceptor.flow->state() == flow::State::answered);
    connector.flow->tcp_ready(EPOLLIN);
    CHECK(connector.flow->state() == flow::State::lane);
    deliver_to(acceptor);  // WITNESS
    CHECK(acceptor.read() == "hurry");
    acceptor.write("by the ring");
    acceptor.flow->close(false);
    deliver_to(connector);
    CHECK(connector.flow->over());
    connector.write("too late");
    CHECK(connector.read() == "by TCP, by the ring");
    CHECK(connector.read() == "");
    ends.deliver_all();
    CHECK(acceptor.link->alive());  // which heard nothing behind RETIRE
  });
}

// The way back brings more than TCP has room for; the reader has ended its own stream, reads nothing yet, and the
// writer closes.
TEST_CASE("a peer that has ended its stream gets all that it is owed, also from a program that has closed",
          "[severed]") {
  for (const bool first : {true, false}) {
    auto& ends = *new Ends;
    ends.connect(kSmallBuffers);
    ends.enter();
    auto& writer = first ? ends.acceptor : ends.connector;
    auto& reader = first ? ends.connector : ends.acceptor;
    REQUIRE(
        ends.eventually([&] { return writer.flow->stage() == Stage::lane && reader.flow->stage() == Stage::lane; }));
    size_t written = 0;
    ends.with_both([&] {
      written = fill(writer);
      reader.flow->step_aside(Reason::by_operator);
      return static_cast<bool>(reader.flow->shutdown(SHUT_WR));
    });
    CHECK(ends.eventually([&] { return writer.read() == ""; }));
    ends.with_both([&] {
      CHECK(writer.flow->shutdown(SHUT_WR));
      writer.flow->close(false);
      return true;
    });
    CHECK(read_to_end(ends, reader) == written);
  }
}

// S gives its cutover up, and what it held waits behind what TCP has. C's token may come; but a C that says nothing is
// no reason to let that fall.
TEST_CASE("what was held in front of a silent peer goes, also from a program that has closed", "[severed]") {
  auto& ends = *new Ends;
  ends.connect(kSmallBuffers);
  auto& [acceptor, connector] = ends;
  size_t written = 0;
  ends.with_both([&] { return (written = fill(acceptor)) > 0; });
  ends.enter([&] {
    CHECK(Ends::deliver(connector));  // CLAIM
    CHECK(Ends::deliver(acceptor));   // ACCEPT
    CHECK(acceptor.flow->state() == flow::State::confirmed);
    acceptor.write("held");
    acceptor.flow->step_aside(Reason::by_operator);
    CHECK(acceptor.flow->state() == flow::State::yielded);
    acceptor.flow->close(false);
    for (int times = 0; times < 3; ++times) acceptor.flow->give_up();
    CHECK(!acceptor.flow->finished());
  });
  CHECK(read_to_end(ends, connector) == written + 4);
}

// The writer's process ends between its frame and what it was to send again. To the kernel that is an end of the stream
// like any other.
TEST_CASE("an end in the middle of the way back is no end of the stream", "[severed]") {
  const bool taken = GENERATE(false, true);  // some of it by the reader, before
  for (const bool first : {true, false}) {
    auto& ends = *new Ends;
    ends.meet();
    auto& writer = first ? ends.acceptor : ends.connector;
    auto& reader = first ? ends.connector : ends.acceptor;
    ends.with_both([&] {
      writer.write("all of it");
      Ends::deliver(reader);
      if (taken) CHECK(reader.read(4) == "all ");
      writer.flow->leave(Reason::unserved_call);
      REQUIRE(::shutdown(writer.flow->shadow(), SHUT_WR) == 0);
      return true;
    });
    std::string got;
    CHECK(ends.eventually([&] { return (got = reader.read()) != kNothing; }));
    CHECK(got == (taken ? "of it" : "all of it"));
    CHECK(ends.eventually([&] { return (got = reader.read()) != kNothing; }));
    CHECK(got == "error " + std::to_string(ECONNRESET));
  }
}

// The peer sends on, and ends its stream, before it hears that nobody reads.
TEST_CASE("what comes for a flow that was reset here costs no link", "[severed]") {
  auto& ends = *new Ends;
  ends.meet();
  auto& [acceptor, connector] = ends;
  ends.with_both([&] {
    CHECK(acceptor.flow->shutdown(SHUT_RDWR));
    connector.write("one, ");
    connector.write("two");
    CHECK(connector.flow->shutdown(SHUT_WR));
    connector.flow->close(false);
    deliver_to(acceptor);
    CHECK(acceptor.flow->state() == flow::State::broken);
    CHECK(acceptor.link->alive());
    ends.deliver_all();
    CHECK(connector.link->alive());
    return true;
  });
}

// The connection's reset is faster than the link, which has bytes and an end of the peer's yet.
TEST_CASE("what comes by the link behind a reset of TCP costs no link", "[severed]") {
  auto& ends = *new Ends;
  ends.meet();
  auto& [acceptor, connector] = ends;
  ends.with_both([&] {
    connector.write("late");
    CHECK(connector.flow->shutdown(SHUT_WR));
    const linger hard{1, 0};
    REQUIRE(setsockopt(connector.flow->shadow(), SOL_SOCKET, SO_LINGER, &hard, sizeof hard) == 0);
    const sockaddr nowhere{AF_UNSPEC, {}};
    REQUIRE(::connect(connector.flow->shadow(), &nowhere, sizeof nowhere) == 0);  // RST
    acceptor.flow->tcp_ready(EPOLLIN | EPOLLHUP | EPOLLERR);
    acceptor.flow->decide_end();
    CHECK(acceptor.flow->state() == flow::State::broken);
    deliver_to(acceptor);
    CHECK(acceptor.link->alive());
    return true;
  });
}

// The slot is C's, too, until C has said that it is done with it.
TEST_CASE("S that ends hard before it has seen C's token costs no link", "[severed]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [acceptor, connector] = ends;
  ends.enter([&] {
    CHECK(Ends::deliver(connector));  // CLAIM
    CHECK(Ends::deliver(acceptor));   // ACCEPT
    CHECK(acceptor.flow->state() == flow::State::confirmed);
    acceptor.flow->close(true);
    ends.deliver_all();
    CHECK(acceptor.link->alive());
    CHECK(connector.link->alive());
    CHECK(acceptor.flow->finished());
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
      ends.deliver_all();
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
    acceptor.flow->step_aside(Reason::by_operator);
    CHECK(acceptor.flow->state() == flow::State::yielded);
    ends.deliver_all();
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
    acceptor.wire->arrived.clear();  // RETIRE, which would say the same
    CHECK(send(connector.flow->shadow(), "u", 1, MSG_OOB) == 1);
  });
  CHECK(ends.eventually([&] { return acceptor.flow->on_kernel(); }));
  char urgent = 0;
  CHECK(ends.with_both([&] { return recv(acceptor.flow->shadow(), &urgent, 1, MSG_OOB) == 1; }));
  CHECK(urgent == 'u');
}

// The service looks for the device of this machine, which has none.
TEST_CASE("a flow whose first lane went with its device is tried again", "[severed]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& flow = *ends.acceptor.flow;
  ends.enter([&] { ends.acceptor.link->fail(Reason::link_failed); });  // with the CLAIM on its way
  CHECK(ends.eventually([&] { return flow.candidacy().tried_before() || flow.settled(); }));
  CHECK(ends.with_both([&] { return !flow.settled(); }));
}

TEST_CASE("a flow stays on TCP where there never was a device", "[severed]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& flow = *ends.acceptor.flow;
  ends.with_both([&] { return ends.acceptor.engine.seek(flow), true; });
  CHECK(ends.eventually([&] { return flow.settled_for() == Reason::no_device; }));
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

// Bytes go both ways; links fail at either end, sooner or later at the other, with messages on the way that arrive or
// do not; the flows enter again; each end says at some time that it has said all.
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
          case 1:
            if (&stream != mute) stream.write(1 + any(3000));
            break;
          case 2:
          case 3: stream.read(1 + any(3000)); break;
          case 4:
          case 5:
            for (auto messages = any(8); messages > 0 && Ends::deliver(end); --messages) {
            }
            break;
          case 6:
            if (any(4) == 0 && end.link->alive() && failures++ < kMostFailures) {
              end.link->fail(Reason::link_failed);
            }
            enters = std::none_of(both.begin(), both.end(),
                                  [](auto* it) { return it->link->alive() || !it->flow->eligible(); });
            break;
          case 7:
            if (step > ending && &stream != mute) stream.shutdown();
            break;
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
