/* The two ends of a flow, their programs and TCP between them: the part of the model that is the same for honest ends alone and
   for ends that an adversary meddles with. lane.pml includes it, and says what is modelled and what is found wrong. */

#define C 0
#define S 1
#define OTHER(end) (1 - (end))

/* States and events, in the order of core/flow/machine.hpp. */
#define tcp 0
#define claimed 1
#define accepted 2
#define confirmed 3
#define shown 4
#define answered 5
#define lane 6
#define shown_resuming 7
#define resuming 8
#define yielded 9
#define broken 10

#define claim_wanted 0
#define claim_received 1
#define accept_received 2
#define declined 3
#define confirm_received 4
#define token_seen 5
#define foreign_seen 6
#define raw_seen 7
#define no_seen 8
#define resume_received 9
#define witnessed 10
#define fault 11
#define nothing 15

/* Links are numbered; those from LINKS on are the adversary's. Whether the other end, on this link or through the adversary, awaits the
   message that tells N. */
#define of_adversary(l) ((l) >= LINKS)
#define meet (at[OTHER(me)].bound && at[OTHER(me)].state == (me == C -> claimed : accepted) && \
  (at[OTHER(me)].on == at[me].on || (of_adversary(at[me].on) && of_adversary(at[OTHER(me)].on))))

/* What TCP and the links carry: a kind and a number. */
#define RAW 0     /* on TCP, the unit's number */
#define TOKEN 1   /* on TCP, the link it was made for */
#define NO 2      /* on TCP */
#define RESUME 3  /* on TCP, how many ring units the program has read */
#define END 4     /* on either: the stream's end, FIN */
#define RING 5    /* on a link, the unit's number */
#define CLAIM 6   /* messages, on a link */
#define ACCEPT 7
#define CONFIRM 8
#define DECLINE 9
#define RETIRE 10 /* whether its sender has begun to show its token */
#define WITNESS 11
#define MADE_UP 12 /* on TCP, a unit's number: the program's, but for whom the adversary supplies it as a token of its link */
#define is_data(kind) ((kind) == RAW || (kind) == MADE_UP)

#define some(queue) (len(queue) > 0)

chan wire[2] = [UNITS + 7] of { byte, byte };           /* TCP, by receiver */
#if LINKS > 0
chan link[2 * LINKS] = [UNITS + 4] of { byte, byte };   /* by link and receiver */
#endif
#define TO(end, l) link[2 * (l) + (end)]
bool dead[LINKS + 1];

/* What became of the program's own end of its stream. */
#define OPEN 0
#define CLOSED 1   /* by the program: to be sent */
#define IN_RING 2  /* sent over the link; again, raw, should the flow come back */
#define ON_TCP 3

#define PAST 7     /* left: the program has read more than N */

typedef End {
  byte state;
  byte on;          /* the link that it is bound to, when bound */
  bool bound;
  bool retired;     /* this end will say nothing more there */
  byte made;        /* units that the program wrote */
  byte got;         /* units that the program read */
  byte left;        /* units before the peer's N that this end has not looked at */
  bool raw_after;   /* raw units were sent after own N */
  byte first;       /* of the units in the own ring stream: they go up to made */
  byte taken;       /* units of the peer's ring stream that the program read */
#ifdef FINS
  byte fin;
  bool ended;       /* the program has read the end of the peer's stream */
#endif
}
End at[2];

#ifdef MUTANTS
byte mutant;        /* what is forgotten: a row of mutants.def or one of the rules there */
#define forgotten(rule) (mutant == (rule))
#else
#define forgotten(rule) false
#endif
#ifdef LENGTH
byte length;        /* of the trace so far */
#endif

