/* Entering a lane, leaving it, resuming, and entering again: one flow, its two ends, TCP between them, the links that it is taken
   over, and an adversary, if there is one. docs/protocol.md tells it in prose; the rows of the machine are steps.def, states and events
   are named as in core/flow/machine.hpp. ends.pml is the ends, their programs and TCP, adversary.pml the third process; here are
   the links and all that can happen. `run` has SPIN explore all of it.

   Programs write UNITS units each way (a unit stands for any number of bytes) whenever their end takes them, or fewer. TCP carries raw
   units, tokens, NO and RESUME frames, in order and without loss. A link carries the messages and ring writes of a direction in order;
   it may die at any step, and then delivers all, a part or nothing of what it holds; each end notices that at any later time,
   on its own. An end may leave on purpose in any state: so does one whose time is over. An end that leaves a link says so behind
   all else (RETIRE). S may claim whenever it is on TCP, as often as it likes; C may decline. Every step may come before or after every
   other.

   Links are taken again: S makes its next attempt over one that neither end has anything to do with any more, so LINKS stand for any
   number. With two, a claim that S gave up may be accepted while the next one waits.

   FINS      a program may end its stream at any time (shutdown, or close by a program that has read all)
   ROOM      TCP's buffers are finite, and programs may be such that write before they read (ends.pml)
   INSIDE    an adversary that the ends may take flows over to; OUTSIDE: one that they may not (adversary.pml); LIES is how often it lies
   CLAIMS    S makes no more than so many
   MUTANTS   one of the rules in mutants.def is forgotten

   What is found wrong, and where it is asserted:
   - a unit delivered twice, never or out of order, or the stream's end before all units (deliver, deliver_end; never: somebody_waits)
   - a token, NO or frame read as data, or data or the stream's end as a frame (mark_as_data, look)
   - a step that is in no row (breach), and an end that waits for a mark at an N that its program has passed (happen)
   - an end that waits for ever (somebody_waits): nothing is under way, every fault was noticed, and a program that reads lacks a unit or
     the end; or the ends are not both raw, both in the lane, or raw with S `yielded` over a link that died (C learns of it when S, or S
     when C, has something to send); or a program that writes before it reads cannot write, though TCP would have room (well)
   - more units taken out of TCP into an end's memory than the kernels can hold (take_out)
   - a byte in the ring of an adversary, or of it in a flow; a mark read as data unless it lied (write_unit, happen, adversary.pml)

   Offsets: N of the sender is known to the receiver as left = N - units looked at, which is set where the sender fixes its N and goes
   down with each; the message that tells N tells when it may be looked at. Marks count in N, as they do in TCP's own count.

   Not modelled: RESET (streams.pml has it), and a process that dies; what a mark is made of, and one that is written or seen in part; a limit on the rings;
   how long anything takes, hence the limit of the wait in `shown` between honest ends; SEEN; several flows of a link; slots. */

#ifndef UNITS
#define UNITS 3
#endif
#ifndef LINKS
#define LINKS 2
#endif
#ifdef INSIDE
#define ADVERSARY
#endif
#ifdef OUTSIDE
#define ADVERSARY
#endif

#ifndef LIES
#define LIES 0
#endif
#ifdef ADVERSARY /* the program at `e` writes what the adversary likes, for the other end, which has a link to it */
#define may_supply(e) (lies < LIES && at[OTHER(e)].bound && at[OTHER(e)].on == (e == C -> LINKS + 1 : LINKS))
#else
#define may_supply(e) false
#endif

#include "ends.pml"
#ifdef ADVERSARY
#include "adversary.pml"
#else
inline breach() { assert(false) }
inline mark_as_data(e) { assert(false) }
inline token_of_another_link(e) { assert(false) }
inline frame_for_mark(e) { assert(false) }
inline somebody_waits() { assert(false) }
inline supply(e) { skip }
#endif

/* ---- links */

