/* Entering a lane, leaving it, resuming, and entering again: one flow, its two ends, TCP between them and the links that it is
   taken over. docs/protocol.md tells it in prose; the rows of the machine are steps.def, states and events are named as in
   core/flow/machine.hpp. `run` has SPIN explore all of it.

   The applications write UNITS units each way (a unit stands for any number of bytes), whenever their end takes them. TCP carries
   raw units, tokens and RESUME frames, in order and without loss. A link carries the messages and ring writes of a direction in
   order; it may die at any step, and then delivers all, a part or nothing of what it holds; each end notices that at any later
   time, on its own. An end may leave on purpose in any state. Whoever leaves the link says so behind all else (RETIRE). S may
   claim whenever it is on TCP, as often as it likes; C may decline. Every step may come before or after every other.

   Links are taken again: S makes its next attempt over one that neither end has anything to do with any more, so LINKS stand for any
   number. With two, a claim that S gave up may be accepted while the next one waits.

   What is found wrong: a unit delivered twice, never or out of order; a token or frame read as data, or data as a frame; a step
   that is in no row; ring bytes that are void although they were delivered; an end that waits for ever: nothing is under way, every
   fault was noticed, and a unit is not delivered, or the ends are not both raw, both in the lane, or raw with S `yielded` (which C
   learns when S, or S when C, has something to send).

   Offsets: N of the sender is known to the receiver as left = N - raw units read, which is set where the sender begins to send into
   the ring and goes down with each raw unit read; the message that tells N tells when it may be looked at. */

#ifndef UNITS
#define UNITS 3
#endif
#ifndef LINKS
#define LINKS 2
#endif
#define C 0
#define S 1
#define PAST 7 /* left: more raw units were read than N */

/* states */
#define tcp 0
#define claimed 1
#define accepted 2
#define confirmed 3
#define shown 4
#define lane 5
#define shown_resuming 6
#define resuming 7
#define yielded 8
#define yielded_seen 9

/* events */
#define claim_wanted 0
#define claim_received 1
#define accept_received 2
#define declined 3
#define confirm_received 4
#define ack_received 5
#define token_seen 6
#define raw_seen 7
#define resume_received 8
#define fault 9
#define nothing 15

/* what a queue holds: raw and ring units and the offset in RESUME are in the lower bits */
#define RAW 0
#define TOKEN 16
#define RESUME 32
#define CLAIM 48
#define ACCEPT 64
#define CONFIRM 80
#define ACK 96
#define DECLINE 112
#define RETIRE 128
#define RING 144
#define KIND(item) ((item) & 240)
#define NUMBER(item) ((item) & 15)

chan wire[2] = [8] of { byte };           /* TCP, by receiver */
chan link[2 * LINKS] = [7] of { byte };   /* by link and receiver */
#define TO(end, l) link[2 * (l) + (end)]
#define some(queue) (len(queue) > 0)
bool dead[LINKS];

typedef End {
  byte state;
  byte on;          /* the link that it is bound to, when bound */
  bool bound;
  bool retired;     /* this end will say nothing more there */
  byte made;        /* units that the application wrote */
  byte got;         /* units that the application read */
  byte left;        /* raw units before the peer's N */
  bool raw_after;   /* raw units were sent after own N */
  byte first;       /* of the units in the own ring stream: they go up to made */
  byte landed;      /* units of the peer's ring stream that arrived */
}
End at[2];
#ifdef MUTANTS
byte mutant;        /* which row of mutants.def counts, besides those of steps.def */
#endif
#ifdef CLAIMS
byte claims;        /* that S made */
#endif
#ifdef LENGTH
byte length;        /* of the trace so far */
#endif

#define OTHER(end) (1 - (end))
#define sends_raw(s) ((s) == tcp || (s) == claimed || (s) == yielded || (s) == yielded_seen)
#define sends_ring(s) ((s) == accepted || (s) == confirmed || (s) == shown || (s) == lane)
#define receives_raw(s) ((s) == tcp || (s) == claimed || (s) == accepted)
#define receives_frames(s) ((s) == lane || (s) == resuming || (s) == yielded_seen)
#define takes_ring(s) ((s) == confirmed || (s) == shown || (s) == lane)
#define delivers_ring(s) ((s) == lane || (s) == resuming)
#define knows_of_link(e, l) (at[e].bound && at[e].on == (l))

inline put(queue, item) { assert(nfull(queue)); queue!item }

inline clear(queue) {
  do
  :: some(queue) -> queue?_
  :: !some(queue) -> break
  od
}

/* To the peer, unless the link is dead or the peer is done with it; a CLAIM finds nobody bound. */
inline say(e, item) {
  if
  :: !dead[at[e].on] && (knows_of_link(OTHER(e), at[e].on) || (item) == CLAIM || ((item) == RETIRE && e == S && some(TO(C, at[e].on)))) ->
     put(TO(OTHER(e), at[e].on), item)
  :: else
  fi
}

inline send_raw(e, unit) {
  put(wire[OTHER(e)], RAW + (unit));
  at[e].raw_after = true
}

