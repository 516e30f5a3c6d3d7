// The entering and the leaving of a lane, exhausted: see cutover_model.hpp.

#include <catch2/catch.hpp>

#include "cutover_model.hpp"

using namespace rsock::flow;
using model::explore;
using model::Rules;

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
     [](State state, Event event, Facts facts) {
       return step(state, event, {false, facts.raw_sent});
     }},
    {"S does not know whether C gave up", instead<State::confirmed, Event::fault, State::tcp>},
    {"raw bytes at N are C's giving up", instead<State::confirmed, Event::raw_seen, State::yielded>},
    {"S answers C's token", instead<State::confirmed, Event::token_seen, State::answered>},
    {"S waits for WITNESS", instead<State::confirmed, Event::token_seen, State::lane, Action::show_token>},
    {"C says it", instead<State::shown, Event::token_seen, State::lane>},
    {"S that has heard nothing yet answers RESUME",
     instead<State::answered, Event::resume_received, State::tcp, Action::resend_rest>},
    {"and does not know whether C has seen its token", instead<State::answered, Event::fault, State::tcp>},
    {"S does not answer before it has seen C's token",
     instead<State::claimed, Event::accept_received, State::shown, Action::send_confirm, Action::show_token>},
    {"S does not enter before it has seen C's token",
     instead<State::claimed, Event::accept_received, State::lane, Action::send_confirm>},
    {"CONFIRM is not as good as S's token",
     instead<State::accepted, Event::confirm_received, State::lane, Action::show_token>},
    {"C shows first", instead<State::accepted, Event::confirm_received, State::shown>},
    {"an idle S that gave up answers C's token",
     [](State state, Event event, Facts facts) {
       return step(state, event, {facts.past_boundary, true});
     }},
    {"raw bytes are answer enough to C's token",
     [](State state, Event event, Facts facts) {
       return step(state, event, {facts.past_boundary, false});
     }},
    {"an end that has shown its token does not give up", instead<State::shown, Event::fault, State::tcp>},
    {"raw bytes in the place of S's token are no lane",
     instead<State::shown, Event::raw_seen, State::resuming, Action::send_resume>},
    {"S's token is seen after the link has gone, too", instead<State::shown_resuming, Event::token_seen, State::tcp>},
    {"and is answered by RESUME", instead<State::shown_resuming, Event::token_seen, State::resuming>},
    {"NO is no token", instead<State::shown_resuming, Event::no_seen, State::resuming, Action::send_resume>},
    {"a RESUME is answered", instead<State::lane, Event::resume_received, State::tcp, Action::resend_rest>},
    {"what the peer lacks is sent again, on its RESUME",
     instead<State::lane, Event::resume_received, State::tcp, Action::send_resume>},
    {"the same, where this end's RESUME came first", instead<State::resuming, Event::resume_received, State::tcp>},
};

const Mutant kRelayedMutants[] = {
    {"a token of another link is none",
     instead<State::confirmed, Event::foreign_seen, State::lane, Action::show_token>},
    {"it is answered", instead<State::confirmed, Event::foreign_seen, State::tcp>},
    {"as what it is", instead<State::confirmed, Event::foreign_seen, State::tcp, Action::show_token>},
    {"also by an S that gave up", instead<State::yielded, Event::foreign_seen, State::tcp>},
};

}  // namespace

TEST_CASE("the link dies at any step", "[cutover]") { holds({.units = 2}); }

TEST_CASE("an end leaves at any step, and the link may die too", "[cutover]") { holds({.units = 2, .leaves = true}); }

TEST_CASE("a flow enters a lane again over another link", "[cutover]") {
  holds({.units = 1, .attempts = 2});
  const auto found = explore({.units = 1, .attempts = 2, .dies = false, .leaves = true});
  INFO(found.violation);
  CHECK(found.violation.empty());
}

// Minutes and gigabytes: by name only.
TEST_CASE("the whole of it, twice", "[.exhaustive]") {
  holds({.units = 3});
  holds({.units = 2, .attempts = 2});
  holds({.units = 1, .attempts = 2, .leaves = true});
}

TEST_CASE("without faults both ends get into the lane, or none does", "[cutover]") {
  const bool leaves = GENERATE(false, true);
  const auto found = explore({.units = leaves ? 2u : 3u, .dies = false, .leaves = leaves});
  INFO(found.violation);
  CHECK(found.violation.empty());
  // Where the link lives, an S that gave up hears that C has as well.
  CHECK(found.ends == std::set<std::pair<State, State>>{{State::tcp, State::tcp}, {State::lane, State::lane}});
}

// Nothing of either program is in a ring, and both go on as if nobody had offered a link.
TEST_CASE("who passes everything on between two links gets no byte", "[cutover]") {
  for (const bool leaves : {false, true}) {
    const auto found = explore({.units = 2, .leaves = leaves, .relayed = true});
    INFO(found.violation);
    CHECK(found.violation.empty());
    CHECK(found.ends.count({State::lane, State::lane}) == 0);
    CHECK(found.steps.count({State::confirmed, Event::foreign_seen}) == 1);
  }
}

// TCP tells the peer of a flow that left from within the lane; before that, only the link can.
TEST_CASE("an end that leaves on the way into the lane must tell the other", "[cutover]") {
  CHECK_FALSE(explore({.units = 1, .dies = false, .leaves = true, .tells = false}).violation.empty());
}

TEST_CASE("every step that is not a breach is taken", "[cutover]") {
  auto found = explore({.units = 1, .leaves = true});
  found.steps.merge(explore({.units = 1, .leaves = true, .relayed = true}).steps);
  for (size_t s = 0; s < kStates; ++s)
    for (size_t e = 0; e < kEvents; ++e) {
      const auto state = static_cast<State>(s);
      const auto event = static_cast<Event>(e);
      CAPTURE(name(state), name(event));
      const bool breach = step(state, event).state == State::broken;
      CHECK(found.steps.count({state, event}) == (breach ? 0 : 1));
    }
}

TEST_CASE("the model sees each rule that is forgotten", "[cutover]") {
  for (const auto& mutant : kMutants) {
    CAPTURE(mutant.rule);
    CHECK_FALSE(explore({.units = 1, .leaves = true, .step = mutant.step}).violation.empty());
  }
  for (const auto& mutant : kRelayedMutants) {
    CAPTURE(mutant.rule);
    CHECK_FALSE(explore({.units = 1, .leaves = true, .relayed = true, .step = mutant.step}).violation.empty());
  }
}
