/* The ends of a flow's two streams while it is in its lane: two programs that write, shut down, close and abort whenever they like, what
   their ends tell each other of it, and what they hear. core/flow/ends.hpp is the machine, one at each end; docs/protocol.md,
   section 5, tells it in prose. `run` has SPIN explore all of it, and holds the machine of the library to every trace.

   A unit stands for any number of bytes. A link carries units, FIN and RESET of a direction in order; a unit waits at the sender as long as
   that has no window.

   What is found wrong, and where it is asserted:
   - an end that says what its peer must not hear: bytes behind an end (hear_unit), an end in another place, or twice (hear_fin)
   - a program that has closed, or aborted, or let a unit fall, and whose peer does not know when all is said (the end of world)
   - ECONNRESET of a peer that has ended its stream in order (heard_reset)

   Not modelled: the cutover (lane.pml), TCP's own end, and a link that fails.

   MUTANTS   one of the rules below is forgotten: forgotten(N) */

#ifndef UNITS
#define UNITS 2
#endif
#ifdef MUTANTS
#define forgotten(n) (mutant == n)
#else
#define forgotten(n) false
#endif

/* As in core/flow/ends.hpp. */
#define open 0
#define closed 1   /* own */
#define aborted 2
#define nothing 0  /* told */
#define ended 1    /* told, peer */
#define all 2      /* told: closed */
#define reset 3
#define gone 2     /* peer: closed */
#define pending 1  /* failure */

/* What is said on the link, and the words of Ends::next_word. */
#define BYTE 0
#define FIN 1
#define FIN_CLOSED 2
#define RESET 3

/* Events of the machine, as replay_streams.cpp reads them. */
#define e_shutdown 0
#define e_close 1
#define e_word 2
#define e_fin 3
#define e_tell_reset 4
#define e_reset 5

byte own[2], told[2], peer[2], failure[2], total[2], queued[2], sent[2], landed[2];
bool read_shut[2], write_shut[2], known[2], peer_ended_well[2], dropped[2];
chan link[2] = [UNITS + 5] of { byte, byte };  /* by receiver */
byte length;
#ifdef MUTANTS
byte mutant;
#endif

#define other (1 - me)
#define failed(e) (failure[e] > 0)
#define both_ended(e) (known[e] && write_shut[e])
#define closing(e) (own[e] != open)

/* A call of the machine of `me`, with what it was given, and what it answers. */
inline called(event_, a_, b_, answer_) {
  event = event_; a = a_; b = b_; answer = answer_;
#ifdef TRACES
  c_code { printf("end %d %d %d %d %d %d %d %d %d %d %d %d %d %d\n", now.length, Pworld->me, Pworld->event, Pworld->a, Pworld->b,
                  Pworld->answer, now.own[Pworld->me], now.read_shut[Pworld->me], now.write_shut[Pworld->me], now.told[Pworld->me],
                  now.peer[Pworld->me], now.failure[Pworld->me], now.known[Pworld->me], now.total[Pworld->me]); };
#endif
  event = 0; a = 0; b = 0; answer = 0
}

/* What follows, up to the next, is one thing that happens, in a trace of so many. */
inline begun() {
#ifdef TRACES
  c_code { printf("move %d\n", now.length); };
#endif
  skip
}

inline say(kind, number) { link[other]!kind,number }

/* Ends::next_word, until there is nothing to say. Rule 1: an end comes behind all bytes. 2: it is said once. 3: nothing comes behind
   RESET. 4: that a program has closed is said although its end was. 5: an abort says RESET. */
inline say_end() {
  do
  :: true ->
    word = 0;
    if
    :: peer[me] == gone || (told[me] == reset && !forgotten(3))
    :: else ->
      if
      :: own[me] == aborted && told[me] != reset && !forgotten(5) -> told[me] = reset; word = RESET
      :: else ->
        if
        :: (queued[me] > 0 && !forgotten(1)) || told[me] == all
        :: else ->
          if
          :: closing(me) && !(told[me] == ended && forgotten(4)) -> told[me] = all; word = FIN_CLOSED
          :: !closing(me) && write_shut[me] && (told[me] == nothing || (forgotten(2) && len(link[other]) == 0)) -> told[me] = ended; word = FIN
          :: else
          fi
        fi
      fi
    fi;
    called(e_word, queued[me] == 0, 0, word);
    if
    :: word == 0 -> break
    :: else -> say(word, sent[me])
    fi
  od;
  word = 0
}

