/* The adversary: a third process with a link to each end, beside the link between the two. It cannot read or write the TCP connection, nor
   the honest link; each of its links has a secret of its own, so a token is for one link (TOKEN's number). On its links it says what it
   likes at any time, passes on what one end said to the other, late or not at all, stops at any step, and offers itself again.

   It may pass on the truth as often as it likes. It lies LIES times: it tells an offset that is not so, a CONFIRM or ACCEPT that nobody
   said, that C has shown nothing when it has (RETIRE), or random numbers of its own, so that S does not know C's token by its tag. Or it
   supplies a program with a unit that is all that a token of its link to the other end is made of (MADE_UP), but for what is fresh in
   the other end's token, which it cannot read.
   A CLAIM that S never made is no harm by itself, and counts as none. What it puts into a ring is ignored: no end is in `lane` with it.

   Inside (it passes for the owner of the socket, or knows the secret):
   - it reads no byte and chooses none: no end writes into a ring over its link, or gets to `lane` there (write_unit, happen)
   - both programs' bytes arrive once and in order (deliver), or the connection is reset
   - if it does not lie nothing shows: no mark is read as data, nothing is reset, and nobody waits for ever
   - if it lies, C's token may be read as data by S's program, or S's NO by C's; S's token only where C's was made up (mark_as_data). A unit
     that it made up may be lost. And C may wait in `shown` for a mark that never comes, until its time is over, which resets the connection (somebody_waits); so does S
     in `answered` for WITNESS; and a step that is in no row, and an N that is larger than what is under way can be (breach)
   Outside: no flow is offered on its links, and nothing shows, whatever it says. */

#define TO_C LINKS        /* the adversary's link to C */
#define TO_S (LINKS + 1)  /* and to S */
bool asked;   /* C's attempt is the one that S claimed, passed on */
bool agreed;  /* and S was told so, as C said it */
byte lies;    /* what it told that is not so */
bool made_up; /* a unit, by it */
#ifdef OUTSIDE
#define may_harm false
#else
#define may_harm (lies > 0)
#endif

#ifdef OUTSIDE
#define offered forgotten(27)
#else
#define offered true
#endif
#define may_lie (lies < LIES)

#define bound_to(e, l) (at[e].bound && at[e].on == (l))
#define may_pass_claim (bound_to(S, TO_S) && at[S].state == claimed)
#define may_pass_accept (asked && bound_to(C, TO_C) && at[C].state == accepted)
#define may_pass_confirm (asked && agreed)
#ifdef ROOM
#define token_on_its_way (wire[S]??[TOKEN,TO_C] || out[C]??[TOKEN,TO_C])
#else
#define token_on_its_way (wire[S]??[TOKEN,TO_C])
#endif
#define may_pass_retire (!bound_to(C, TO_C) && !token_on_its_way)

inline claim_to_c() {
  at[C].on = TO_C;
  at[C].bound = true;
  asked = may_pass_claim;
  agreed = false;
  step(C, claim_received, 0)
}
/* An offset is passed on as it is, or any other told. */
inline tell_n(e, faithful) {
  if
  :: (faithful)
  :: may_lie -> lies++; at[e].left = 0
  :: may_lie -> lies++; at[e].left = 1
  :: may_lie -> lies++; at[e].left = 2
  fi
}
inline accept_to_s() {
  tell_n(S, may_pass_accept);
  agreed = may_pass_accept;
  step(S, accept_received, 0)
}
inline confirm_to_c() {
  tell_n(C, may_pass_confirm);
  step(C, confirm_received, 0)
}
inline retire_to_s() {
  if
  :: may_pass_retire
  :: else -> lies++
  fi;
  step(S, raw_seen, 0)
}
inline claim_from_s() {
  asked = false;
  agreed = false;
  claim(TO_S)
}

#define PER_ADVERSARY \
    :: may_claim && offered -> claim_from_s() \
    :: at[C].state == tcp && may_begin(C) && offered && (may_pass_claim || LIES > 0) -> claim_to_c() \
    :: bound_to(C, TO_C) && at[C].state == accepted && (may_pass_confirm || may_lie) -> confirm_to_c() \
    :: bound_to(S, TO_S) && at[S].state == claimed && (may_pass_accept || may_lie) -> accept_to_s() \
    :: bound_to(S, TO_S) && at[S].state == claimed -> step(S, declined, 0) \
    :: bound_to(S, TO_S) && (at[S].state == confirmed || at[S].state == yielded) && (may_pass_retire || may_lie) -> retire_to_s()

inline supply(e) {
  lies++;
  made_up = true;
  put_on_tcp(e, MADE_UP, at[e].made);
  at[e].raw_after = (at[e].state == yielded)
}

inline reset() {
  clear(wire[C]); clear(wire[S]); clear(TO(C, 0)); clear(TO(S, 0));
  at[C].state = broken; at[S].state = broken;
#ifdef ROOM
  clear(out[C]); clear(out[S]);
  kept[C] = 0; kept[S] = 0; held[C] = 0; held[S] = 0; load[C] = 0; load[S] = 0; marks[C] = false; marks[S] = false;
#endif
  at[C].bound = false; at[S].bound = false; at[C].retired = false; at[S].retired = false
}
inline breach() { assert(may_harm); reset() }

inline mark_as_data(e) {
  assert(may_harm && ((kind == TOKEN && (e == S || made_up)) || (kind == NO && e == C) || (kind == RESUME && e == C && made_up)))
}

/* S answered what was made up. */
inline frame_for_mark(e) {
  assert(made_up && e == C);
  step(e, raw_seen, 0)
}

/* A token of another link has the tag that the end waits for only if the adversary passed on what the tag is made of. */
inline token_of_another_link(e) {
  if
  :: of_adversary(at[e].on) -> take_mark(e); step(e, foreign_seen, 0)
  :: of_adversary(at[e].on) && may_lie -> lies++; step(e, raw_seen, 0)
  :: !of_adversary(at[e].on) -> assert(may_harm); step(e, raw_seen, 0)
  fi
}

/* C waits for a mark that S never shows: its time is over. Whoever has shown nothing gives up by itself. */
#define may_give_up(e) (at[e].state == claimed || at[e].state == accepted || at[e].state == confirmed)
inline somebody_waits() {
  if
  :: at[C].state == broken
  :: may_give_up(C) && of_adversary(at[C].on) -> step(C, fault, 0)
  :: may_give_up(S) && of_adversary(at[S].on) -> step(S, fault, 0)
  :: (at[C].state == shown || at[C].state == shown_resuming) && of_adversary(at[C].on) -> assert(may_harm); reset()
  :: (at[S].state == answered || at[S].state == resuming) && of_adversary(at[S].on) -> assert(made_up); reset()
  :: else -> assert(false)
  fi
}
