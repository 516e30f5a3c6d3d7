// Every (state, event, facts) of flow::step against the table that the Promela model is made of. What the table does not list is a
// breach of the protocol: the flow is reset.

#include "core/flow/machine.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <set>
#include <vector>

using namespace rsock::flow;

namespace {

using Actions = std::array<Action, 3>;
enum class When { always, past, within, raw_sent, no_raw_sent };

struct Row {
  State state;
  Event event;
  When when;
  State next;
  Actions actions{Action::none, Action::none, Action::none};
};

using enum State;
using enum Event;
const Row kTable[] = {
#define STEP(state, event, when, next, first, second, third) \
  {state, event, When::when, next, {Action::first, Action::second, Action::third}},
#include "tests/model/steps.def"
#undef STEP
};

bool applies(When when, Facts facts) {
  switch (when) {
    case When::always: return true;
    case When::past: return facts.past_boundary;
    case When::within: return !facts.past_boundary;
    case When::raw_sent: return facts.raw_sent;
    case When::no_raw_sent: return !facts.raw_sent;
  }
  return false;
}

Step expected(State state, Event event, Facts facts) {
  if (state == broken) return {broken};
  std::vector<Row> rows;
  std::copy_if(std::begin(kTable), std::end(kTable), std::back_inserter(rows), [&](const Row& row) {
    return row.state == state && row.event == event && applies(row.when, facts);
  });
  REQUIRE(rows.size() <= 1);
  if (rows.empty()) return {broken, {Action::reset}};
  return {rows[0].next, rows[0].actions};
}

template <class Check>
void for_each_state(Check check) {
  for (size_t i = 0; i < kStates; ++i) check(static_cast<State>(i));
}

template <class Check>
void for_each_step(Check check) {
  for_each_state([&](State state) {
    for (size_t event = 0; event < kEvents; ++event)
      for (const bool past : {false, true})
        for (const bool raw : {false, true}) check(state, static_cast<Event>(event), Facts{past, raw});
  });
}

bool does(const Step& step, Action action) { return std::count(step.actions.begin(), step.actions.end(), action) > 0; }

}  // namespace

TEST_CASE("every state, event and fact", "[machine]") {
  for_each_step([](State state, Event event, Facts facts) {
    CAPTURE(name(state), name(event), facts.past_boundary, facts.raw_sent);
    const auto want = expected(state, event, facts);
    const auto got = step(state, event, facts);
    CHECK(name(got.state) == name(want.state));
    CHECK(got.actions == want.actions);
  });
}

TEST_CASE("facts default to a boundary that holds and no raw bytes", "[machine]") {
  for_each_step([](State state, Event event, Facts) {
    CHECK(step(state, event).state == step(state, event, Facts{false, false}).state);
    CHECK(step(state, event).actions == step(state, event, Facts{false, false}).actions);
  });
}

TEST_CASE("what an end receives, sends and delivers in each state", "[machine]") {
  struct Row {
    State state;
    Receives in;
    Sends out;
    bool delivers;
  };
  const Row rows[] = {
      {tcp, Receives::raw, Sends::raw, false},
      {claimed, Receives::raw, Sends::raw, false},
      {accepted, Receives::raw, Sends::ring, false},
      {confirmed, Receives::raw_to_boundary, Sends::ring, false},
      {shown, Receives::raw_to_boundary, Sends::ring, false},
      {lane, Receives::frames, Sends::ring, true},
      {shown_resuming, Receives::raw_to_boundary, Sends::nothing, false},
      {resuming, Receives::frames, Sends::nothing, true},
      {yielded, Receives::raw_to_boundary, Sends::raw, false},
      {yielded_seen, Receives::frames, Sends::raw, false},
      {broken, Receives::nothing, Sends::nothing, false},
  };
  REQUIRE(std::size(rows) == kStates);
  for (const auto& row : rows) {
    CAPTURE(name(row.state));
    CHECK(receives(row.state) == row.in);
    CHECK(sends(row.state) == row.out);
    CHECK(delivers_ring(row.state) == row.delivers);
  }
}

TEST_CASE("steps keep the rules that do not depend on a scenario", "[machine]") {
  for_each_step([](State state, Event event, Facts facts) {
    CAPTURE(name(state), name(event), facts.past_boundary, facts.raw_sent);
    const auto got = step(state, event, facts);
    // Whatever this end wrote into the ring is neither forgotten nor sent twice when it goes back to raw bytes.
    const bool leaves_ring = sends(state) != Sends::raw && sends(got.state) == Sends::raw;
    CHECK((does(got, Action::resend_all) || does(got, Action::resend_rest)) == leaves_ring);
    // The peer's offset is known only from its RESUME; ring bytes that may have been delivered are never made void.
    CHECK((!does(got, Action::resend_rest) || event == resume_received));
    CHECK((!does(got, Action::void_received) || !delivers_ring(state)));
    // A token is shown once: by the step into the states behind it.
    const bool had_shown = state == shown || state == lane || state == shown_resuming || state == resuming;
    CHECK((!does(got, Action::show_token) || !had_shown));
    // Ring bytes count only after the peer's token.
    CHECK((!delivers_ring(got.state) || delivers_ring(state) || event == token_seen));
    // Only a breach resets, and it stays reset.
    CHECK(does(got, Action::reset) == (got.state == broken && state != broken));
  });
}

TEST_CASE("names are there and differ", "[machine]") {
  std::set<std::string_view> states, events;
  for_each_step([&](State state, Event event, Facts) { states.insert(name(state)), events.insert(name(event)); });
  CHECK(states.size() == kStates);
  CHECK(events.size() == kEvents);
  CHECK(states.count("") + events.count("") == 0);
}
