#pragma once
// The machine of one end of one flow: how its bytes enter a lane and come back to TCP. Pure: a state and an event give
// a state and actions; no call, clock, lock or memory. docs/protocol.md tells the same with pictures.
//
// C is the connecting end, S the accepting end. N_x is the offset of end x's TCP stream at which its mark stands; each
// receiver takes the bytes up to N from TCP, then the mark, then its ring. An end whose N is fixed holds its program's
// bytes until it knows that the peer has read its token, or gives up: no byte is in a ring before that. S's token tells
// C that, since it answers C's; C's WITNESS tells it S.
//
// 1  enter           C: tcp > accepted > shown > lane              S: tcp > claimed > confirmed > answered > lane
// 2  C gives up      C: accepted > tcp                             S: confirmed, raw bytes where a token may be > tcp
// 3  S gives up      S: confirmed > yielded                        C: shown, raw bytes where a token may be > tcp
// 4  S gave up, idle S: yielded sees C's token > tcp, answers NO   C: shown > tcp
// 5  another link's  S: confirmed sees a token that was made for another link > tcp, answers NO
// 6  resume          both: lane > resuming > tcp, or lane > tcp when the peer's RESUME comes first; S from answered as
// from lane
//
// In every state a link that fails is the event `fault`; leaving on purpose is the same event.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace rsock::flow {

enum class State : uint8_t {
  tcp,             // raw both ways
  claimed,         // S: CLAIM is out
  accepted,        // C: ACCEPT is out; sends nothing, receives raw
  confirmed,       // S: CONFIRM is out; sends nothing, receives raw up to N, then a mark or raw bytes
  shown,           // C: its token is out; sends nothing, receives as in confirmed
  answered,        // S: its token is out, in answer to C's; sends nothing, receives frames
  lane,            // the peer has read this end's token
  shown_resuming,  // C: as shown, but the link is gone
  resuming,        // as lane, but frozen: RESUME is out, the peer's is awaited
  yielded,         // S: gave up its cutover without knowing whether C did; sends raw, receives as in confirmed
  broken,          // the peer broke the protocol: the flow is reset
};
inline constexpr size_t kStates = 11;

enum class Event : uint8_t {
  claim_wanted,      // S: a link to the peer's address is there
  claim_received,    // C
  accept_received,   // S
  declined,          // S
  confirm_received,  // C
  token_seen,        // at N, TCP carries the peer's token
  foreign_seen,      // at N, TCP carries a token that was made for another link
  raw_seen,          // at N, TCP carries something else
  no_seen,           // C: at N, TCP carries NO
  resume_received,   // a RESUME frame
  witnessed,         // S: C has read its token
  fault,             // the link failed, or the lane is to be left
};
inline constexpr size_t kEvents = 12;

enum class Action : uint8_t {
  none,
  send_claim,
  send_accept,   // and hold
  send_confirm,  // and hold
  show_token,    // on TCP
  show_no,       // on TCP, in the place of a token
  send_witness,  // that this end has read the peer's token
  send_resume,   // on TCP, with the count of ring bytes received
  resend_rest,   // the ring bytes from the offset in the peer's RESUME again, raw; from now on send raw
  reset,
};

// What the caller knows and the state does not.
struct Facts {
  bool past_boundary = false;  // more raw bytes were read than the N that the message tells
  bool raw_sent = false;       // raw bytes were sent, or wait to be, after this end's own N
};

struct Step {
  State state;
  std::array<Action, 2> actions{Action::none, Action::none};
};

Step step(State state, Event event, Facts facts = {});

enum class Receives { raw, raw_to_boundary, frames, nothing };
enum class Sends { raw, ring, nothing };
constexpr Receives receives(State state) {
  switch (state) {
    case State::tcp:
    case State::claimed:
    case State::accepted: return Receives::raw;
    case State::confirmed:
    case State::shown:
    case State::shown_resuming:
    case State::yielded: return Receives::raw_to_boundary;
    case State::answered:
    case State::lane:
    case State::resuming: return Receives::frames;
    case State::broken: return Receives::nothing;
  }
  return Receives::nothing;
}
constexpr Sends sends(State state) {
  switch (state) {
    case State::tcp:
    case State::claimed:
    case State::yielded: return Sends::raw;
    case State::lane: return Sends::ring;
    case State::accepted:
    case State::confirmed:
    case State::shown:
    case State::answered:
    case State::shown_resuming:
    case State::resuming:
    case State::broken: return Sends::nothing;
  }
  return Sends::nothing;
}
// Whether ring bytes may come: C writes none before its WITNESS, S none before it has that.
constexpr bool takes_ring(State state) { return state == State::lane; }
// Whether ring bytes may reach the application.
constexpr bool delivers_ring(State state) { return state == State::lane || state == State::resuming; }
// Entering, and its N is fixed: the program's bytes wait.
constexpr bool holds(State state) {
  return state == State::accepted || state == State::confirmed || state == State::shown || state == State::answered ||
         state == State::shown_resuming;
}
// The link is of no more use to it.
constexpr bool done_with_link(State state) {
  return state == State::tcp || state == State::shown_resuming || state == State::resuming || state == State::yielded;
}

// The ends of the streams (ends.hpp) reach the cutover in three ways.
enum class Ending : uint8_t {
  lost,         // the connection is no more, or is others' alone
  over,         // in order: the peer ended its stream on the link, and TCP has ended, too
  handed_back,  // the kernel has heard of that by now, and serves it; in lane and broken
};
constexpr State after(State state, Ending ending) {
  switch (ending) {
    case Ending::lost: return State::broken;
    case Ending::over: return state == State::tcp || state == State::lane ? state : State::broken;
    case Ending::handed_back: return State::tcp;
  }
  return State::broken;
}

// A flow's state, which nothing else changes.
class Machine {
 public:
  State state() const { return state_; }
  // False for what is a breach of the protocol.
  bool allows(Event event, Facts facts = {}) const {
    return state_ == State::broken || flow::step(state_, event, facts).state != State::broken;
  }
  Step step(Event event, Facts facts = {}) {
    const auto next = flow::step(state_, event, facts);
    state_ = next.state;
    return next;
  }
  void end(Ending ending) { state_ = after(state_, ending); }

 private:
  State state_ = State::tcp;
};

std::string_view name(State state);
std::string_view name(Event event);

}  // namespace rsock::flow
