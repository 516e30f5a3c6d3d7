// What waits on a link for credits, and what each end has to show before it is one.

#include <cerrno>
#include <utility>
#include <vector>

#include "ends.hpp"

using namespace rsock;
using namespace rsock::engine;

// Thousands of flows that close at once leave their last words behind, which wait for a peer that is slow. It
// is not the peer's fault.
TEST_CASE("the last words of many flows may wait, those of a peer that only asks may not", "[link]") {
  constexpr int kWords = 6000;
  const int flows = GENERATE(3000, 0);
  CAPTURE(flows);
  auto& ends = *new Ends;
  ends.meet();
  ends.with_both([&] {
    auto& link = *ends.acceptor.link;
    std::vector<wire::Slot> slots;
    for (int i = 0; i < flows; ++i) slots.push_back(*link.bind(*ends.acceptor.flow));
    for (const auto slot : slots) link.free(slot);
    for (int i = 0; i < kWords; ++i) link.send(wire::Decline{0, wire::DeclineCause::unknown_flow});
    CHECK(link.alive() == (flows > 0));
    return true;
  });
}

// Whoever flushes goes on until no link gathers.
TEST_CASE("a link whose only flow that gathered has left gathers no more", "[link]") {
  auto& ends = *new Ends;
  ends.meet();
  ends.with_both([&] {
    auto& engine = ends.acceptor.engine;
    auto& link = *ends.acceptor.link;
    const auto one = engine.make_flow(Role::acceptor, -1), other = engine.make_flow(Role::acceptor, -1);
    const auto first = *link.bind(*one), second = *link.bind(*other);
    link.gather(*one);
    link.gather(*other);
    link.free(first);
    CHECK(engine.gathering.size() == 1);
    link.free(second);
    CHECK(engine.gathering.empty());
    return true;
  });
}

namespace {

using Secrets = std::vector<keys::Preshared>;

constexpr keys::Preshared kOne{1}, kTwo{2};

Settings knowing(const Secrets& secrets) {
  auto settings = small();
  settings.secrets = secrets;
  return settings;
}

// A link of one end, and a test at the other; `dialled`: by whom.
struct Met {
  explicit Met(keys::End stranger_is, const Secrets& secrets = {})
      : ends(*new Ends(knowing(secrets))), stranger(*new Stranger(stranger_is)) {
    ends.connect();
    ends.with_both([&] { return stranger.meet(ends.acceptor), true; });
  }
  template <class Act>
  void operator()(Act act) {
    ends.with_both([&] { return act(*ends.acceptor.link, stranger), true; });
  }
  Ends& ends;
  Stranger& stranger;
};

// All that it could say instead.
std::vector<wire::Body> anything_but_a_key() {
  static const uint8_t piece[] = {0, 0, 0, 0, 0, 1, 'a'};
  wire::Claim claim;
  wire::Accept accept;
  claim.ring = accept.ring = {1, 1, 4096};
  return {claim,
          accept,
          wire::Confirm{},
          wire::Decline{},
          wire::Window{},
          wire::Blocked{},
          wire::Grow{.ring = {1, 1, 4096}},
          wire::Switch{},
          wire::Fin{},
          wire::Reset{},
          wire::Retire{},
          wire::Pieces{piece},
          wire::Witness{}};
}

}  // namespace

TEST_CASE("the end that dialled shows first, and once", "[link]") {
  Met met(keys::End::dialled);
  met([](Link& link, Stranger& stranger) {
    CHECK(stranger.hear() == 0);
    CHECK_FALSE(link.ready());
    CHECK(link.secret() == nullptr);
    link.set_ready();
    CHECK(stranger.heard_key());
    CHECK(link.ready());
    link.set_ready();
    CHECK(stranger.hear() == 1);
    stranger.say(stranger.key());
    CHECK(link.alive());
    CHECK(stranger.hear() == 1);
  });
}

TEST_CASE("the end that was dialled says nothing before it has seen the other's key", "[link]") {
  Met met(keys::End::dialler);
  met([](Link& link, Stranger& stranger) {
    link.set_ready();
    CHECK(stranger.hear() == 0);
    CHECK_FALSE(link.ready());
    CHECK(link.secret() == nullptr);
    stranger.say(stranger.key());
    CHECK(stranger.heard_key());
    CHECK(stranger.hear() == 1);
    CHECK(link.ready());
    REQUIRE(link.secret());
    CHECK(link.secret()->proof(keys::End::dialler) == stranger.secret().proof(keys::End::dialler));
  });
}