#define sends_raw(s) ((s) == tcp || (s) == claimed || (s) == yielded)
#define sends_ring(s) ((s) == lane || (forgotten(24) && ((s) == accepted || (s) == confirmed)) || (forgotten(25) && (s) == shown))
#define receives_raw(s) ((s) == tcp || (s) == claimed || (s) == accepted)
#define receives_frames(s) ((s) == answered || (s) == lane || (s) == resuming)
#define waits_for_mark(s) ((s) == confirmed || (s) == shown || (s) == shown_resuming || (s) == yielded)
#define mute(s) ((s) == accepted || (s) == confirmed || (s) == shown || (s) == answered || (s) == shown_resuming || (s) == resuming)
#define keeps_ring(s) ((s) == lane)
#define has_begun(s) ((s) == shown || (s) == answered || (s) == shown_resuming || (s) == lane || (s) == resuming)

inline put(queue, kind, number) { assert(nfull(queue)); queue!kind,number }

inline clear(queue) {
  do
  :: some(queue) -> queue?_,_
  :: !some(queue) -> break
  od
}

/* ---- programs, and the kernels' buffers

   With ROOM the two kernels hold ROOM units of a direction at most. A unit stands for many bytes and a mark for a few: a full
   buffer takes no mark either, but a mark takes no unit's room. What does not fit waits in the sender's memory (out), and nothing
   goes into a ring before that is out. The receiver can look at the first VISIBLE units, of which a mark that it has seen takes the room of
   one; it counts what it looked at and left where it is (held), and what it took out into its own memory because the buffer was full
   and the mark not in it (kept). The program reads kept, then held, then the rest.
   A program may be one that reads nothing before it has written all. Without ROOM TCP takes everything, programs read at any time, and
   what an end looks at is read at once. */
#ifdef ROOM
chan out[2] = [UNITS + 4] of { byte, byte };
byte load[2];       /* units in the kernels, by receiver */
byte kept[2], held[2];
bool marks[2];      /* a mark lies in the kernel behind them, looked at */
bool writes_first[2];
#define unread(e) (kept[e] + held[e] > 0)
#define full(e) (load[OTHER(e)] >= ROOM)
#define waiting_out(e) some(out[e])
#define sees(e) (held[e] + marks[e] < VISIBLE)
#define clean(e) (forgotten(29) || (kept[e] == 0 && !marks[e] && !waiting_out(e)))
#define willing(e) (!writes_first[e] || at[e].made == UNITS || fin_of(e) != OPEN)
#else
#define unread(e) false
#define full(e) false
#define waiting_out(e) false
#define sees(e) true
#define clean(e) true
#define willing(e) true
#endif
#ifdef FINS
#define fin_of(e) at[e].fin
#define ended(e) at[e].ended
#else
#define fin_of(e) OPEN
#define ended(e) false
#endif

#define may_begin(e) (fin_of(e) == OPEN && !ended(e) && clean(e))
#define may_send(e) ((sends_raw(at[e].state) || sends_ring(at[e].state)) && !waiting_out(e) && !(sends_raw(at[e].state) && full(e)))
#define wants_to_write(e) (at[e].made < UNITS && fin_of(e) == OPEN)

inline into_kernel(e, kind, number) {
  put(wire[OTHER(e)], kind, number);
#ifdef ROOM
  if
  :: is_data(kind) -> load[OTHER(e)]++
  :: else
  fi
#endif
}
inline put_on_tcp(e, kind, number) {
  if
#ifdef ROOM
  :: waiting_out(e) || full(e) -> put(out[e], kind, number)
#endif
  :: else -> into_kernel(e, kind, number)
  fi
}

inline send_raw(e, unit) {
  put_on_tcp(e, RAW, unit);
  at[e].raw_after = (at[e].state == yielded)
}

inline deliver(e, unit) {
  assert((unit) == at[e].got); /* once and in order */
  at[e].got++
}
inline deliver_end(e) {
#ifdef FINS
  assert(at[e].got == at[OTHER(e)].made && fin_of(OTHER(e)) != OPEN); /* behind all units */
  at[e].ended = true
#else
  assert(false)
#endif
}

