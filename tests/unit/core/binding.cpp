// A place on a link, by itself: the peer is a test, and no flow uses it.

#include "core/engine/flow/binding.hpp"

#include <sys/uio.h>

#include <string>
#include <utility>

#include "ends.hpp"

using namespace rsock;
using namespace rsock::engine;

namespace {

constexpr uint32_t kRing = 4096, kLargest = 64 << 10;
constexpr wire::Slot kPeer = 33;

// A link with a stranger at the other end, both keys known, and a binding to it.
struct Bound {
  Bound() {
    ends.connect();
    ends.with_both([&] {
      stranger.meet(ends.acceptor);
      link().set_ready();
      stranger.say(stranger.key());
      REQUIRE(link().ready());
      stranger.hear();
      stranger.heard.clear();
      slot = *link().bind(*ends.acceptor.flow);
      binding.begin(link(), slot, *link().connection().allocate(kRing));
      binding.set_largest_ring(kLargest);
      return true;
    });
  }
  Link& link() { return *ends.acceptor.link; }
  void know_peer() {
    binding.know_peer(kPeer);
    REQUIRE(binding.mirror({0, 0, kRing}, kLargest));
  }
  // The last thing that the stranger was told; nullptr if it was something else, or nothing.
  template <class Body>
  const Body* told(size_t messages) {
    stranger.hear();
    CHECK(stranger.heard.size() == messages);
    return stranger.heard.empty() ? nullptr : std::get_if<Body>(&stranger.heard.back());
  }
  void land(size_t bytes) {
    const std::vector<uint8_t> some(bytes, 'x');
    REQUIRE(binding.rx.landed(std::span(some)));
  }
  void send(size_t bytes) {
    std::string some(bytes, 'x');
    const iovec from{some.data(), some.size()};
    REQUIRE(*binding.tx.append({&from, 1}) == bytes);
    while (binding.tx.unposted() > 0) binding.tx.posted(binding.tx.next(1 << 20).length);
  }
  template <class Act>
  void operator()(Act act) {
    ends.with_both([&] { return act(), true; });
  }

  Ends& ends = *new Ends;
  Stranger& stranger = *new Stranger(keys::End::dialled);
  wire::Slot slot = 0;
  Binding& binding = *new Binding;
};

}  // namespace

TEST_CASE("a binding is given back when both ends have said RETIRE", "[binding]") {
  const bool peer_first = GENERATE(false, true);
  Bound bound;
  bound([&] {
    auto& it = bound.binding;
    const auto before = bound.link().flows();
    CHECK(it.lane() == Lane::rdma);
    CHECK_FALSE(it.speaks());
    it.retire(false, false);  // to nobody that is known
    CHECK_FALSE(it.retired());
    bound.know_peer();
    CHECK(it.speaks());
    if (peer_first) it.note_peer_retired(), it.release();
    CHECK(it.link());
    it.retire(true, false);
    CHECK(it.retired());
    CHECK_FALSE(it.speaks());
    const auto* retire = bound.told<wire::Retire>(1);
    REQUIRE(retire);
    CHECK(retire->to == kPeer);
    CHECK(retire->finished);
    CHECK_FALSE(retire->begun);
    it.retire(false, true);  // once
    (void)bound.told<wire::Retire>(1);
    CHECK((it.link() == nullptr) == peer_first);
    if (!peer_first) it.note_peer_retired(), it.release();
    CHECK(it.link() == nullptr);
    CHECK(bound.link().flows() == before - 1);
    CHECK(it.lane() == Lane::rdma);  // that it was in
  });
}

TEST_CASE("a binding of which the peer never knew, or of a link that failed, goes at once", "[binding]") {
  const bool fails = GENERATE(false, true);
  Bound bound;
  bound([&] {
    auto& it = bound.binding;
    it.release();
    CHECK(it.link());
    if (fails)
      bound.link().fail(Reason::link_failed), it.release();
    else
      it.retire_unused();
    CHECK(it.link() == nullptr);
    (void)bound.told<wire::Retire>(0);
    it.abandon();  // nothing more
  });
}