#define knows_of_link(e, l) (at[e].bound && at[e].on == (l))
#define unused(l) (!knows_of_link(C, l) && !knows_of_link(S, l) && !some(TO(C, l)) && !some(TO(S, l)))

/* To the peer, unless the link is dead or the peer is done with it; a CLAIM finds nobody bound. */
inline say(e, what, with) {
  if
  :: !of_adversary(at[e].on) && !dead[at[e].on] &&
     (knows_of_link(OTHER(e), at[e].on) || (what) == CLAIM || ((what) == RETIRE && e == S && some(TO(C, at[e].on)))) ->
     put(TO(OTHER(e), at[e].on), what, with)
  :: else
  fi
}

/* Ring units wait until the token was seen, what lies before N is read, and the program reads: RETIRE gets past them, and then they
   do not count. */
#define waits_in_ring(e, l) (knows_of_link(e, l) && keeps_ring(at[e].state) && (TO(e, l)?[RING,_] || TO(e, l)?[END,_]))
#define takes_from_ring(e) (at[e].state == lane && (!unread(e) || forgotten(30)) && willing(e))
#define can_hear(e, l) (some(TO(e, l)) && (!waits_in_ring(e, l) || takes_from_ring(e) || TO(e, l)??[RETIRE,_]))

inline hear(e, l) {
  if
  :: waits_in_ring(e, l) && !takes_from_ring(e) ->
     do
     :: waits_in_ring(e, l) -> TO(e, l)?_,_
     :: else -> break
     od
  :: else
  fi;
  TO(e, l)?kind,number;
  if
  :: kind == CLAIM ->
     if
     :: at[C].state == tcp && may_begin(C) -> at[C].on = l; at[C].bound = true; step(C, claim_received, 0)
     :: !(at[C].state == tcp && may_begin(C)) && knows_of_link(S, l) -> put(TO(S, l), DECLINE, 0)
     :: else /* nobody is interested */
     fi
  :: kind != CLAIM && !knows_of_link(e, l) /* late */
  :: kind != CLAIM && knows_of_link(e, l) ->
     if
     :: kind == ACCEPT -> step(e, accept_received, 0)
     :: kind == CONFIRM -> step(e, confirm_received, 0)
     :: kind == DECLINE -> step(e, declined, 0)
     :: kind == WITNESS -> step(e, witnessed, 0)
     :: kind == RETIRE -> retired_by_peer(e, number)
     :: kind == RING && keeps_ring(at[e].state) -> deliver(e, number); at[e].taken++
     :: kind == END && keeps_ring(at[e].state) -> deliver_end(e)
     :: (kind == RING || kind == END) && !keeps_ring(at[e].state) /* frozen: it does not count */
     fi
  fi
}

/* C that has shown nothing gives up; else it is a fault like others. */
inline retired_by_peer(e, begun) {
  if
  :: e == S && (begun == 0 || forgotten(19)) && (at[e].state == confirmed || at[e].state == yielded) && !forgotten(31) ->
     step(e, raw_seen, 0)
  :: else -> step(e, fault, 0)
  fi
}

inline claim(l) {
#ifdef CLAIMS
  claims++;
#endif
  at[S].on = l;
  at[S].bound = true;
  step(S, claim_wanted, 0)
}
#ifdef CLAIMS
byte claims;        /* that S made */
#define may_claim (at[S].state == tcp && may_begin(S) && claims < CLAIMS)
#else
#define may_claim (at[S].state == tcp && may_begin(S))
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
#define may_notice(e, l) (dead[l] && (some(TO(e, l)) || (knows_of_link(e, l) && !at[e].retired)))
inline notice(e, l) {
  clear(TO(e, l));
  if
  :: knows_of_link(e, l) -> step(e, fault, 0)
  :: else
  fi
}

/* ---- nobody waits for ever */