/* ---- actions: of the end `me`, at an event with the number `offset` */
inline none() { skip }
inline send_claim() { say(me, CLAIM, 0) }
/* What the peer will learn with the message, if it takes it: how much it still has to read before N. */
inline fix_n() {
  at[me].first = at[me].made;
  at[me].raw_after = false;
  if
  :: meet -> at[OTHER(me)].left = len(wire[OTHER(me)])
  :: else /* it will not take the message */
  fi
}
inline send_accept() { fix_n(); say(me, ACCEPT, 0) }
inline send_confirm() { fix_n(); say(me, CONFIRM, 0) }
inline show_token() { put_on_tcp(me, TOKEN, at[me].on) }
inline show_no() { put_on_tcp(me, NO, 0) }
inline send_witness() { say(me, WITNESS, 0) }
inline send_resume() { put_on_tcp(me, RESUME, at[me].taken) }
inline resend_rest() {
  assert(at[me].first + offset <= at[me].made);
  unit = at[me].first + offset;
  do
  :: unit < at[me].made -> send_raw(me, unit); unit++
  :: unit >= at[me].made -> break
  od;
  unit = 0
}

/* ---- the machine */

#define always true
#define past (at[me].left == PAST)
#define within (at[me].left != PAST)
#define raw_sent (at[me].raw_after || (fin_of(me) != OPEN && !forgotten(20))) /* or waits to be */
#define no_raw_sent (!(raw_sent))

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
  :: else -> breach()
  fi;
  assert(!of_adversary(at[me].on) || at[me].state != lane); /* it chooses no byte */
  /* An end that is past N waits for no mark. */
  assert(at[me].left != PAST || !waits_for_mark(at[me].state));
  /* Frozen, or back: the link is done with. An end that has no more to wait for on it forgets it. */
  if
  :: at[me].bound && !at[me].retired && (at[me].state == tcp || at[me].state >= shown_resuming) ->
     at[me].retired = true;
     say(me, RETIRE, has_begun(before))
  :: else
  fi;
  if
  :: at[me].state == tcp ->
     at[me].bound = false; at[me].retired = false; at[me].on = 0;
     at[me].taken = 0; at[me].first = 0; at[me].left = 0; at[me].raw_after = false;
#ifdef FINS
     if
     :: at[me].fin == IN_RING -> at[me].fin = CLOSED
     :: else
     fi
#endif
  :: else
  fi
}

/* Only noted here: the machine takes it before anything else happens. */
inline step(e, what, number) { me = e; event = what; offset = number }

/* ---- what the programs and TCP do */

inline write_unit(e) {
  if
  :: sends_raw(at[e].state) -> send_raw(e, at[e].made)
  :: sends_raw(at[e].state) && may_supply(e) -> supply(e)
  :: !sends_raw(at[e].state) ->
     assert(!of_adversary(at[e].on)); /* it reads no byte */
     say(e, RING, at[e].made)
  fi;
  at[e].made++
}

/* The stream's end follows the bytes. Before the token an end gives up for it, so that it can go; in `shown` it waits for the mark. */
#ifdef FINS
inline close(e) {
  at[e].fin = CLOSED;
  if
  :: at[e].state == claimed || at[e].state == accepted || at[e].state == confirmed -> step(e, fault, 0)
  :: forgotten(21) && at[e].state == shown -> put_on_tcp(e, END, 0); at[e].fin = ON_TCP
  :: else
  fi
}
inline send_end(e) {
  if
  :: sends_raw(at[e].state) -> put_on_tcp(e, END, 0); at[e].fin = ON_TCP
  :: else -> say(e, END, 0); at[e].fin = IN_RING
  fi
}
#endif

#define count_down(e) at[e].left = (at[e].left == 0 || at[e].left == PAST -> PAST : at[e].left - 1)

