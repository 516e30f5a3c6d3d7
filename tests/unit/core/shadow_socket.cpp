// The library's use of a real TCP connection, by itself: counts, marks, frames, what is owed, and its ends.

#include "core/engine/flow/shadow_socket.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>
#include <thread>

#include "core/engine/flow/terms.hpp"
#include "ends.hpp"

using namespace rsock;
using namespace rsock::engine;
using Count = ShadowSocket::Count;

namespace {

// A connection: our end, and the peer's as it is.
struct Connection {
  Connection() {
    const auto [one, other] = tcp_connection();
    program = one, peer = other;
    REQUIRE(::fcntl(program, F_SETFL, O_NONBLOCK) == 0);
    socket.emplace(program);
  }
  ~Connection() {
    if (program >= 0) ::close(program);
    if (peer >= 0) ::close(peer);
  }
  void say(std::string_view text) {
    REQUIRE(::send(peer, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
    REQUIRE(eventually([&] { return socket->unread() >= text.size(); }));
  }
  std::string heard(size_t bytes) {
    std::string text(bytes, 0);
    REQUIRE(::recv(peer, text.data(), bytes, MSG_WAITALL) == static_cast<ssize_t>(bytes));
    return text;
  }
  std::string read(size_t most, bool peek = false) {
    std::string text(most, 0);
    const iovec to{text.data(), text.size()};
    const auto got = socket->read({&to, 1}, 0, most, peek);
    if (!got) return "error " + std::to_string(got.error());
    text.resize(*got);
    return text;
  }
  Result<size_t> write(std::string text, size_t skip = 0) {
    const iovec from{text.data(), text.size()};
    return socket->write({&from, 1}, skip, false);
  }
  static bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 5000; ++i, ::usleep(1000))
      if (condition()) return true;
    return false;
  }

