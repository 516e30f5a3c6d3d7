// The ends of the streams: the table of what the peer is told, what a peer may tell, what the program hears;
// and two ends that do all that programs can do, in every order.

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <catch2/catch.hpp>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "core/flow/ends.hpp"

using namespace rsock;
using namespace rsock::flow;
using Word = Ends::Word;
using Told = Ends::Told;
using Peer = Ends::Peer;
using Failure = Ends::Failure;

namespace {

constexpr uint64_t kAll = 7;

// An end of which the peer was told this.
Ends told(Told what) {
  Ends ends;
  if (what == Told::ended || what == Told::closed) {
    Ends copy;
    copy.shut_write();
    REQUIRE(copy.next_word(true) == Word::fin);
    if (what == Told::closed) {
      copy.close(false);
      REQUIRE(copy.next_word(true) == Word::fin_closed);
    }
    return copy;
  }
  if (what == Told::reset) ends.tell_reset();
  return ends;
}

}  // namespace

TEST_CASE("what the peer is told, in every state", "[stream_ends]") {
  struct Row {
    Told told;
    bool shut, closes, aborts, all_sent;
    Word word;
    Told next;
  };
  using enum Ends::Told;
  const Row rows[] = {
      // An open end says nothing, nor does one whose bytes are not sent.
      {nothing, false, false, false, true, Word::nothing, nothing},
      {nothing, true, false, false, false, Word::nothing, nothing},
      {nothing, false, true, false, false, Word::nothing, nothing},
      {nothing, true, true, false, false, Word::nothing, nothing},
      {ended, true, true, false, false, Word::nothing, ended},
      // Its end, once; and that it has closed, once more.
      {nothing, true, false, false, true, Word::fin, ended},
      {nothing, false, true, false, true, Word::fin_closed, closed},
      {nothing, true, true, false, true, Word::fin_closed, closed},
      {ended, true, false, false, true, Word::nothing, ended},
      {ended, true, true, false, true, Word::fin_closed, closed},
      {closed, true, true, false, true, Word::nothing, closed},
      // An abort does not wait for bytes.
      {nothing, false, false, true, false, Word::reset, reset},
      {nothing, true, false, true, false, Word::reset, reset},
      {ended, true, false, true, false, Word::reset, reset},
      {ended, true, false, true, true, Word::reset, reset},
      // Nothing comes after it.
      {reset, false, false, false, true, Word::nothing, reset},
      {reset, true, false, false, true, Word::nothing, reset},
      {reset, true, true, false, true, Word::nothing, reset},
      {reset, true, false, true, true, Word::nothing, reset},
  };
  for (const auto& row : rows) {
    for (const bool peer_closed : {false, true}) {
      CAPTURE(&row - rows, peer_closed);
      auto ends = told(row.told);
      if (row.shut) ends.shut_write();
      if (row.closes || row.aborts) ends.close(row.aborts);
      if (peer_closed) ends.peer_left();
      CHECK(ends.next_word(row.all_sent) == (peer_closed ? Word::nothing : row.word));
      CHECK(ends.told() == (peer_closed ? row.told : row.next));
      CHECK(ends.told_all() == (ends.told() == closed || ends.told() == reset));
      CHECK(ends.closing() == (row.closes || row.aborts));
    }
  }
}

TEST_CASE("RESET behind FIN is remembered for the kernel", "[stream_ends]") {
  for (const auto what : {Told::nothing, Told::ended, Told::closed}) {
    auto ends = told(what);
    CHECK_FALSE(ends.ended_before_reset());
    ends.tell_reset();
    CHECK(ends.ended_before_reset() == (what != Told::nothing));
  }
}

TEST_CASE("what a peer may say of its end", "[stream_ends]") {
  struct Row {
    bool ended, left, closing;
    uint64_t total, landed;
    bool closes, allowed;
  };
  const Row rows[] = {
      {false, false, false, kAll, kAll, false, true},
      {false, false, false, kAll, kAll, true, true},
      {false, false, false, kAll, kAll - 1, false, false},  // bytes are missing
      {false, false, false, kAll - 1, kAll, true, false},
      {false, false, true, kAll, 1, true, true},  // nobody counts
      {true, false, false, kAll, kAll, true, true},
      {true, false, false, kAll, kAll, false, false},         // twice
      {true, false, false, kAll + 1, kAll + 1, true, false},  // another end
      {true, false, true, kAll + 1, kAll, true, false},
      {false, true, false, kAll, kAll, true, false},  // it has gone
      {true, true, false, kAll, kAll, true, false},
  };
  for (const auto& row : rows) {
    CAPTURE(&row - rows);
    Ends ends;
    if (row.ended) REQUIRE(ends.fin(kAll, false, kAll));
    if (row.left) ends.peer_left();
    if (row.closing) ends.close(false);
    const auto before = ends.peer();
    CHECK(ends.fin(row.total, row.closes, row.landed) == row.allowed);
    CHECK(ends.peer() == (!row.allowed ? before : row.closes ? Peer::closed : Peer::ended));
    if (row.allowed) CHECK(ends.total() == row.total);
  }
}