/* The program reads from TCP what its end has not looked at. */
#define can_read(e) (receives_raw(at[e].state) && some(wire[e]) && !unread(e) && willing(e))
inline program_reads(e) {
  wire[e]?kind,number;
  if
  :: is_data(kind) -> deliver(e, number); leave_kernel(e, 1)
  :: kind == END -> deliver_end(e); at[e].left = 0
  :: else -> mark_as_data(e)
  fi;
  if
  :: at[e].bound -> count_down(e)
  :: else
  fi;
  if
  :: kind == END && at[e].state == accepted -> step(e, fault, 0)
  :: else
  fi
}

/* The end looks for a mark at N, or for a frame; what lies before N is its program's. */
#define can_look(e) ((waits_for_mark(at[e].state) || receives_frames(at[e].state)) && some(wire[e]) && sees(e))
#define own_token(e) (number == at[e].on || forgotten(26))
#define passes_for_token(e) (of_adversary(at[e].on) && (e == S || forgotten(34))) /* what answers nothing */
inline look(e) {
  wire[e]?<kind,number>;
  if
  :: receives_frames(at[e].state) && kind == RESUME -> take_mark(e); step(e, resume_received, number)
  :: receives_frames(at[e].state) && kind != RESUME -> breach()
  :: waits_for_mark(at[e].state) && at[e].left > 0 && kind != END ->
     wire[e]?_,_;
     count_down(e);
     if
     :: is_data(kind) -> pass(e)
     :: else -> mark_as_data(e)
     fi
  :: waits_for_mark(at[e].state) && (at[e].left == 0 || kind == END) ->
     if
     :: kind == TOKEN && own_token(e) -> take_mark(e); step(e, token_seen, 0)
     :: kind == TOKEN && !own_token(e) -> token_of_another_link(e)
     :: kind == NO -> take_mark(e); step(e, no_seen, 0)
     :: kind == RAW || (kind == MADE_UP && !of_adversary(at[e].on)) -> step(e, raw_seen, 0) /* it is read as what it is in the next state */
     :: kind == MADE_UP && passes_for_token(e) -> take_made_up(e); step(e, token_seen, 0)
     :: kind == MADE_UP && of_adversary(at[e].on) && !passes_for_token(e) -> take_made_up(e); step(e, foreign_seen, 0)
     :: kind == END && e == C && !forgotten(22) -> step(e, no_seen, 0)
     :: kind == END && e == S && !forgotten(23) -> step(e, raw_seen, 0)
     :: kind == END && (e == C && forgotten(22) || e == S && forgotten(23)) -> take_mark(e)
     :: kind == RESUME -> frame_for_mark(e)
     fi
  fi
}

/* A unit that its program never reads. */
inline take_made_up(e) {
  leave_kernel(e, 1);
  take_mark(e);
  at[e].got++
}
#ifdef ROOM
inline leave_kernel(e, units) { load[e] = load[e] - (units) }
inline take_mark(e) {
  wire[e]?_,_;
  marks[e] = (held[e] > 0)
}
inline pass(e) {
  assert(number == at[e].got + kept[e] + held[e]);
  held[e]++
}
inline program_reads_unread(e) {
  if
  :: kept[e] > 0 -> kept[e]--
  :: else -> held[e]--; leave_kernel(e, 1)
  fi;
  at[e].got++;
  marks[e] = marks[e] && held[e] > 0
}
/* The buffer is full and the mark not in it. In the lane an end has not heard yet that a RESUME is to come. */
#define can_take_out(e) (!sees(e) && (waits_for_mark(at[e].state) && !forgotten(28) || at[e].state == resuming && !forgotten(33)))
inline take_out(e) {
  leave_kernel(e, held[e]);
  kept[e] = kept[e] + held[e];
  held[e] = 0;
  marks[e] = false;
  if
  :: kept[e] > ROOM && !forgotten(32) -> breach() /* N is not true */
  :: else
  fi;
  assert(kept[e] <= ROOM)
}
inline send_what_waits(e) {
  out[e]?kind,number;
  into_kernel(e, kind, number)
}
#else
inline leave_kernel(e, units) { skip }
inline take_mark(e) { wire[e]?_,_ }
inline pass(e) { deliver(e, number) }
#endif