TEST_CASE("a message before its key costs a peer the link", "[link]") {
  const auto end = GENERATE(keys::End::dialler, keys::End::dialled);
  const auto all = anything_but_a_key();
  CHECK(all.size() == std::variant_size_v<wire::Body> - 2);
  for (const auto& body : all) {
    CAPTURE(body.index());
    Met met(end);
    met([&](Link& link, Stranger& stranger) {
      link.set_ready();
      const auto before = stranger.hear();
      stranger.say(body);
      CHECK_FALSE(link.alive());
      CHECK(stranger.hear() == before);  // and is answered by nothing
    });
  }
}

TEST_CASE("data before its key costs a peer the link", "[link]") {
  const auto end = GENERATE(keys::End::dialler, keys::End::dialled);
  Met met(end);
  met([](Link& link, Stranger&) {
    link.set_ready();
    link.data_landed(wire::immediate(0), 1);
    CHECK_FALSE(link.alive());
  });
}

// Both have receives to give back before either has said anything.
TEST_CASE("credits may come before a key", "[link]") {
  const auto end = GENERATE(keys::End::dialler, keys::End::dialled);
  Met met(end);
  met([](Link& link, Stranger& stranger) {
    stranger.say(wire::Credit{});
    CHECK(link.alive());
    CHECK(link.secret() == (stranger.heard_key() ? link.secret() : nullptr));
    stranger.say(stranger.key());
    CHECK(link.alive());
    CHECK(link.ready());
  });
}

TEST_CASE("a second key costs a peer the link", "[link]") {
  const auto end = GENERATE(keys::End::dialler, keys::End::dialled);
  Met met(end);
  met([](Link& link, Stranger& stranger) {
    link.set_ready();
    stranger.say(stranger.key());
    CHECK(link.alive());
    stranger.say(stranger.key());
    CHECK_FALSE(link.alive());
  });
}

TEST_CASE("a key that is wrong costs a peer the link", "[link]") {
  using enum keys::End;
  struct Wrong {
    const char* what;
    std::function<wire::Key(Stranger&)> key;
    bool counts_if_greeted;  // the end that dialled has the other's public key by its answer, whatever KEY
                             // says
  };
  const std::vector<Wrong> all{
      {"no proof",
       [](Stranger& it) {
         return wire::Key{it.pair.own(), {}};
       },
       true},
      {"one bit",
       [](Stranger& it) {
         auto key = it.key();
         key.proof[15] ^= 1;
         return key;
       },
       true},
      {"of a secret that nobody asks for", [](Stranger& it) { return it.key(&kOne); }, true},
      {"another's key",
       [](Stranger& it) {
         return wire::Key{keys::KeyPair::make()->own(), it.key().proof};
       },
       false},
      {"a key of small order",
       [](Stranger& it) {
         return wire::Key{{}, it.key().proof};
       },
       false},
  };
  for (const auto& wrong : all)
    for (const auto end : {dialler, dialled}) {
      if (end == dialled && !wrong.counts_if_greeted) continue;
      CAPTURE(wrong.what, static_cast<int>(end));
      Met met(end);
      met([&](Link& link, Stranger& stranger) {
        link.set_ready();
        const auto before = stranger.hear();
        stranger.say(wrong.key(stranger));
        CHECK_FALSE(link.alive());
        CHECK_FALSE(link.ready());
        CHECK(stranger.hear() == before);
      });
    }
}

TEST_CASE("a proof that is sent back proves nothing", "[link]") {
  Met met(keys::End::dialled);
  met([](Link& link, Stranger& stranger) {
    link.set_ready();
    REQUIRE(stranger.heard_key());
    stranger.say(std::get<wire::Key>(stranger.heard.front()));
    CHECK_FALSE(link.alive());
  });
}

TEST_CASE("a key of small order in an answer costs a peer the link, and nothing is shown to it", "[link]") {
  auto& ends = *new Ends;
  ends.connect();
  ends.with_both([&] {
    ends.acceptor.wire = new Wire, ends.connector.wire = new Wire;
    ends.acceptor.wire->peer = ends.connector.wire, ends.connector.wire->peer = ends.acceptor.wire;
    Ends::link(ends.acceptor, wire::Greeting{.engine = 7, .receives = kReceives}, true);
    ends.acceptor.link->set_ready();
    CHECK_FALSE(ends.acceptor.link->alive());
    CHECK(ends.connector.wire->arrived.empty());
    return true;
  });
}