TEST_CASE("a reset is heard as the kernel lets it be heard", "[stream_ends]") {
  for (const bool fin : {false, true})
    for (const bool shut : {false, true}) {
      CAPTURE(fin, shut);
      Ends ends;
      if (fin) REQUIRE(ends.fin(kAll, false, kAll));
      if (shut) ends.shut_write();
      ends.reset_comes();
      CHECK(ends.reset_due());
      CHECK(ends.reset() == (fin && shut ? 0 : fin ? EPIPE : ECONNRESET));
      CHECK_FALSE(ends.reset_due());
      CHECK(ends.peer_closed());
    }
}

TEST_CASE("an error is shown once, and then reads give 0 and writes EPIPE", "[stream_ends]") {
  enum class By { read, write, option };
  for (const auto by : {By::read, By::write, By::option}) {
    Ends ends;
    CHECK(ends.may_write(false));
    CHECK(ends.read_end(false).is(EAGAIN));
    CHECK(ends.take_error() == 0);
    ends.fail(ETIMEDOUT);
    CHECK(ends.failure() == Failure::pending);
    CHECK(ends.readiness(false) == (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR));
    CHECK(*ends.read_end(true) == 0);  // what lies in front of it is read first, an end in order, too
    switch (by) {
      case By::read: CHECK(ends.read_end(false).is(ETIMEDOUT)); break;
      case By::write: CHECK(ends.may_write(false).is(ETIMEDOUT)); break;
      case By::option: CHECK(ends.take_error() == ETIMEDOUT); break;
    }
    CHECK(ends.failure() == Failure::shown);
    CHECK(ends.readiness(false) == (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP));
    CHECK(ends.take_error() == 0);
    CHECK(*ends.read_end(false) == 0);
    CHECK(ends.may_write(false).is(EPIPE));
    CHECK(ends.shutdown(SHUT_WR).is(ENOTCONN));
    CHECK(ends.shut_past_end());
    ends.fail(ECONNRESET);  // TCP tells of what the link told before
    CHECK(ends.take_error() == 0);
    CHECK(ends.may_write(false).is(EPIPE));
    ends.hand_back();
    CHECK_FALSE(ends.failed());
  }
}

TEST_CASE("shutdown, and what epoll and the calls say of it", "[stream_ends]") {
  for (const int how : {SHUT_RD, SHUT_WR, SHUT_RDWR})
    for (const bool ended : {false, true}) {
      CAPTURE(how, ended);
      const bool reads = how != SHUT_RD && how != SHUT_RDWR, writes = how == SHUT_RD;
      Ends ends;
      if (ended) REQUIRE(ends.fin(kAll, false, kAll));
      CHECK(ends.shutdown(how));
      CHECK(ends.read_shut() == !reads);
      CHECK(ends.write_shut() == !writes);
      CHECK(ends.both_ended() == (ended && !writes));
      const uint32_t in = !reads || ended ? EPOLLIN | EPOLLRDHUP : 0u, out = writes ? 0u : EPOLLOUT;
      const uint32_t hang_up = (!reads || ended) && !writes ? EPOLLHUP : 0u;
      CHECK(ends.readiness(ended) == (in | out | hang_up));
      CHECK(ends.may_write(false).is(EPIPE) == !writes);
      CHECK(ends.may_write(true));
      if (reads)
        CHECK(ends.read_end(false).is(EAGAIN));
      else
        CHECK(*ends.read_end(false) == 0);
      CHECK(ends.shutdown(how).is(ENOTCONN) == (ended && !writes));
    }
}

TEST_CASE("what the peer said is forgotten with the lane", "[stream_ends]") {
  Ends ends;
  REQUIRE(ends.fin(kAll, false, kAll));
  ends.forget_peer();
  CHECK(ends.peer() == Peer::open);
  CHECK_FALSE(ends.total());
  REQUIRE(ends.fin(1, true, 1));
  ends.forget_peer();
  CHECK(ends.peer_closed());
}

// ---- two ends