/* RST: of a peer that ended its stream it is EPIPE (1), else ECONNRESET (2), and nothing where both had ended. */
inline heard_reset() {
  answer_ = (known[me] && write_shut[me] -> 0 : (known[me] -> 1 : 2));
  peer[me] = gone;
  called(e_reset, 0, 0, answer_);
  assert(peer_ended_well[me] == false || answer_ != 2);
  if
  :: answer_ > 0 && failure[me] == 0 -> failure[me] = pending
  :: else
  fi;
  answer_ = 0
}

/* A unit that nobody will read is answered by RESET (rule 6), as the kernel answers it. */
inline hear_unit() {
  if
  :: peer[me] == gone  /* it crossed */
  :: else ->
    if
    :: (closing(me) || (read_shut[me] && write_shut[me])) && told[me] != reset && !forgotten(6) ->
      told[me] = reset;
      called(e_tell_reset, 0, 0, 0);
      say(RESET, 0);
      if
      :: !closing(me) -> heard_reset()
      :: else
      fi
    :: else
    fi;
    if
    :: closing(me) -> dropped[me] = true
    :: peer[me] == gone
    :: else ->
      assert(!known[me]);  /* a unit behind the end */
      landed[me]++
    fi
  fi
}

/* Ends::fin. It crosses our RESET, or a link that we have done with. */
inline hear_fin(number, closes) {
  if
  :: peer[me] == gone && (told[me] == reset || told[me] == all)
  :: else ->
    assert(peer[me] != gone);
    assert(!(peer[me] == ended && (total[me] != number || !closes)));
    assert(closing(me) || number == landed[me]);
    total[me] = number;
    known[me] = true;
    peer[me] = (closes -> gone : ended);
    if
    :: closes -> peer_ended_well[me] = true
    :: else
    fi;
    called(e_fin, number, closes, 1)
  fi
}

inline hear() {
  link[me]?kind,number;
  if
  :: kind == BYTE -> hear_unit()
  :: kind == FIN -> hear_fin(number, false)
  :: kind == FIN_CLOSED -> hear_fin(number, true)
  :: kind == RESET -> heard_reset()
  fi;
  kind = 0;
  number = 0
}

/* As shutdown(2): ENOTCONN where there is no connection any more. */
inline shut(how) {
  if
  :: failed(me) || both_ended(me) -> called(e_shutdown, how, 0, 0)
  :: else ->
    read_shut[me] = read_shut[me] || how != 1;
    write_shut[me] = write_shut[me] || how != 0;
    called(e_shutdown, how, 0, 1)
  fi
}

inline close_it(abort) {
  own[me] = (abort && !both_ended(me) -> aborted : closed);
  called(e_close, own[me] == aborted, 0, 0)
}

#define posts(e) (queued[e] > 0 && peer[e] != gone && told[e] != reset)
#define quiet(e) (len(link[e]) == 0 && !posts(e))
#define goes_on(e) (own[e] == open || !quiet(e))

active proctype world() {
  byte me, event, a, b, answer, answer_, word, kind, number;
#ifdef MUTANTS
  c_code { if (getenv("MUTANT")) now.mutant = atoi(getenv("MUTANT")); };
#endif
  do
#ifdef LENGTH
  :: atomic {
    length < LENGTH && (goes_on(0) || goes_on(1)) -> length++;
#else
  :: atomic {
    goes_on(0) || goes_on(1) ->
#endif
    if
    :: goes_on(0) -> me = 0
    :: goes_on(1) -> me = 1
    fi;
    if
    :: len(link[me]) > 0 -> begun(); hear()
    :: posts(me) -> begun(); queued[me]--; sent[me]++; say(BYTE, 0)
    :: own[me] == open && sent[me] + queued[me] < UNITS && !write_shut[me] && !failed(me) && peer[me] != gone -> begun(); queued[me]++
    :: own[me] == open && !read_shut[me] -> begun(); shut(0)
    :: own[me] == open && !write_shut[me] -> begun(); shut(1)
    :: own[me] == open && !(read_shut[me] && write_shut[me]) -> begun(); shut(2)
    :: own[me] == open -> begun(); close_it(false)
    :: own[me] == open -> begun(); close_it(true)
    fi;
    say_end();
    me = 0
  }
  :: !goes_on(0) && !goes_on(1) -> break
  od;
  /* Whoever has closed has said so, or heard that the other has; and then the other has heard it. An abort, and a unit that nobody will
     read, is a reset. */
  for (me : 0 .. 1) {
    assert(told[me] == all || told[me] == reset || peer[me] == gone);
    assert(!(told[me] == all || told[me] == reset) || peer[other] == gone);
    assert(own[me] != aborted || told[me] != all);
    assert(!dropped[me] || told[me] == reset)
  }
}