#ifdef ROOM
#define moves_bytes(e) (can_read(e) || can_look(e) || can_take_out(e) || (unread(e) && willing(e)) || (some(out[e]) && !full(e)))
#else
#define moves_bytes(e) (can_read(e) || can_look(e))
#endif
#define sends_end(e) (fin_of(e) == CLOSED && may_send(e))
#define goes_on(e) (moves_bytes(e) || sends_end(e))
#define link_goes_on(l) (can_hear(C, l) || can_hear(S, l) || may_notice(C, l) || may_notice(S, l))
#define quiet (!goes_on(C) && !goes_on(S) && !link_goes_on(0) && !link_goes_on(LINKS - 1))

#define at_rest ((at[C].state == tcp && at[S].state == tcp) || (at[C].state == lane && at[S].state == lane) || \
  (at[C].state == tcp && at[S].state == yielded && (of_adversary(at[S].on) || dead[at[S].on])))
#define has_all(e) (at[e].got == at[OTHER(e)].made && (!ended_needed || ended(e) == (fin_of(OTHER(e)) != OPEN)))
#define well(e) ((has_all(e) || !willing(e)) && (!wants_to_write(e) || may_send(e) || willing(e)))

#define PER_LINK(l) \
    :: can_hear(C, l) -> hear(C, l) \
    :: can_hear(S, l) -> hear(S, l) \
    :: TO(C, l)?[CLAIM,_] && knows_of_link(S, l) && !dead[l] -> TO(C, l)?_,_; put(TO(S, l), DECLINE, 0) \
    :: !dead[l] && !unused(l) -> dead[l] = true \
    :: may_notice(C, l) -> notice(C, l) \
    :: may_notice(S, l) -> notice(S, l)

#ifdef FINS
#define PER_PROGRAM(e) \
    :: at[e].fin == OPEN && at[e].state != broken -> close(e) \
    :: sends_end(e) -> send_end(e)
#define ended_needed true
#else
#define PER_PROGRAM(e)
#define ended_needed false
#endif
#ifdef ROOM
#define PER_BUFFER(e) \
    :: unread(e) && willing(e) -> program_reads_unread(e) \
    :: can_take_out(e) -> take_out(e) \
    :: some(out[e]) && !full(e) -> send_what_waits(e)
#else
#define PER_BUFFER(e)
#endif
#define PER_END(e) \
    :: wants_to_write(e) && may_send(e) -> write_unit(e) \
    :: can_read(e) -> program_reads(e) \
    :: can_look(e) -> look(e) \
    PER_PROGRAM(e) \
    PER_BUFFER(e) \
    :: at[e].bound && !at[e].retired && at[e].state != tcp -> step(e, fault, 0) /* leaves on purpose, or its time is over */

active proctype world() {
  byte me, event, offset, before, unit, kind, number;
  bool was_past, was_raw;
#ifdef MUTANTS
  c_code { if (getenv("MUTANT")) now.mutant = atoi(getenv("MUTANT")); };
#endif
  event = nothing;
#ifdef ROOM
  atomic {
    if
    :: writes_first[C] = true
    :: skip
    fi;
    if
    :: ROOM >= UNITS || !writes_first[C] -> writes_first[S] = true /* else TCP itself stands still */
    :: skip
    fi
  }
#endif
end:
  do
  :: atomic {
#ifdef LENGTH
    length < LENGTH -> length++;
#endif
    if
    PER_END(C)
    PER_END(S)
    PER_LINK(0)
#if LINKS > 1
    PER_LINK(1)
#endif
    :: may_claim && another_unused -> claim(first_unused)
#ifdef ADVERSARY
    PER_ADVERSARY
#endif
    :: quiet && !(at_rest && well(C) && well(S)) -> somebody_waits()
    fi;
#ifdef TRACES
    c_code { printf("move %d\n", now.length); };
#endif
    if
    :: event != nothing -> happen()
    :: else
    fi;
    me = 0; event = nothing; offset = 0; before = 0; was_past = false; was_raw = false; unit = 0; kind = 0; number = 0;
    forget(0);
    forget(LINKS - 1)
  }
  od
}