  int program = -1, peer = -1;
  std::optional<ShadowSocket> socket;
};

std::span<const uint8_t> octets(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}
std::span<const std::byte> bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace

TEST_CASE("a mark that comes in parts is taken as it comes, and is the program's if it was none", "[shadow_socket]") {
  for (const bool is_mark : {true, false}) {
    Connection it;
    it.say("the token ");
    wire::Mark mark;
    CHECK(*it.socket->peek(0, mark) == 10u);
    it.socket->take_part_of_mark(10);
    CHECK(it.socket->unread() == 0u);
    CHECK(it.socket->position_in() == 0);
    CHECK(*it.socket->peek(0, mark) == 10u);  // not EAGAIN
    it.say("of forty bytes, all of them...");
    it.say("more");
    CHECK(*it.socket->peek(0, mark) == mark.size());
    CHECK(std::string_view(reinterpret_cast<const char*>(mark.data()), mark.size()) ==
          "the token of forty bytes, all of them...");
    if (is_mark) {
      it.socket->take_mark();
      CHECK(it.socket->position_in() == mark.size());
      CHECK(it.socket->raw_in() == 0);
      CHECK(it.read(100) == "more");
    } else {
      const auto part = it.socket->give_part();
      CHECK(std::string_view(reinterpret_cast<const char*>(part.data()), part.size()) == "the token ");
      CHECK(it.socket->raw_in() == 10);
      CHECK(it.read(100) == "of forty bytes, all of them...more");
    }
    CHECK(it.socket->give_part().empty());
  }
}

TEST_CASE("the library's descriptor outlives the program's", "[shadow_socket]") {
  Connection it;
  CHECK(it.socket->fd() == it.program);
  CHECK_FALSE(it.socket->anchored());
  const int copy = ::dup(it.program);
  it.socket->renamed(it.program, copy);
  CHECK(it.socket->fd() == copy);
  it.socket->renamed(it.program, 0);
  CHECK(it.socket->fd() == copy);
  CHECK(it.socket->make_anchor());
  const int own = it.socket->fd();
  CHECK(own != copy);
  CHECK(it.socket->make_anchor());
  CHECK(it.socket->fd() == own);
  ::close(copy);
  CHECK(*it.write("x") == 1);
  CHECK(it.heard(1) == "x");
  it.socket->forget();
  CHECK(it.socket->fd() == -1);
  CHECK(::fcntl(own, F_GETFD) == -1);
}

TEST_CASE("both streams are counted, marks and frames among them", "[shadow_socket]") {
  Connection it;
  it.say("abcdef");
  CHECK(it.read(2) == "ab");
  CHECK(it.read(2, true) == "cd");
  CHECK(it.socket->position_in() == 2);
  CHECK(*it.socket->drop(1, true) == 1);
  CHECK(*it.socket->drop(1, false) == 1);
  it.socket->count_in(1);  // as if another call had taken it
  CHECK(it.socket->position_in() == 4);
  CHECK(it.socket->raw_in() == 4);
  CHECK(*it.write("xyz", 1) == 2);
  it.socket->count_out(3);
  CHECK(it.socket->position_out() == 5);
  it.socket->say(octets("mark"));
  it.socket->say_rest(bytes("rest"));
  CHECK(it.socket->position_out() == 5);
  CHECK(it.socket->owes());
  CHECK(it.socket->rest() == 4);
  CHECK(it.socket->flush());
  CHECK_FALSE(it.socket->owes());
  CHECK(it.socket->position_out() == 13);
  CHECK(it.heard(10) == "yzmarkrest");
}

TEST_CASE("what is owed goes in front, as far as the kernel takes it", "[shadow_socket]") {
  Connection it;
  const std::string much(8 << 20, 'r');
  it.socket->say_rest(bytes(much));
  CHECK_FALSE(it.socket->flush());
  CHECK_FALSE(it.socket->out_ready());
  CHECK(it.socket->rest() > 0);
  CHECK(it.socket->rest() < much.size());
  std::string got;
  while (got.size() < much.size()) {
    got += it.heard(std::min<size_t>(1 << 16, much.size() - got.size()));
    (void)it.socket->flush();
  }
  CHECK(got == much);
  CHECK(it.socket->flush());
  it.socket->say(octets("never"));
  it.socket->unsay();
  CHECK_FALSE(it.socket->owes());
}

TEST_CASE("readiness is what the watch has told, until the kernel says otherwise", "[shadow_socket]") {
  Connection it;
  CHECK(it.socket->begin_watch());
  CHECK_FALSE(it.socket->begin_watch());
  CHECK(it.socket->in_ready());
  CHECK(it.socket->input() == 0);
  CHECK_FALSE(it.socket->in_ready());
  it.say("a");
  CHECK(it.socket->input() == 0);  // nobody has told
  it.socket->became(EPOLLIN);
  CHECK(it.socket->input() == EPOLLIN);
  CHECK(it.read(5) == "a");
  CHECK(it.read(5) == "error " + std::to_string(EAGAIN));
  CHECK_FALSE(it.socket->in_ready());
  it.socket->became(EPOLLHUP);
  CHECK(it.socket->in_ready());
  it.socket->end_watch();
  CHECK_FALSE(it.socket->watched());
}

TEST_CASE("a mark is seen where it stands, and nothing is taken for that", "[shadow_socket]") {
  Connection it;
  wire::Mark mark{};
  it.say("ab");
  CHECK(it.socket->peek(2, mark).is(EAGAIN));
  CHECK(*it.socket->peek(0, mark) == 2);
  it.say(std::string(mark.size() - 1, 'm'));
  CHECK(it.socket->peek(2, mark).is(EAGAIN));  // all or nothing
  it.say("n!");
  REQUIRE(*it.socket->peek(2, mark) == mark.size());
  CHECK(mark.front() == 'm');
  CHECK(mark.back() == 'n');
  CHECK(it.socket->position_in() == 0);
  CHECK(it.read(2) == "ab");
  it.socket->take_mark();
  CHECK(it.socket->position_in() == 2 + mark.size());
  CHECK(it.socket->raw_in() == 2);
  CHECK(it.read(5) == "!");
}

TEST_CASE("a frame may come in parts", "[shadow_socket]") {
  Connection it;
  CHECK(it.socket->collect_frame().is(EAGAIN));
  for (size_t i = 0; i < wire::kFrameSize; ++i) {
    it.say(std::string(1, static_cast<char>(i)));
    CHECK(*it.socket->collect_frame() == i + 1);
  }
  const auto frame = it.socket->take_frame();
  for (size_t i = 0; i < frame.size(); ++i) CHECK(frame[i] == i);
  CHECK(it.socket->position_in() == wire::kFrameSize);
  it.say(std::string(wire::kFrameSize + 1, 'f'));
  CHECK(*it.socket->collect_frame() == wire::kFrameSize);
  it.socket->take_frame();
  CHECK(*it.socket->collect_frame() == 1);
}

TEST_CASE("ends are seen, and tell their errors to those who ask", "[shadow_socket]") {
  Connection it;
  CHECK_FALSE(it.socket->at_end());
  CHECK_FALSE(it.socket->ended_by_peer());
  CHECK_FALSE(it.socket->was_over());
  it.say("a");
  SECTION("in order") {
    ::shutdown(it.peer, SHUT_WR);
    REQUIRE(it.eventually([&] { return it.socket->ended_by_peer(); }));
    CHECK_FALSE(it.socket->at_end());
    CHECK(it.read(5) == "a");
    CHECK(it.socket->at_end());
    CHECK(it.read(5).empty());
    CHECK(*it.socket->collect_frame() == 0);
    CHECK_FALSE(it.socket->was_over());  // that is asked twice
    CHECK(it.socket->was_over());
  }
  SECTION("by a reset") {
    const linger hard{1, 0};
    ::setsockopt(it.peer, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    ::close(std::exchange(it.peer, -1));
    REQUIRE(it.eventually([&] { return it.socket->over(); }));
    CHECK((it.socket->at_end() || it.socket->unread() == 1u));
  }
}

TEST_CASE("an end is suspected once, and then known", "[shadow_socket]") {
  Connection it;
  CHECK_FALSE(it.socket->end_suspected());
  CHECK(it.socket->suspect_end(ECONNRESET));
  CHECK_FALSE(it.socket->suspect_end(0));
  CHECK(it.socket->end_suspected());
  CHECK_FALSE(it.socket->ended());
  CHECK_FALSE(it.socket->in_ready());
  CHECK(it.socket->take_suspected_end() == ECONNRESET);
  CHECK(it.socket->ended());
  CHECK_FALSE(it.socket->end_suspected());
}

TEST_CASE("the sending half is shut once; a hard end is a reset", "[shadow_socket]") {
  Connection it;
  REQUIRE(it.socket->make_anchor());
  char byte = 0;
  SECTION("shut") {
    it.socket->shut();
    CHECK(it.socket->is_shut());
    CHECK(::recv(it.peer, &byte, 1, 0) == 0);
  }
  SECTION("hard") {
    it.socket->end_hard();
    ::close(std::exchange(it.program, -1));
    it.socket->forget();
    CHECK(::recv(it.peer, &byte, 1, 0) == -1);
    CHECK(errno == ECONNRESET);
  }
  SECTION("a byte for a peer that has closed provokes one") {
    ::close(std::exchange(it.peer, -1));
    it.socket->provoke_reset();
    CHECK(it.eventually([&] { return it.socket->readiness() & EPOLLHUP; }));
  }
  SECTION("unread bytes that come too late are answered by one") {
    it.socket->reset_if_unread();
    it.say("late");
    it.socket->reset_if_unread();
    CHECK(::recv(it.peer, &byte, 1, 0) == -1);
    CHECK(errno == ECONNRESET);
  }
}

TEST_CASE("TCP_NODELAY is used to push, and is the program's afterwards", "[shadow_socket]") {
  Connection it;
  const int on = 1;
  int value = 0;
  socklen_t size = sizeof value;
  ::setsockopt(it.program, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
  CHECK(*it.write("corked") == 6);
  it.socket->push();
  CHECK(it.heard(6) == "corked");
  CHECK(::getsockopt(it.program, IPPROTO_TCP, TCP_NODELAY, &value, &size) == 0);
  CHECK(value == 0);
  CHECK_FALSE(it.socket->own_nodelay());
}

TEST_CASE("what the program set is asked of the kernel", "[shadow_socket]") {
  Connection it;
  CHECK(it.socket->option(SOL_SOCKET, SO_RCVLOWAT, 7) == 1);
  CHECK(it.socket->option(SOL_SOCKET, 9999, 7) == 7);
  CHECK_FALSE(it.socket->resets_on_close());
  CHECK_FALSE(it.socket->asks_for_segments());
  const linger hard{1, 0}, soft{1, 5};
  ::setsockopt(it.program, SOL_SOCKET, SO_LINGER, &soft, sizeof soft);
  CHECK_FALSE(it.socket->resets_on_close());
  ::setsockopt(it.program, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  CHECK(it.socket->resets_on_close());
  const int on = 1;
  ::setsockopt(it.program, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on);
  CHECK(it.socket->asks_for_segments());
  CHECK(ShadowSocket::is_of_segments(SOL_SOCKET, SO_TIMESTAMP));
  CHECK_FALSE(ShadowSocket::is_of_segments(SOL_SOCKET, SO_KEEPALIVE));
}

TEST_CASE("the kernel's counts are compared with ours", "[shadow_socket]") {
  Connection it;
  const auto compared = [&] { return it.socket->compare_with_kernel(true); };
  CHECK(compared() == Count::agrees);
  CHECK(*it.write("abc") == 3);
  it.say("def");
  CHECK(compared() == Count::agrees);  // unread bytes are nobody's yet
  char byte = 0;
  SECTION("somebody else sent") {
    REQUIRE(::send(it.program, "x", 1, 0) == 1);
    CHECK(compared() == Count::differs);
    it.socket->count_out(1);
    CHECK(compared() == Count::agrees);
  }
  SECTION("somebody else read") {
    REQUIRE(::recv(it.program, &byte, 1, 0) == 1);
    CHECK(compared() == Count::differs);
  }
  SECTION("one end has ended") {
    ::shutdown(it.peer, SHUT_WR);
    CHECK(it.eventually([&] { return compared() == Count::half_closed; }));
  }
  SECTION("there is no socket") {
    it.socket->forget();
    CHECK(compared() == Count::unknown);
  }
}

// ---- what a cutover agrees on, whose marks stand there

namespace {

struct TwoEnds {
  Terms acceptor{keys::Side::acceptor}, connector{keys::Side::connector};
  TwoEnds() {
    const auto a = std::move(*keys::KeyPair::make()), b = std::move(*keys::KeyPair::make());
    const std::array<uint32_t, 2> numbers{1, 2}, other_way{2, 1};
    const auto at_a = *keys::LinkKey::agree(a, b.own(), keys::End::dialler, numbers, nullptr);
    const auto at_b = *keys::LinkKey::agree(b, a.own(), keys::End::dialled, other_way, nullptr);
    REQUIRE(acceptor.begin());
    REQUIRE(connector.begin());
    const wire::Claim claim{1, {}, {}, {1, 1, 4096}, acceptor.nonce()};
    const wire::Accept accept{1, 2, {2, 2, 4096}, connector.nonce(), 10};
    acceptor.set_claim(claim);
    connector.set_claim(claim);
    acceptor.agree(at_a, accept);
    connector.agree(at_b, accept);
    connector.fix_own_offset(10);
    acceptor.set_peer_offset(10);
    acceptor.fix_own_offset(20);
    connector.set_peer_offset(20);
  }
};

}  // namespace

TEST_CASE("each end knows the other's marks, and no others", "[shadow_socket]") {
  TwoEnds ends;
  // Before it has read the other's, the acceptor's answers nothing.
  CHECK(ends.connector.judge(ends.acceptor.token()) == keys::Seen::foreign);
  CHECK(ends.connector.judge(ends.acceptor.no()) == keys::Seen::foreign);
  CHECK(ends.acceptor.judge(ends.connector.token()) == keys::Seen::token);
  CHECK(ends.connector.judge(ends.acceptor.no()) == keys::Seen::no);
  CHECK(ends.connector.judge(ends.acceptor.token()) == keys::Seen::token);
  CHECK(ends.connector.witness() == ends.acceptor.witness());
  CHECK(TwoEnds().connector.witness() != ends.connector.witness());
  CHECK(ends.connector.judge(ends.connector.token()) == keys::Seen::unlike);      // its own, sent back
  CHECK(TwoEnds().connector.judge(ends.acceptor.token()) == keys::Seen::unlike);  // another cutover's
  ends.acceptor.fix_own_offset(21);
  CHECK(ends.connector.judge(ends.acceptor.token()) == keys::Seen::unlike);  // of another place
}

TEST_CASE("frames belong to their cutover", "[shadow_socket]") {
  TwoEnds ends;
  CHECK(ends.acceptor.judge(ends.connector.token()) == keys::Seen::token);
  CHECK(ends.connector.judge(ends.acceptor.token()) == keys::Seen::token);
  const auto bytes = ends.acceptor.frame({wire::FrameKind::leave, 77, 88});
  const auto frame = ends.connector.decode(bytes);
  REQUIRE(frame);
  CHECK(frame->kind == wire::FrameKind::leave);
  CHECK(frame->consumed == 77);
  CHECK(frame->written == 88);
  CHECK_FALSE(ends.acceptor.decode(bytes));
  CHECK_FALSE(TwoEnds().connector.decode(bytes));
}

TEST_CASE("a new cutover has new terms", "[shadow_socket]") {
  TwoEnds ends;
  auto& it = ends.acceptor;
  CHECK(it.left(4) == 6);
  CHECK(it.left(10) == 0);
  CHECK(it.left(11) == 0);
  it.note_shown();
  it.set_mark_ahead(true);
  const auto nonce = it.nonce();
  REQUIRE(it.begin());
  CHECK(it.nonce() != nonce);
  CHECK_FALSE(it.shown());
  CHECK_FALSE(it.mark_ahead());
}
