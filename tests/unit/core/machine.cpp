// Every (state, event, facts) of flow::step against the table that the Promela model is made of. What the table does
// not list is a breach of the protocol: the flow is reset.

#include "core/flow/machine.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <set>
#include <vector>

using namespace rsock::flow;

namespace {

using Actions = std::array<Action, 2>;
enum class When { always, past, within, raw_sent, no_raw_sent };

struct Row {
  State state;
  Event event;
  When when;
  State next;
  Actions actions{Action::none, Action::none};
};

using enum State;
using enum Event;
// The table has room for three.
consteval Actions two(Action first, Action second, Action third) {
  if (third != Action::none) throw "more than a step can do";
  return {first, second};
}
const Row kTable[] = {
#define STEP(state, event, when, next, first, second, third) \
  {state, event, When::when, next, two(Action::first, Action::second, Action::third)},
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
  std::copy_if(std::begin(kTable), std::end(kTable), std::back_inserter(rows),
               [&](const Row& row) { return row.state == state && row.event == event && applies(row.when, facts); });
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

TEST_CASE("what an end receives, sends, holds and delivers in each state", "[machine]") {
  struct Row {
    State state;
    Receives in;
    Sends out;
    bool holds, takes, delivers, done;
  };
  const Row rows[] = {
      {tcp, Receives::raw, Sends::raw, false, false, false, true},
      {claimed, Receives::raw, Sends::raw, false, false, false, false},
      {accepted, Receives::raw, Sends::nothing, true, false, false, false},
      {confirmed, Receives::raw_to_boundary, Sends::nothing, true, false, false, false},
      {shown, Receives::raw_to_boundary, Sends::nothing, true, false, false, false},
      {answered, Receives::frames, Sends::nothing, true, false, false, false},
      {lane, Receives::frames, Sends::ring, false, true, true, false},
      {shown_resuming, Receives::raw_to_boundary, Sends::nothing, true, false, false, true},
      {resuming, Receives::frames, Sends::nothing, false, false, true, true},
      {yielded, Receives::raw_to_boundary, Sends::raw, false, false, false, true},
      {broken, Receives::nothing, Sends::nothing, false, false, false, false},
  };
  REQUIRE(std::size(rows) == kStates);
  for (const auto& row : rows) {
    CAPTURE(name(row.state));
    CHECK(receives(row.state) == row.in);
    CHECK(sends(row.state) == row.out);
    CHECK(holds(row.state) == row.holds);
    CHECK(takes_ring(row.state) == row.takes);
    CHECK(delivers_ring(row.state) == row.delivers);
    CHECK(done_with_link(row.state) == row.done);
  }
}

TEST_CASE("steps keep the rules that do not depend on a scenario", "[machine]") {
  for_each_step([](State state, Event event, Facts facts) {
    CAPTURE(name(state), name(event), facts.past_boundary, facts.raw_sent);
    const auto got = step(state, event, facts);
    // No byte is in a ring, and none counts, before the peer is known to have read this end's token.
    const bool in_lane = state == lane || state == resuming;
    CHECK((got.state != lane || state == lane || (event == token_seen && state == shown) ||
           (event == witnessed && state == answered)));
    CHECK((got.state != answered || (event == token_seen && state == confirmed)));
    CHECK(does(got, Action::send_witness) == (state == shown && got.state == lane));
    // Whatever this end wrote into the ring is sent again as far as the peer's RESUME says, and only then.
    CHECK(does(got, Action::resend_rest) == ((in_lane || state == answered) && got.state == tcp));
    CHECK((!does(got, Action::resend_rest) || event == resume_received));
    // From the lane on RESUME is said once; before it there is nothing to resume.
    CHECK(does(got, Action::send_resume) ==
          (((state == lane || state == answered) && got.state != lane && got.state != broken) ||
           (state == shown_resuming && got.state == resuming)));
    // One mark stands at N. C shows when S expects it; S answers what it has seen, and says NO to a token alone.
    const bool had_shown = state == shown || state == answered || state == shown_resuming || in_lane;
    const bool marks = does(got, Action::show_token) || does(got, Action::show_no);
    CHECK((!marks || !had_shown));
    CHECK((!does(got, Action::show_token) || (state == accepted && event == confirm_received) ||
           (state == confirmed && event == token_seen)));
    CHECK((!does(got, Action::show_no) ||
           ((event == token_seen || event == foreign_seen) && got.state == tcp && !facts.raw_sent) ||
           (state == confirmed && event == foreign_seen)));
    // C, once its token is out, sends raw only when it knows what S does.
    const bool waits = state == shown || state == shown_resuming;
    CHECK((!waits || got.state != tcp || event == raw_seen || event == no_seen));
    // Only a breach resets, and it stays reset.
    CHECK(does(got, Action::reset) == (got.state == broken && state != broken));
  });
}

TEST_CASE("what the ends of the streams make of each state", "[machine]") {
  for_each_state([](State state) {
    CAPTURE(name(state));
    CHECK(after(state, Ending::lost) == broken);
    // In the lane the program may still read and write; on TCP the kernel knows by itself.
    CHECK(after(state, Ending::over) == (state == tcp || state == lane ? state : broken));
    if (state == lane || state == broken) CHECK(after(state, Ending::handed_back) == tcp);
  });
}

TEST_CASE("a machine's state is what its steps and endings make it", "[machine]") {
  Machine machine;
  CHECK(machine.state() == tcp);
  CHECK_FALSE(machine.allows(token_seen));
  CHECK(machine.allows(claim_received));
  CHECK(machine.step(claim_received).actions[0] == Action::send_accept);
  CHECK(machine.state() == accepted);
  CHECK(machine.allows(confirm_received, {.past_boundary = true}));
  machine.step(confirm_received);
  machine.step(token_seen);
  CHECK(machine.state() == lane);
  machine.end(Ending::over);
  CHECK(machine.state() == lane);
  machine.end(Ending::lost);
  CHECK(machine.state() == broken);
  for (size_t event = 0; event < kEvents; ++event)
    CHECK(machine.allows(static_cast<Event>(event)));  // nothing more is a breach
  machine.end(Ending::handed_back);
  CHECK(machine.state() == tcp);
}

TEST_CASE("names are there and differ", "[machine]") {
  std::set<std::string_view> states, events;
  for_each_step([&](State state, Event event, Facts) { states.insert(name(state)), events.insert(name(event)); });
  CHECK(states.size() == kStates);
  CHECK(events.size() == kEvents);
  CHECK(states.count("") + events.count("") == 0);
}
