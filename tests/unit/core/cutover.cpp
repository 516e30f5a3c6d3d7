// The entering and the leaving of a lane, exhausted: see cutover_model.hpp.

#include <catch2/catch.hpp>

#include "cutover_model.hpp"

using namespace rsock::flow;
using model::explore;
using model::Rules;
using model::Told;

namespace {

void holds(const Rules& rules) {
  const auto found = explore(rules);
  INFO(found.violation);
  CHECK(found.violation.empty());
  // The model is not vacuous: it gets into the lane, out of it, and out on the way.
  CHECK(found.ends.count({State::tcp, State::tcp}) == 1);
  CHECK(found.ends.count({State::lane, State::lane}) == 1);
  CHECK(found.ends.count({State::tcp, State::yielded}) == 1);
  CHECK(found.ends.size() == 3);
}

// Machines that each forget one rule. A model that lets one of them pass would not see much.
struct Mutant {
  const char* rule;
  Step (*step)(State, Event, Facts);
};

template <State S, Event E, State Next, Action... Actions>
Step instead(State state, Event event, Facts facts) {
  if (state == S && event == E) return {Next, {Actions...}};
  return step(state, event, facts);
}

const Mutant kMutants[] = {
    {"an ACCEPT or CONFIRM that comes too late is void",
     [](State state, Event event, Facts facts) { return step(state, event, {false, facts.raw_sent}); }},
    {"C gives up: its ring bytes are sent again", instead<State::accepted, Event::fault, State::tcp, Action::void_received>},
    {"raw bytes at N: the ring bytes are sent again",
     instead<State::confirmed, Event::raw_seen, State::tcp, Action::void_received>},
    {"S does not know whether C gave up",
     instead<State::confirmed, Event::fault, State::tcp, Action::void_received, Action::resend_all>},
    {"S gives up: its ring bytes are sent again",
     instead<State::confirmed, Event::fault, State::yielded, Action::void_received>},
    {"an idle S that gave up answers C's token",
     [](State state, Event event, Facts facts) { return step(state, event, {facts.past_boundary, true}); }},
    {"raw bytes are answer enough to C's token",
     [](State state, Event event, Facts facts) { return step(state, event, {facts.past_boundary, false}); }},
    {"who has shown its token does not give up",
     instead<State::shown, Event::fault, State::tcp, Action::void_received, Action::resend_all>},
    {"who has shown its token sends RESUME before raw bytes",
     instead<State::shown, Event::raw_seen, State::tcp, Action::void_received, Action::resend_all>},
    {"a RESUME is answered", instead<State::lane, Event::resume_received, State::tcp, Action::resend_rest>},
    {"only what the peer lacks is sent again",
     instead<State::resuming, Event::resume_received, State::tcp, Action::resend_all>},
    {"what the peer lacks is sent again",
     instead<State::lane, Event::resume_received, State::tcp, Action::send_resume>},
    {"C's token is as good as its acknowledgement", instead<State::confirmed, Event::token_seen, State::lane>},
    {"S waits for a sign that C expects its token",
     instead<State::claimed, Event::accept_received, State::shown, Action::send_confirm, Action::show_token>},
};

}  // namespace

TEST_CASE("the link dies at any step", "[cutover]") { holds({.units = 2}); }

TEST_CASE("an end leaves at any step, and the link may die too", "[cutover]") {
  holds({.units = 2, .leaves = true, .told = Told::by_retire});
}

TEST_CASE("an end leaves at any step, the other hears of it late", "[cutover]") {
  holds({.units = 2, .leaves = true, .told = Told::later});
}

TEST_CASE("a flow enters a lane again over another link", "[cutover]") {
  holds({.units = 1, .attempts = 2});
  holds({.units = 1, .attempts = 2, .dies = false, .leaves = true});
}

// Minutes and gigabytes: by name only.
TEST_CASE("the whole of it, twice", "[.exhaustive]") {
  holds({.units = 3});
  holds({.units = 2, .attempts = 2});
  holds({.units = 1, .attempts = 2, .leaves = true, .told = Told::by_retire});
  holds({.units = 1, .attempts = 2, .leaves = true, .told = Told::later});
}

TEST_CASE("without faults both ends get into the lane, or none does", "[cutover]") {
  const auto found = explore({.units = 3, .dies = false});
  INFO(found.violation);
  CHECK(found.violation.empty());
  CHECK(found.ends == std::set<std::pair<State, State>>{{State::tcp, State::tcp}, {State::lane, State::lane}});
}

// TCP tells the peer of a flow that left from within the lane; before that, only the link can.
TEST_CASE("an end that leaves on the way into the lane must tell the other", "[cutover]") {
  CHECK_FALSE(explore({.units = 1, .dies = false, .leaves = true, .told = Told::never}).violation.empty());
}

TEST_CASE("every step that is not a breach is taken", "[cutover]") {
  const auto found = explore({.units = 1, .leaves = true});
  for (size_t s = 0; s < kStates; ++s)
    for (size_t e = 0; e < kEvents; ++e) {
      const auto state = static_cast<State>(s);
      const auto event = static_cast<Event>(e);
      CAPTURE(name(state), name(event));
      // An acknowledgement comes once, and S is only `shown` after it; it is let pass in all frozen states alike.
      if (state == State::shown_resuming && event == Event::ack_received) continue;
      const bool breach = step(state, event).state == State::broken;
      CHECK(found.steps.count({state, event}) == (breach ? 0 : 1));
    }
}

TEST_CASE("the model sees each rule that is forgotten", "[cutover]") {
  for (const auto& mutant : kMutants) {
    CAPTURE(mutant.rule);
    CHECK_FALSE(explore({.units = 1, .leaves = true, .step = mutant.step}).violation.empty());
  }
}
