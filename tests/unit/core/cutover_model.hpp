#pragma once
// A model of one TCP connection and of the links between its two ends, small enough to visit every state of it.
//
// The ends are two real flow machines, each with the least driver that machine.hpp's words on its actions allow. What
// moves: the applications write units (a unit stands for any number of bytes) whenever they like, and what may go
// nowhere is held; TCP carries raw units, marks and RESUME frames, in order and without loss, and a mark may be seen in
// front of which units are unread; a link carries control messages and ring writes of a direction in order, dies at any
// moment with everything, a part or nothing of what it holds still to arrive, and each end notices that at any later
// time; ACCEPT and CONFIRM may wait at their receiver; an end gives up or leaves on purpose while the link lives, and
// what is under way still arrives; somebody may sit between two links, and pass on everything. Every move may come
// before or after every other.
//
// What is found wrong: a unit delivered twice, never or out of order; a mark or frame read as data, or data as a frame;
// a ring byte that leaves before the peer's token was seen, or reaches an end that does not expect it; any ring byte
// over somebody in between; the state `broken`; an end that waits for ever (nothing is under way, all faults were
// noticed, and a unit is not delivered or the ends are neither both in the lane nor both raw).

#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <utility>

#include "core/flow/machine.hpp"

namespace rsock::flow::model {

struct Rules {
  unsigned units = 2;     // that each application writes
  unsigned attempts = 1;  // to enter a lane, each over a link of its own
  bool dies = true;       // links may die
  bool leaves = false;    // ends may leave on purpose
  bool tells = true;      // who is done with a link says RETIRE
  bool relayed = false;   // the ends have a link each, to somebody in between
  Step (*step)(State, Event, Facts) = flow::step;
};

struct Findings {
  size_t states = 0;
  std::string violation;  // empty, or what is wrong and the shortest way there
  std::set<std::pair<State, Event>> steps;
  std::set<std::pair<State, State>> ends;  // states of C and S in which nothing moves any more
};

// Visits every state; stops at the first violation.
Findings explore(const Rules& rules);

}  // namespace rsock::flow::model