inline deliver(e, unit) {
  assert((unit) == at[e].got); /* once and in order */
  at[e].got++
}

/* ---- actions: of the end `me`, at an event with the offset `offset` */
inline none() { skip }
inline send_claim() { say(me, CLAIM) }
inline begin_ring() {
  at[me].first = at[me].made;
  at[me].raw_after = false;
  if
  :: knows_of_link(OTHER(me), at[me].on) -> at[OTHER(me)].left = len(wire[OTHER(me)]) /* raw units: else they are found out */
  :: else /* it will not take the message */
  fi
}
inline send_accept() { begin_ring(); say(me, ACCEPT) }
inline send_confirm() { begin_ring(); say(me, CONFIRM) }
inline send_ack() { say(me, ACK) }
inline show_token() { put(wire[OTHER(me)], TOKEN) }
inline void_received() {
  assert(!delivers_ring(before));
  at[me].landed = 0
}
inline send_resume() { put(wire[OTHER(me)], RESUME + at[me].landed) }
inline resend_from(from) {
  unit = from;
  do
  :: unit < at[me].made -> send_raw(me, unit); unit++
  :: unit >= at[me].made -> break
  od;
  unit = 0
}
inline resend_all() { resend_from(at[me].first) }
inline resend_rest() {
  assert(at[me].first + offset <= at[me].made);
  resend_from(at[me].first + offset)
}

#define always true
#define past (at[me].left == PAST)
#define within (at[me].left != PAST)
#define raw_sent (at[me].raw_after)
#define no_raw_sent (!at[me].raw_after)

#ifdef TRACES
#define TRACE(from, what, to, first_action, second_action, third_action) \
  c_code { printf("step %d %d %s %s %d %d %s %s %s %s\n", now.length, Pworld->me, from, what, Pworld->was_past, Pworld->was_raw, \
                  to, first_action, second_action, third_action); };
#else
#define TRACE(from, what, to, first_action, second_action, third_action)
#endif

#define STEP(from, when_event, condition, to, first_action, second_action, third_action) \
  :: before == from && event == when_event && (condition) -> \
     TRACE(#from, #when_event, #to, #first_action, #second_action, #third_action) \
     at[me].state = to; first_action(); second_action(); third_action()

/* The machine's step, and what belongs to every step. */
inline happen() {
  before = at[me].state;
  was_past = past;
  was_raw = raw_sent;
  if
#include "steps.def"
#ifdef MUTANTS
#include "mutants.def"
#endif
  :: else -> assert(false) /* a breach */
  fi;
  assert(at[me].left != PAST || receives_raw(at[me].state) || receives_frames(at[me].state)); /* who is past N waits for no token */
  if
  :: event == token_seen && at[me].landed > 0 && delivers_ring(at[me].state) -> at[me].got = at[me].got + at[me].landed
  :: else
  fi;
  /* Frozen, or back: the link is done with. Whoever has no more to wait for on it forgets it. */
  if
  :: at[me].bound && !at[me].retired && (at[me].state == tcp || at[me].state >= shown_resuming) ->
     say(me, RETIRE);
     at[me].retired = true;
     clear(TO(me, at[me].on))
  :: else
  fi;
  if
  :: at[me].state == tcp ->
     at[me].bound = false; at[me].retired = false; at[me].landed = 0; at[me].first = 0;
     at[me].left = 0; at[me].raw_after = false; at[me].on = 0
  :: else
  fi
}

/* Only noted here: the machine takes it before anything else happens. */
inline step(e, what, number) { me = e; event = what; offset = number }

inline take_raw(e, item) {
  assert(KIND(item) == RAW); /* neither a token nor a frame reaches the application */
  deliver(e, NUMBER(item));
  at[e].left = (at[e].left == 0 -> PAST : (at[e].left == PAST -> PAST : at[e].left - 1))
}

/* ---- what can happen */

inline write_unit(e) {
  if
  :: sends_raw(at[e].state) -> send_raw(e, at[e].made)
  :: else -> say(e, RING + at[e].made)
  fi;
  at[e].made++
}

inline read_wire(e) {
  wire[e]?<item>;
  if
  :: receives_raw(at[e].state) -> wire[e]?_; take_raw(e, item)
  :: receives_frames(at[e].state) -> wire[e]?_; assert(KIND(item) == RESUME); step(e, resume_received, NUMBER(item))
  :: else ->
     if
     :: at[e].left > 0 && at[e].left != PAST -> wire[e]?_; take_raw(e, item)
     :: else ->
        if
        :: KIND(item) == TOKEN -> wire[e]?_; step(e, token_seen, 0)
        :: KIND(item) == RAW -> step(e, raw_seen, 0) /* read as what it is in the next state */
        :: else -> assert(false) /* a frame where a token may be */
        fi
     fi
  fi;
  item = 0
}

/* Ring units count from CONFIRM on. Before the token they wait; those behind N come after all raw units. */
inline land(e, number) {
  assert(at[e].state != accepted);
  if
  :: takes_ring(at[e].state) && delivers_ring(at[e].state) -> deliver(e, number); at[e].landed++
  :: takes_ring(at[e].state) && !delivers_ring(at[e].state) -> at[e].landed++
  :: else
  fi
}

inline read_link(e, l) {
  TO(e, l)?item;
  if
  :: KIND(item) == CLAIM ->
     if
     :: at[C].state == tcp -> at[C].on = l; at[C].bound = true; step(C, claim_received, 0)
     :: knows_of_link(S, l) -> put(TO(S, l), DECLINE)
     :: else /* nobody is interested */
     fi
  :: KIND(item) != CLAIM && !knows_of_link(e, l) /* late */
  :: KIND(item) != CLAIM && knows_of_link(e, l) ->
     if
     :: KIND(item) == ACCEPT -> step(e, accept_received, 0)
     :: KIND(item) == CONFIRM -> step(e, confirm_received, 0)
     :: KIND(item) == ACK -> step(e, ack_received, 0)
     :: KIND(item) == DECLINE -> step(e, declined, 0)
     :: KIND(item) == RETIRE -> step(e, fault, 0)
     :: KIND(item) == RING -> land(e, NUMBER(item))
     fi
  fi;
  item = 0
}

#define unused(l) (!knows_of_link(C, l) && !knows_of_link(S, l) && !some(TO(C, l)) && !some(TO(S, l)))

inline claim(l) {
#ifdef CLAIMS
  claims++;
#endif
  at[S].on = l;
  at[S].bound = true;
  step(S, claim_wanted, 0)
}
#ifdef CLAIMS
#define may_claim (claims < CLAIMS)
#else
#define may_claim true
#endif
#if LINKS > 1
#define another_unused (unused(0) || unused(1))
#define first_unused (unused(0) -> 0 : 1)
#else
#define another_unused unused(0)
#define first_unused 0
#endif
inline forget(l) {
  if
  :: unused(l) -> dead[l] = false
  :: else
  fi
}

/* All that is still to come on the link is lost. */
inline notice(e, l) {
  clear(TO(e, l));
  if
  :: knows_of_link(e, l) -> step(e, fault, 0)
  :: else
  fi
}

/* Nothing is under way, and no fault is still to be noticed. */
#define link_quiet(l) (!some(TO(C, l)) && !some(TO(S, l)) && (!dead[l] || (!may_notice(C, l) && !may_notice(S, l))))
#define may_notice(e, l) (dead[l] && (some(TO(e, l)) || (knows_of_link(e, l) && !at[e].retired)))
#define quiet (!some(wire[C]) && !some(wire[S]) && link_quiet(0) && link_quiet(LINKS - 1))
#define at_rest ((at[C].state == tcp && at[S].state == tcp) || (at[C].state == lane && at[S].state == lane) || \
  (at[C].state == tcp && at[S].state == yielded))