// The end that dials shows the first that it knows; the other takes any of its own. So a secret is replaced
// by a second one that all know, which becomes the first, whereupon the old one goes.
TEST_CASE("two ends must know a secret, and may know two", "[link]") {
  struct Row {
    Secrets dialler, dialled;
    bool meet;
  };
  const std::vector<Row> rows{{{}, {}, true},
                              {{kOne}, {kOne}, true},
                              {{kOne}, {}, false},
                              {{}, {kOne}, false},
                              {{kOne}, {kTwo}, false},
                              {{kOne}, {kOne, kTwo}, true},
                              {{kTwo}, {kOne, kTwo}, true},
                              {{kOne, kTwo}, {kTwo, kOne}, true},
                              {{kTwo, kOne}, {kTwo}, true},
                              {{kTwo, kOne}, {kOne}, false}};
  for (const auto& [diallers, dialleds, meet] : rows)
    for (const auto medium : {Lane::rdma, Lane::shm}) {
      CAPTURE(diallers, dialleds, medium == Lane::shm);
      auto& ends = *new Ends(knowing(diallers), knowing(dialleds));
      ends.connect();
      auto& [dialler, dialled] = ends;
      ends.with_both([&] {
        dialler.wire = new Wire, dialled.wire = new Wire;
        dialler.wire->peer = dialled.wire, dialled.wire->peer = dialler.wire;
        dialler.wire->medium = dialled.wire->medium = medium;
        Ends::link(dialler, dialled.engine, true);
        Ends::link(dialled, dialler.engine, false);
        dialler.link->set_ready();
        CHECK(dialled.wire->deliver());
        const bool met = dialler.wire->deliver();
        // Over shared memory none is asked for.
        CHECK(met == (meet || medium == Lane::shm));
        CHECK(dialled.link->ready() == met);
        if (!met) CHECK_FALSE(dialled.link->alive());
        if (met) CHECK(dialler.link->alive());
        if (met)
          CHECK(dialler.link->secret()->proof(keys::End::dialled) == dialled.link->secret()->proof(keys::End::dialled));
        return true;
      });
    }
}

// Somebody who hands the public keys on would give the ends of its two links one secret; but the medium calls
// it by a number of its own at each end.
TEST_CASE("keys that are passed on between two links are no keys", "[link]") {
  auto& ends = *new Ends;
  ends.connect();
  auto& [dialler, dialled] = ends;
  ends.with_both([&] {
    std::array<Wire, 2>& between = *new std::array<Wire, 2>;
    dialler.wire = new Wire, dialled.wire = new Wire;
    dialler.wire->peer = &between[0], between[0].peer = dialler.wire;
    dialled.wire->peer = &between[1], between[1].peer = dialled.wire;
    Ends::link(dialler, dialled.engine, true);
    Ends::link(dialled, dialler.engine, false);
    dialler.link->set_ready();
    REQUIRE(between[0].arrived.size() == 1);
    dialled.wire->arrived.swap(between[0].arrived);
    CHECK(dialled.wire->deliver());
    CHECK_FALSE(dialled.link->alive());
    CHECK(between[1].arrived.empty());
    return true;
  });
}

// Whoever only dials shows no key. An engine that has shown its own keeps its link, though it is older than all of
// theirs.
TEST_CASE("of idle links those without a key go first", "[link]") {
  Met met(keys::End::dialler);
  met([&](Link& honest, Stranger& stranger) {
    auto& end = met.ends.acceptor;
    stranger.say(stranger.key());
    CHECK(honest.proven());
    honest.free(0);  // the place that keeps the service from burying it
    CHECK(honest.flows() == 0);
    std::vector<Link*> strangers;
    for (int i = 0; i < 40; ++i) {
      end.wire = new Wire;
      end.wire->peer = (new Wire);
      end.wire->peer->peer = end.wire;
      wire::Greeting greeting;
      greeting.engine = 7, greeting.receives = kReceives;
      strangers.push_back(
          &end.engine.add_link(std::unique_ptr<Wire>(end.wire), end.flow->remote().address, greeting, false));
    }
    CHECK(honest.alive());
    CHECK_FALSE(strangers.front()->alive());
    CHECK(strangers.back()->alive());
    // So that the service does not bury them.
    for (auto* link : strangers) REQUIRE(link->bind(*end.engine.make_flow(Role::acceptor, -1)));
    REQUIRE(honest.bind(*end.engine.make_flow(Role::acceptor, -1)));
  });
}