namespace {

struct Message {
  enum class Kind { byte, fin, fin_closed, reset } kind;
  uint64_t total = 0;
  auto operator<=>(const Message&) const = default;
};

struct Side {
  Ends ends;
  uint64_t sent = 0, landed = 0;
  std::deque<Message> to_it;
};

using Pair = std::array<Side, 2>;

std::string key(const Pair& pair) {
  std::string text;
  for (const auto& side : pair) {
    for (const auto each :
         {int(side.ends.closing()), int(side.ends.aborts()), int(side.ends.told()), int(side.ends.ended_before_reset()),
          int(side.ends.peer()), int(side.ends.failure()), int(side.ends.read_shut()), int(side.ends.write_shut()),
          int(side.ends.reset_due()), int(side.sent), int(side.landed), int(side.ends.total().value_or(9))})
      text += static_cast<char>('0' + each);
    for (const auto& message : side.to_it)
      text += static_cast<char>('a' + static_cast<int>(message.kind)), text += std::to_string(message.total);
    text += '|';
  }
  return text;
}

// As Flow does what the machine says.
void say(Side& self, Side& other) {
  for (;;) switch (self.ends.next_word(true)) {
      case Word::nothing: return;
      case Word::fin: other.to_it.push_back({Message::Kind::fin, self.sent}); break;
      case Word::fin_closed: other.to_it.push_back({Message::Kind::fin_closed, self.sent}); break;
      case Word::reset: other.to_it.push_back({Message::Kind::reset}); break;
    }
}

// False if an honest peer has said what it must not say.
bool hear(Side& self, Side& other) {
  const auto message = self.to_it.front();
  self.to_it.pop_front();
  const bool unwanted = self.ends.closing() || (self.ends.read_shut() && self.ends.write_shut());
  switch (message.kind) {
    case Message::Kind::byte:
      if (self.ends.peer_closed()) return true;  // a byte that crossed, after all was over
      if (unwanted && self.ends.told() != Told::reset) {
        self.ends.tell_reset();
        other.to_it.push_back({Message::Kind::reset});
        if (!self.ends.closing()) {
          if (const int error = self.ends.reset()) self.ends.fail(error);
          return true;
        }
      }
      if (self.ends.closing()) return true;
      if (self.ends.total()) return false;
      ++self.landed;
      return true;
    case Message::Kind::fin:
    case Message::Kind::fin_closed:
      if (self.ends.peer_closed() && self.ends.told() == Told::reset) return true;  // it crossed our reset
      return self.ends.fin(message.total, message.kind == Message::Kind::fin_closed, self.landed);
    case Message::Kind::reset:
      self.ends.reset_comes();
      if (const int error = self.ends.reset(); error && !self.ends.failed()) self.ends.fail(error);
      return true;
  }
  return true;
}

}  // namespace

TEST_CASE("two ends that do all that programs do never break the protocol, and part", "[stream_ends]") {
  constexpr uint64_t kMost = 2;
  std::set<std::string> seen;
  std::vector<Pair> open{Pair{}};
  std::set<std::tuple<Told, Peer>> met;
  while (!open.empty()) {
    const auto pair = open.back();
    open.pop_back();
    if (!seen.insert(key(pair)).second) continue;
    REQUIRE(seen.size() < 2'000'000);
    bool over = true;
    for (const int me : {0, 1}) {
      const auto& ends = pair[me].ends;
      met.insert({ends.told(), ends.peer()});
      over = over && ends.closing() && pair[me].to_it.empty();
      const auto try_it = [&](const std::function<void(Side&, Side&)>& act) {
        auto next = pair;
        act(next[me], next[1 - me]);
        say(next[me], next[1 - me]);
        open.push_back(next);
      };
      if (!pair[me].to_it.empty()) try_it([](Side& self, Side& other) { REQUIRE(hear(self, other)); });
      if (ends.closing()) continue;
      if (pair[me].sent < kMost && !ends.write_shut() && !ends.failed())
        try_it([](Side& self, Side& other) {
          if (self.ends.peer_closed()) return;  // it goes nowhere
          ++self.sent;
          other.to_it.push_back({Message::Kind::byte});
        });
      for (const int how : {SHUT_RD, SHUT_WR, SHUT_RDWR})
        try_it([=](Side& self, Side&) { (void)self.ends.shutdown(how); });
      for (const bool abort : {false, true})
        try_it([=](Side& self, Side&) { self.ends.close(abort && !self.ends.both_ended()); });
    }
    if (!over) continue;
    for (const auto& side : pair) CHECK((side.ends.told_all() || side.ends.peer_closed()));
  }
  CHECK(met.size() == 12);
}
