#pragma once
// The machine of one end of one flow: how its bytes enter a lane and come back to TCP. Pure: a state and an event give
// a state and actions; no call, clock, lock or memory. docs/protocol.md tells the same with pictures.
//
// C is the connecting end, S the accepting end. N_x counts the bytes that end x handed to TCP before its cutover; each
// receiver takes N raw bytes from TCP, then the token, then its ring. An end first gives up its cutover (it has shown no
// token, so nothing of its ring was delivered: it sends the ring again, raw) and later resumes (it has shown its token:
// it must learn the peer's offset first).
//
// 1  enter           C: tcp > accepted > shown > lane              S: tcp > claimed > confirmed > shown > lane
// 2  token first     S: confirmed > lane: C's token proves that C got CONFIRM, as good as its acknowledgement
// 3  C gives up      C: accepted > tcp, ring again raw             S: confirmed, raw bytes where a token may be > tcp
// 4  S gives up      S: confirmed > yielded                        C: shown, raw bytes where a token may be > tcp
// 5  S gave up, idle S: yielded sees C's token > yielded_seen, answers with token and RESUME{0}    C: lane > tcp
// 6  resume          both: lane > resuming > tcp, or lane > tcp when the peer's RESUME comes first
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
  accepted,        // C: ACCEPT is out; sends into the ring, receives raw
  confirmed,       // S: CONFIRM is out; sends into the ring, receives raw up to N, then a token or raw bytes
  shown,           // token is out; sends into the ring, receives as in confirmed
  lane,            // both tokens are out and this end has seen the peer's: the ring counts
  shown_resuming,  // as shown, but frozen: RESUME is out
  resuming,        // as lane, but frozen: RESUME is out, the peer's is awaited
  yielded,         // S: gave up its cutover without knowing whether C did; sends raw, receives as in confirmed
  yielded_seen,    // S: gave up, then saw C's token: C's RESUME is awaited
  broken,          // the peer broke the protocol: the flow is reset
};
inline constexpr size_t kStates = 11;

enum class Event : uint8_t {
  claim_wanted,      // S: a link to the peer's address is there
  claim_received,    // C
  accept_received,   // S
  declined,          // S
  confirm_received,  // C
  ack_received,      // S
  token_seen,        // at N, TCP carried the peer's token
  raw_seen,          // at N, TCP carried something else
  resume_received,   // a RESUME frame
  fault,             // the link failed, or the lane is to be left
};
inline constexpr size_t kEvents = 10;

enum class Action : uint8_t {
  none,
  send_claim,
  send_accept,    // and from now on send into the ring
  send_confirm,   // and from now on send into the ring
  send_ack,
  show_token,     // on TCP
  void_received,  // what the peer wrote into the ring does not count
  send_resume,    // on TCP, with the count of ring bytes received (0 once they are void)
  resend_all,     // every ring byte again, raw; from now on send raw
  resend_rest,    // the ring bytes from the offset in the peer's RESUME again, raw; from now on send raw
  reset,
};

// What the caller knows and the state does not.
struct Facts {
  bool past_boundary = false;  // more raw bytes were read than the N that the message tells
  bool raw_sent = false;       // raw bytes were sent, or wait to be, after this end's own N
};

struct Step {
  State state;
  std::array<Action, 3> actions{Action::none, Action::none, Action::none};
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
    case State::lane:
    case State::resuming:
    case State::yielded_seen: return Receives::frames;
    case State::broken: return Receives::nothing;
  }
  return Receives::nothing;
}
constexpr Sends sends(State state) {
  switch (state) {
    case State::tcp:
    case State::claimed:
    case State::yielded:
    case State::yielded_seen: return Sends::raw;
    case State::accepted:
    case State::confirmed:
    case State::shown:
    case State::lane: return Sends::ring;
    case State::shown_resuming:
    case State::resuming:
    case State::broken: return Sends::nothing;
  }
  return Sends::nothing;
}
// Whether ring bytes may reach the application (rule 2: only after the peer's token).
constexpr bool delivers_ring(State state) { return state == State::lane || state == State::resuming; }

std::string_view name(State state);
std::string_view name(Event event);

}  // namespace rsock::flow