#define all_delivered (at[C].got == at[S].made && at[S].got == at[C].made)

#define PER_LINK(l) \
    :: some(TO(C, l)) -> read_link(C, l) \
    :: some(TO(S, l)) -> read_link(S, l) \
    :: TO(C, l)?[CLAIM] && knows_of_link(S, l) && !dead[l] -> TO(C, l)?_; put(TO(S, l), DECLINE) \
    :: !dead[l] && !unused(l) -> dead[l] = true \
    :: may_notice(C, l) -> notice(C, l) \
    :: may_notice(S, l) -> notice(S, l)

active proctype world() {
  byte me, event, offset, before, unit, item;
  bool was_past, was_raw;
#ifdef MUTANTS
  c_code { if (getenv("MUTANT")) now.mutant = atoi(getenv("MUTANT")); };
#endif
  event = nothing;
end:
  do
  :: atomic {
#ifdef LENGTH
    length < LENGTH -> length++;
#endif
    if
    :: at[C].made < UNITS && (sends_raw(at[C].state) || sends_ring(at[C].state)) -> write_unit(C)
    :: at[S].made < UNITS && (sends_raw(at[S].state) || sends_ring(at[S].state)) -> write_unit(S)
    :: some(wire[C]) -> read_wire(C)
    :: some(wire[S]) -> read_wire(S)
    PER_LINK(0)
#if LINKS > 1
    PER_LINK(1)
#endif
    :: at[S].state == tcp && may_claim && another_unused -> claim(first_unused)
    :: at[C].bound && !at[C].retired && at[C].state != tcp -> step(C, fault, 0) /* leaves on purpose */
    :: at[S].bound && !at[S].retired && at[S].state != tcp -> step(S, fault, 0)
    :: quiet && !(at_rest && all_delivered) -> assert(false) /* somebody waits for ever */
    fi;
#ifdef TRACES
    c_code { printf("move %d\n", now.length); };
#endif
    if
    :: event != nothing -> happen(); me = 0; event = nothing; offset = 0; before = 0; was_past = false; was_raw = false
    :: else
    fi;
    forget(0);
    forget(LINKS - 1)
  }
  od
}