TEST_CASE("the window is told when it is due, and when the peer waits", "[binding]") {
  Bound bound;
  bound([&] {
    auto& it = bound.binding;
    bound.know_peer();
    bound.land(kRing);
    it.rx.consume(kRing / 4 - 1);
    it.tell_window_if_due();
    CHECK_FALSE(bound.told<wire::Window>(0));
    it.rx.consume(1);
    it.tell_window_if_due();
    const auto* window = bound.told<wire::Window>(1);
    REQUIRE(window);
    CHECK(window->to == kPeer);
    CHECK(window->consumed == kRing / 4);
    it.rx.sender_blocked();
    for (uint64_t i = 0; i < flow::least_room(kRing); ++i) {
      it.tell_window_if_due();  // not yet: it would not be enough for a small record
      it.rx.consume(1);
    }
    it.tell_window_if_due();
    window = bound.told<wire::Window>(2);
    REQUIRE(window);
    CHECK(window->consumed == kRing / 4 + flow::least_room(kRing));
    it.retire(false, false);
    it.tell_window();
    (void)bound.told<wire::Retire>(3);
  });
}

TEST_CASE("BLOCKED is said once until there is room", "[binding]") {
  Bound bound;
  bound([&] {
    auto& it = bound.binding;
    bound.know_peer();
    bound.send(kRing);
    CHECK_FALSE(it.tx.roomy());
    it.say_blocked();
    it.say_blocked();
    CHECK(bound.told<wire::Blocked>(1));
    CHECK_FALSE(it.note_window(kRing + 1));  // more than was sent
    CHECK(it.note_window(1));
    CHECK_FALSE(it.tx.roomy());  // not for all of a small record
    it.say_blocked();
    CHECK(it.note_window(flow::least_room(kRing)));
    CHECK(it.tx.roomy());
    it.say_blocked();
    CHECK(bound.told<wire::Blocked>(2));
    CHECK(it.take_growth({0, 0, 4 * kRing}));
    it.say_blocked();
    CHECK(bound.told<wire::Blocked>(3));
    it.retire(false, false);
    CHECK(it.note_window(flow::least_room(kRing) + 1));
    it.say_blocked();
    (void)bound.told<wire::Retire>(4);
  });
}

TEST_CASE("a ring grows four times, sixteen times where nobody reads, up to the largest", "[binding]") {
  Bound bound;
  bound([&] {
    auto& it = bound.binding;
    bound.know_peer();
    const bool reads = GENERATE(true, false);
    const auto largest = GENERATE(as<uint32_t>{}, kRing, 2 * kRing, kLargest);
    CAPTURE(reads, largest);
    it.set_largest_ring(largest);
    bound.land(kRing);
    if (reads) it.rx.consume(kRing / 2);
    it.grow();
    bound.stranger.hear();
    const auto& heard = bound.stranger.heard;
    const auto wanted = std::min(kRing * (reads ? 4 : 16), largest);
    if (wanted == kRing) {
      CHECK(heard.empty());
      return;
    }
    REQUIRE(heard.size() == (reads ? 2u : 1u));
    if (reads) CHECK(std::get<wire::Window>(heard.front()).consumed == kRing / 2);  // first
    CHECK(std::get<wire::Grow>(heard.back()).ring.size == wanted);
    it.grow();  // one at a time
    bound.stranger.hear();
    CHECK(heard.size() == (reads ? 3u : 1u));
    CHECK(it.rx.switched());
  });
}

TEST_CASE("a larger ring is taken once, and a second offer is a fault", "[binding]") {
  Bound bound;
  bound([&] {
    auto& it = bound.binding;
    bound.know_peer();
    CHECK(it.mirror({0, 0, 2 * kLargest}, kLargest).is(ENOMEM));
    const auto room = it.tx.room();
    bound.send(100);
    CHECK(it.take_growth({0, 0, 4 * kRing}));
    CHECK(it.tx.room() > room);
    CHECK_FALSE(it.take_growth({0, 0, 16 * kRing}));
  });
}
