#include <algorithm>
#include <cstdio>
#include <span>
#include <string_view>

#include "core/wire/frame.hpp"
#include "tests/programs/hostile/acts.hpp"

namespace hostile {
namespace {

constexpr uint64_t kAhead = 1000;  // bytes that are never said

struct Misdeed {
  const char* name;
  Who who;
  Step step;
  void (*commit)(Play&);
};

wire::Claim claim_of_nobody(Play& play) {
  auto claim = play.claim();
  claim.connector.port ^= 0x5555;
  return claim;
}

void raw_message(Play& play, const Bytes& bytes) { play.line().raw(bytes); }

// Questions that must be answered, with just enough credits to keep the victim from failing the link for that.
void starve(Play& play, const wire::Body& question) {
  const auto deadline = Clock::now() + 10s;
  for (int i = 0; i < 60000 && play.line().state == Line::State::up && Clock::now() < deadline; ++i) {
    play.until([] { return true; }, 0ms);
    play.say(question, static_cast<uint32_t>(std::max(0, i / 33 - static_cast<int>(kReceives))));
  }
}

// Redis has an answer to give in a few seconds, when the cutover has come as far as that. It is kept back until the
// connection ends.
void withhold_witness(Play& play) {
  play.tcp.send(std::string_view("BLPOP nothing 3\r\n"));
  play.say(play.accept());
  if (!play.goes_on(Step::confirmed) || !play.goes_on(Step::answered))
    return void(std::puts("no-witness: not reached"));
  const auto read = play.tcp.receive([](const auto&) { return false; }, 50s);
  play.until([] { return false; }, 100ms);
  std::printf("without a witness: %zu bytes on TCP, %zu in the ring\n", read.size(), play.line().landed());
}

const Misdeed kMisdeeds[] = {
    // messages
    {"random-message", Who::either, Step::claimed, [](Play& p) { raw_message(p, random_bytes(48)); }},
    {"empty-message", Who::either, Step::claimed, [](Play& p) { raw_message(p, {}); }},
    {"short-message", Who::either, Step::claimed, [](Play& p) { raw_message(p, {0, 0, 0}); }},
    {"unknown-kind", Who::either, Step::claimed, [](Play& p) { raw_message(p, {200, 0, 0, 0, 0, 0, 0, 0}); }},
    {"long-message", Who::either, Step::claimed, [](Play& p) { p.line().blank(kBlank); }},
    {"slot-of-nobody", Who::either, Step::claimed, [](Play& p) { p.say(wire::Window{12345, 0}); }},
    {"data-for-nobody", Who::either, Step::claimed, [](Play& p) { p.line().write({}, 0, 999); }},
    {"data-of-no-slot", Who::either, Step::claimed, [](Play& p) { p.line().write({}, 0, 0xff000000); }},
    {"unused-credits", Who::either, Step::claimed, [](Play& p) { p.say(wire::Credit{}, 1000); }},
    {"too-many-messages", Who::either, Step::accepted,
     [](Play& p) {
       for (int i = 0; i < 20000 && p.line().state == Line::State::up; ++i) {
         p.until([] { return true; }, 0ms);
         p.say(wire::Credit{}, 0);
       }
     }},
    // CLAIM
    {"claims-of-nobody", Who::either, Step::claimed,
     [](Play& p) {
       for (int i = 0; i < 100; ++i) p.say(claim_of_nobody(p));  // within its credits
     }},
    {"starved-claims", Who::either, Step::accepted, [](Play& p) { starve(p, claim_of_nobody(p)); }},
    {"claimed-twice", Who::server, Step::accepted, [](Play& p) { p.say(p.claim()); }},
    {"ring-of-odd-size", Who::server, Step::linked,
     [](Play& p) {
       auto claim = p.claim();
       claim.ring.size = 3000;
       p.say(claim);
     }},
    {"ring-too-large", Who::server, Step::linked,
     [](Play& p) {
       auto claim = p.claim();
       claim.ring.size = 1 << 26;
       p.say(claim);
     }},
    // KEY
    {"message-before-key", Who::server, Step::linked, [](Play& p) { p.say(p.claim()); }},
    {"window-before-key", Who::either, Step::linked, [](Play& p) { p.say(wire::Window{0, 0}); }},
    {"second-key", Who::either, Step::keyed, [](Play& p) { p.say(p.key()); }},
    {"late-key", Who::either, Step::lane, [](Play& p) { p.say(p.key()); }},
    {"wrong-proof", Who::either, Step::linked, [](Play& p) { p.say(wire::Key{own_keys().own(), random_array<wire::Proof>()}); }},
    {"returned-proof", Who::client, Step::linked, [](Play& p) { p.say(p.shown); }},
    {"key-of-small-order", Who::server, Step::linked, [](Play& p) { p.say(wire::Key{{}, p.key().proof}); }},
    // the cutover
    {"accepted-twice", Who::client, Step::accepted, [](Play& p) { p.say(p.accept()); }},
    {"accepted-by-acceptor", Who::server, Step::accepted,
     [](Play& p) { p.say(wire::Accept{p.peer_slot, kOwnSlot, p.line().ring(), random_array<wire::Nonce>(), 0}); }},
    {"confirmed-by-connector", Who::client, Step::accepted, [](Play& p) { p.say(wire::Confirm{p.peer_slot, p.offset}); }},
    {"confirmed-twice", Who::server, Step::confirmed, [](Play& p) { p.say(wire::Confirm{p.peer_slot, p.offset}); }},
    {"offset-too-large", Who::client, Step::claimed, [](Play& p) { p.say(p.accept(1ull << 60)); }},
    {"offset-ahead", Who::client, Step::claimed, [](Play& p) { p.say(p.accept(p.tcp.sent() + kAhead)); }},
    {"offset-too-small", Who::client, Step::claimed, [](Play& p) { p.say(p.accept(0)); }},
    {"confirmed-too-large", Who::server, Step::accepted, [](Play& p) { p.say(wire::Confirm{p.peer_slot, 1ull << 60}); }},
    {"confirmed-ahead", Who::server, Step::accepted,
     [](Play& p) { p.say(wire::Confirm{p.peer_slot, p.tcp.sent() + kAhead}); }},
    {"confirmed-too-small", Who::server, Step::accepted, [](Play& p) { p.say(wire::Confirm{p.peer_slot, 0}); }},
    {"retired-early", Who::client, Step::claimed, [](Play& p) { p.say(wire::Retire{p.peer_slot, false, false}); }},
    {"retired-accepted", Who::server, Step::accepted, [](Play& p) { p.say(wire::Retire{p.peer_slot, false, true}); }},
    {"retired-shown", Who::server, Step::confirmed,
     [](Play& p) {
       if (p.await_token()) p.say(wire::Retire{p.peer_slot, false, false});
     }},
    // It says that its token is on the way, which never comes; or that none is, and shows it.
    {"retired-begun-without-token", Who::client, Step::confirmed, [](Play& p) { p.say(wire::Retire{p.peer_slot, false, true}); }},
    {"retired-unbegun-with-token", Who::client, Step::confirmed,
     [](Play& p) {
       p.say(wire::Retire{p.peer_slot, false, false});
       p.until([] { return false; }, 200ms);
       p.tcp.send(p.own_mark());
     }},
    {"ended-early", Who::either, Step::accepted, [](Play& p) { p.say(wire::Fin{p.peer_slot, 0, false}); }},
    {"closed-early", Who::either, Step::accepted, [](Play& p) { p.say(wire::Fin{p.peer_slot, 0, true}); }},
    {"reset-early", Who::either, Step::accepted, [](Play& p) { p.say(wire::Reset{p.peer_slot}); }},
    {"data-when-accepted", Who::server, Step::accepted, [](Play& p) { p.line().put(p.peer_ring, "PING\r\n", p.peer_slot); }},
    {"data-when-confirmed", Who::client, Step::confirmed, [](Play& p) { p.line().put(p.peer_ring, "PING\r\n", p.peer_slot); }},
    // What only a client's WITNESS allows.
    {"data-and-no-token", Who::server, Step::confirmed,
     [](Play& p) {
       if (p.await_token()) p.line().put(p.peer_ring, "PING\r\n", p.peer_slot);
     }},
    {"ended-and-no-token", Who::server, Step::confirmed,
     [](Play& p) {
       if (p.await_token()) p.say(wire::Fin{p.peer_slot, 0, false});
     }},
    {"reset-and-no-token", Who::server, Step::confirmed,
     [](Play& p) {
       if (p.await_token()) p.say(wire::Reset{p.peer_slot});
     }},
    {"data-without-witness", Who::client, Step::answered, [](Play& p) { p.line().put(p.peer_ring, "PING\r\n", p.peer_slot); }},
    {"ended-without-witness", Who::client, Step::answered, [](Play& p) { p.say(wire::Fin{p.peer_slot, 0, false}); }},
    {"reset-without-witness", Who::client, Step::answered, [](Play& p) { p.say(wire::Reset{p.peer_slot}); }},
    // WITNESS
    {"witness-early", Who::client, Step::confirmed, [](Play& p) { p.say(wire::Witness{p.peer_slot, p.witness()}); }},
    {"witness-wrong", Who::client, Step::answered,
     [](Play& p) { p.say(wire::Witness{p.peer_slot, random_array<wire::WitnessCode>()}); }},
    {"witness-twice", Who::client, Step::lane, [](Play& p) { p.say(wire::Witness{p.peer_slot, p.witness()}); }},
    // Allowed: it has left its lane before that was heard.
    {"witness-too-late", Who::client, Step::answered,
     [](Play& p) {
       p.tcp.send(wire::encode(p.own_mark(), {wire::FrameKind::resume, 0}));
       p.until([] { return false; }, 300ms);
       p.say(wire::Witness{p.peer_slot, p.witness()});
     }},
    // Allowed: a peer that was slow has not heard yet that the connection was reset.
    {"witness-when-reset", Who::client, Step::answered,
     [](Play& p) {
       p.tcp.send(random_bytes(wire::kFrameSize));
       p.until([] { return false; }, 100ms);
       p.say(wire::Witness{p.peer_slot, p.witness()});
       p.say(wire::Retire{p.peer_slot, false, true});
     }},
    {"witness-by-acceptor", Who::server, Step::confirmed,
     [](Play& p) {
       if (p.await_token()) p.say(wire::Witness{p.peer_slot, p.witness()});
     }},
    {"no-witness", Who::client, Step::claimed, withhold_witness},
    {"wrong-token", Who::either, Step::confirmed, [](Play& p) { p.tcp.send(plain_array<wire::Mark>()); }},
    {"half-a-token", Who::either, Step::confirmed,
     [](Play& p) {
       const auto mark = p.own_mark(), other = plain_array<wire::Mark>();
       p.tcp.send(std::span(mark).first(4));
       p.tcp.send(std::span(other).subspan(4));
     }},
    {"token-of-another-link", Who::either, Step::confirmed,
     [](Play& p) {
       if (p.is_client() || p.await_token()) p.tcp.send(p.mark_of_another_link());
     }},
    {"token-of-another-nonce", Who::either, Step::confirmed,
     [](Play& p) {
       if (p.is_client() || p.await_token()) p.tcp.send(p.mark_of_another_nonce());
     }},
    // A mark whose fresh bytes are not those that it was made with, and of a server: marks that do not answer the client's.
    {"token-freshened", Who::either, Step::confirmed,
     [](Play& p) {
       if (!p.is_client() && !p.await_token()) return;
       auto mark = p.own_mark();
       mark.back() ^= 1;
       p.tcp.send(mark);
     }},
    {"token-without-answer", Who::server, Step::confirmed,
     [](Play& p) {
       if (p.await_token()) p.tcp.send(p.mark_that_answers({}));
     }},
    {"no-without-answer", Who::server, Step::confirmed,
     [](Play& p) {
       if (p.await_token()) p.tcp.send(p.no_that_answers({}));
     }},
    {"no-from-client", Who::client, Step::confirmed, [](Play& p) { p.tcp.send(p.no()); }},
    {"no-from-server", Who::server, Step::confirmed,
     [](Play& p) {
       if (p.await_token()) p.tcp.send(p.no());
     }},
    // in the lane
    {"data-beyond-window", Who::either, Step::lane,
     [](Play& p) { p.line().write(p.peer_ring, 2 * p.peer_ring.size, p.peer_slot); }},
    {"data-elsewhere", Who::either, Step::lane, [](Play& p) { p.line().write({0x1000, p.peer_ring.key, 0}, 64, p.peer_slot); }},
    {"data-by-wrong-key", Who::either, Step::lane,
     [](Play& p) { p.line().write({p.peer_ring.address, ~p.peer_ring.key, 0}, 64, p.peer_slot); }},
    {"read-of-memory", Who::either, Step::lane,
     [](Play& p) { p.line().write(p.peer_ring, 64, 0, IBV_WR_RDMA_READ); }},
    {"window-beyond-posted", Who::either, Step::lane, [](Play& p) { p.say(wire::Window{p.peer_slot, 1ull << 40}); }},
    {"growth-without-end", Who::either, Step::lane,
     [](Play& p) {
       auto ring = p.line().ring();
       for (uint32_t i = 0; i < 8; ++i) ring.size = 4096u << i, p.say(wire::Grow{p.peer_slot, ring});
     }},
    {"growth-of-odd-size", Who::either, Step::lane,
     [](Play& p) { p.say(wire::Grow{p.peer_slot, {p.line().ring().address, 0, 5000}}); }},
    {"switch-to-nothing", Who::either, Step::lane, [](Play& p) { p.say(wire::Switch{p.peer_slot}); }},
    {"starved-windows", Who::either, Step::lane,
     [](Play& p) {
       for (int i = 0; i < 4; ++i) p.line().write(p.peer_ring, 2, p.peer_slot);
       p.until([] { return false; }, 50ms);
       starve(p, wire::Blocked{p.peer_slot});
     }},
    {"ended-twice", Who::either, Step::lane,
     [](Play& p) { p.say(wire::Fin{p.peer_slot, 0, false}), p.say(wire::Fin{p.peer_slot, 0, false}); }},
    {"ended-elsewhere", Who::either, Step::lane, [](Play& p) { p.say(wire::Fin{p.peer_slot, 999, false}); }},
    {"retired-twice", Who::either, Step::lane,
     [](Play& p) { p.say(wire::Retire{p.peer_slot, false, true}), p.say(wire::Retire{p.peer_slot, false, true}); }},
    {"garbage-frame", Who::either, Step::lane, [](Play& p) { p.tcp.send(random_bytes(wire::kFrameSize)); }},
    {"resume-beyond", Who::either, Step::lane,
     [](Play& p) { p.tcp.send(wire::encode(p.own_mark(), {wire::FrameKind::resume, 1ull << 50})); }},
    {"resume-elsewhere", Who::either, Step::lane,
     [](Play& p) { p.tcp.send(wire::encode(plain_array<wire::Mark>(), {wire::FrameKind::resume, 0})); }},
    {"resume-by-peers-token", Who::either, Step::lane,
     [](Play& p) { p.tcp.send(wire::encode(p.peer_mark(), {wire::FrameKind::resume, 0})); }},
    // RETIRE{finished} answers FIN{closed}, which nobody sent: the victim has only ended its stream, and has bytes to read.
    {"retired-half", Who::client, Step::lane,
     [](Play& p) {
       p.until([&] { return p.line().take<wire::Fin>().has_value(); }, kPatience);
       p.line().write(p.peer_ring, 64, p.peer_slot);
       p.say(wire::Retire{p.peer_slot, true, true});
     }},
};

void play_part(const Misdeed& misdeed, Play& play) {
  if (play.reach(misdeed.step))
    misdeed.commit(play);
  else
    std::printf("%s: not reached\n", misdeed.name);
}

// Where the victim is to write, from the beginning.
void claim_ring_of_nobody(Play& play) {
  play.claimed_ring = wire::RingPlace{0x1000, 1, kRing};
  if (play.reach(Step::lane)) play.line().put(play.peer_ring, "PING\r\n", play.peer_slot);
}

}  // namespace

std::vector<Act> misdeeds() {
  std::vector<Act> acts{{"ring-of-nobody", Who::either, claim_ring_of_nobody}};
  for (const auto& each : kMisdeeds)
    acts.push_back({each.name, each.who, [&each](Play& play) { play_part(each, play); }});
  return acts;
}

}  // namespace hostile
