#include "core/flow/machine.hpp"

namespace rsock::flow {
namespace {

constexpr Step stay(State state) { return {state}; }
constexpr Step bug() { return {State::broken, {Action::reset}}; }

// Messages of a link that was given up may still arrive; they change nothing.
constexpr Step in_tcp(Event event) {
  switch (event) {
    case Event::claim_wanted: return {State::claimed, {Action::send_claim}};
    case Event::claim_received: return {State::accepted, {Action::send_accept}};
    case Event::accept_received:
    case Event::declined:
    case Event::confirm_received:
    case Event::witnessed:
    case Event::fault: return stay(State::tcp);
    case Event::token_seen:
    case Event::foreign_seen:
    case Event::raw_seen:
    case Event::no_seen:
    case Event::resume_received: return bug();
  }
  return bug();
}

constexpr Step in_claimed(Event event, Facts facts) {
  switch (event) {
    case Event::accept_received:
      if (facts.past_boundary) return stay(State::tcp);  // C gave up before we came to read this
      return {State::confirmed, {Action::send_confirm}};
    case Event::declined:
    case Event::fault: return stay(State::tcp);
    case Event::claim_wanted:
    case Event::claim_received:
    case Event::confirm_received:
    case Event::token_seen:
    case Event::foreign_seen:
    case Event::raw_seen:
    case Event::no_seen:
    case Event::resume_received:
    case Event::witnessed: return bug();
  }
  return bug();
}

constexpr Step in_accepted(Event event, Facts facts) {
  switch (event) {
    case Event::confirm_received:
      if (facts.past_boundary) return stay(State::tcp);
      return {State::shown, {Action::show_token}};
    case Event::fault: return stay(State::tcp);
    case Event::claim_wanted:
    case Event::claim_received:
    case Event::accept_received:
    case Event::declined:
    case Event::token_seen:
    case Event::foreign_seen:
    case Event::raw_seen:
    case Event::no_seen:
    case Event::resume_received:
    case Event::witnessed: return bug();
  }
  return bug();
}

constexpr Step in_confirmed(Event event) {
  switch (event) {
    case Event::token_seen: return {State::answered, {Action::show_token}};
    case Event::foreign_seen: return {State::tcp, {Action::show_no}};
    case Event::raw_seen: return stay(State::tcp);
    case Event::fault: return stay(State::yielded);
    case Event::claim_wanted:
    case Event::claim_received:
    case Event::accept_received:
    case Event::declined:
    case Event::confirm_received:
    case Event::no_seen:
    case Event::resume_received:
    case Event::witnessed: return bug();
  }
  return bug();
}

constexpr Step in_shown(Event event) {
  switch (event) {
    case Event::token_seen: return {State::lane, {Action::send_witness}};
    case Event::raw_seen:
    case Event::no_seen: return stay(State::tcp);
    case Event::fault: return stay(State::shown_resuming);
    case Event::claim_wanted:
    case Event::claim_received:
    case Event::accept_received:
    case Event::declined:
    case Event::confirm_received:
    case Event::foreign_seen:
    case Event::resume_received:
    case Event::witnessed: return bug();
  }
  return bug();
}

// C may be in its lane and out of it before its WITNESS is here, or where that is lost.
constexpr Step in_answered(Event event) {
  switch (event) {
    case Event::witnessed: return stay(State::lane);
    case Event::fault: return {State::resuming, {Action::send_resume}};
    case Event::resume_received: return {State::tcp, {Action::send_resume, Action::resend_rest}};
    case Event::claim_wanted:
    case Event::claim_received:
    case Event::accept_received:
    case Event::declined:
    case Event::confirm_received:
    case Event::token_seen:
    case Event::foreign_seen:
    case Event::raw_seen:
    case Event::no_seen: return bug();
  }
  return bug();
}

constexpr Step in_lane(Event event) {
  switch (event) {
    case Event::fault: return {State::resuming, {Action::send_resume}};
    case Event::resume_received: return {State::tcp, {Action::send_resume, Action::resend_rest}};
    case Event::claim_wanted:
    case Event::claim_received:
    case Event::accept_received:
    case Event::declined:
    case Event::confirm_received:
    case Event::token_seen:
    case Event::foreign_seen:
    case Event::raw_seen:
    case Event::no_seen:
    case Event::witnessed: return bug();
  }
  return bug();
}

constexpr Step in_shown_resuming(Event event) {
  switch (event) {
    case Event::token_seen: return {State::resuming, {Action::send_resume}};
    case Event::raw_seen:
    case Event::no_seen: return stay(State::tcp);
    case Event::fault: return stay(State::shown_resuming);
    case Event::claim_wanted:
    case Event::claim_received:
    case Event::accept_received:
    case Event::declined:
    case Event::confirm_received:
    case Event::foreign_seen:
    case Event::resume_received:
    case Event::witnessed: return bug();
  }
  return bug();
}

constexpr Step in_resuming(Event event) {
  switch (event) {
    case Event::resume_received: return {State::tcp, {Action::resend_rest}};
    case Event::fault:
    case Event::witnessed: return stay(State::resuming);
    case Event::claim_wanted:
    case Event::claim_received:
    case Event::accept_received:
    case Event::declined:
    case Event::confirm_received:
    case Event::token_seen:
    case Event::foreign_seen:
    case Event::raw_seen:
    case Event::no_seen: return bug();
  }
  return bug();
}

constexpr Step in_yielded(Event event, Facts facts) {
  switch (event) {
    case Event::raw_seen: return stay(State::tcp);  // C gave up as well
    case Event::token_seen:
    case Event::foreign_seen:
      // C waits for a sign. Raw bytes of ours at our N are one; if there are none, say it.
      if (facts.raw_sent) return stay(State::tcp);
      return {State::tcp, {Action::show_no}};
    case Event::fault: return stay(State::yielded);
    case Event::claim_wanted:
    case Event::claim_received:
    case Event::accept_received:
    case Event::declined:
    case Event::confirm_received:
    case Event::no_seen:
    case Event::resume_received:
    case Event::witnessed: return bug();
  }
  return bug();
}

}  // namespace

Step step(State state, Event event, Facts facts) {
  switch (state) {
    case State::tcp: return in_tcp(event);
    case State::claimed: return in_claimed(event, facts);
    case State::accepted: return in_accepted(event, facts);
    case State::confirmed: return in_confirmed(event);
    case State::shown: return in_shown(event);
    case State::answered: return in_answered(event);
    case State::lane: return in_lane(event);
    case State::shown_resuming: return in_shown_resuming(event);
    case State::resuming: return in_resuming(event);
    case State::yielded: return in_yielded(event, facts);
    case State::broken: return stay(State::broken);
  }
  return bug();
}

std::string_view name(State state) {
  constexpr std::string_view kNames[kStates] = {"tcp",  "claimed",        "accepted", "confirmed", "shown", "answered",
                                                "lane", "shown_resuming", "resuming", "yielded",   "broken"};
  return kNames[static_cast<size_t>(state)];
}

std::string_view name(Event event) {
  constexpr std::string_view kNames[kEvents] = {"claim_wanted",     "claim_received",  "accept_received", "declined",
                                                "confirm_received", "token_seen",      "foreign_seen",    "raw_seen",
                                                "no_seen",          "resume_received", "witnessed",       "fault"};
  return kNames[static_cast<size_t>(event)];
}

}  // namespace rsock::flow
