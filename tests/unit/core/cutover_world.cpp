#include "cutover_world.hpp"

#include <fmt/format.h>

namespace rsock::flow::model {

bool World::apply(Move move) {
  switch (move.verb) {
    case Verb::claim: return claim();
    case Verb::write: return write(move.end);
    case Verb::read_tcp: return read_tcp(move.end);
    case Verb::look_ahead: return look_ahead(move.end);
    case Verb::read_link:
    case Verb::put_off:
    case Verb::refuse_claim: return read_link(move.end, move.attempt, move.verb);
    case Verb::go_on: return go_on(move.end);
    case Verb::die:
      if (!rules_.dies || dead(move.attempt) || joint.ends[kS].attempt < move.attempt) return false;
      joint.dead |= bit(move.attempt);
      return true;
    case Verb::lose:
      if (!dead(move.attempt) || link(move.end, move.attempt).size == 0) return false;
      link(move.end, move.attempt).clear();
      return true;
    case Verb::notice: return notice(move.end, move.attempt);
    case Verb::leave: return leave(move.end);
  }
  return false;
}

// Raw both ways, no mark left in TCP, and no link that still names it.
bool World::may_enter(const End& self) const {
  const auto last = bit(self.attempt);
  const bool released = self.attempt == 0 || (self.noticed & last) || (self.retired & self.peer_retired & last);
  return self.state == State::tcp && !self.ahead && released;
}

void World::bind(End& self, unsigned attempt) {
  self.attempt = static_cast<uint8_t>(attempt);
  self.put_off = self.begun = self.seen = self.slot_known = 0;
}

bool World::claim() {
  auto& self = joint.ends[kS];
  if (!may_enter(self) || self.attempt == rules_.attempts) return false;
  bind(self, self.attempt + 1u);
  happen(kS, Event::claim_wanted);
  return true;
}

bool World::write(size_t end) {
  auto& self = joint.ends[end];
  if (self.made == rules_.units || self.state == State::broken) return false;
  const unsigned unit = self.made++;
  if (sends(self.state) == Sends::nothing)
    ++self.held;
  else
    send_unit(end, unit);
  return true;
}

void World::send_unit(size_t end, unsigned unit) {
  auto& self = joint.ends[end];
  if (sends(self.state) == Sends::raw) return send_raw(end, unit);
  if (!self.seen) wrong("a ring byte before the peer is known to have read the token");
  if (rules_.relayed) wrong("a ring byte over somebody in between");
  ++self.ring_count;
  send_link(end, self.attempt, {Kind::ring, unit});
}

void World::let_held_go(size_t end) {
  auto& self = joint.ends[end];
  if (sends(self.state) == Sends::nothing) return;
  while (self.held > 0) send_unit(end, self.made - self.held--);
}

bool World::read_tcp(size_t end) {
  auto& self = joint.ends[end];
  auto& queue = joint.tcp[end];
  if (queue.size == 0) return false;
  const auto item = queue.front();
  switch (self.ahead ? Receives::raw_to_boundary : receives(self.state)) {
    case Receives::nothing: return false;
    case Receives::raw: take_raw(end); return true;
    case Receives::raw_to_boundary:
      if (self.raw_read < self.peer_boundary)
        take_raw(end);
      else
        see(end, item);
      return true;
    case Receives::frames:
      queue.pop();
      if (item.kind == Kind::resume)
        happen(end, Event::resume_received, {}, item.value);
      else
        wrong("other bytes where a frame may be");
      return true;
  }
  return false;
}

// What is at N, where units in front of it are unread.
bool World::look_ahead(size_t end) {
  auto& self = joint.ends[end];
  if (self.ahead || receives(self.state) != Receives::raw_to_boundary || self.raw_read >= self.peer_boundary)
    return false;
  const auto before = static_cast<size_t>(self.peer_boundary - self.raw_read);
  if (joint.tcp[end].size <= before) return false;
  see(end, joint.tcp[end].at(before));
  return true;
}

// Raw bytes stay there, and are read as what they are in the next state.
void World::see(size_t end, Item item) {
  auto& self = joint.ends[end];
  if (item.kind == Kind::raw) return happen(end, Event::raw_seen);
  if (item.kind != Kind::token && item.kind != Kind::no) return wrong("a frame where a mark may be");
  if (self.raw_read < self.peer_boundary)
    self.ahead = 1;
  else
    joint.tcp[end].pop();
  if (item.kind == Kind::no) return happen(end, Event::no_seen);
  if (!rules_.relayed) return happen(end, Event::token_seen);
  happen(end, Event::foreign_seen);
  self.noticed |= bit(self.attempt);  // it costs the link
}

void World::take_raw(size_t end) {
  auto& self = joint.ends[end];
  const auto item = joint.tcp[end].front();
  joint.tcp[end].pop();
  if (item.kind != Kind::raw) return wrong("a mark or frame read as data");
  ++self.raw_read;
  deliver(end, item.value);
  if (!self.ahead || self.raw_read < self.peer_boundary) return;
  joint.tcp[end].pop();
  self.ahead = 0;
  deliver_ring(end);
}

bool World::read_link(size_t end, unsigned attempt, Verb how) {
  auto& queue = link(end, attempt);
  if (queue.size == 0) return false;
  const auto item = queue.front();
  if (how == Verb::refuse_claim && item.kind != Kind::claim) return false;
  if (how == Verb::put_off && item.kind != Kind::accept && item.kind != Kind::confirm) return false;
  queue.pop();
  if (item.kind == Kind::claim)
    take_claim(attempt, how == Verb::refuse_claim);
  else if (attempt == joint.ends[end].attempt)
    take_message(end, item, how == Verb::put_off);
  return true;
}

// A flow that is not back on TCP yet refuses; a link that has failed is not answered.
void World::take_claim(unsigned attempt, bool refuse) {
  auto& self = joint.ends[kC];
  if (self.noticed & bit(attempt)) return;
  if (refuse || !may_enter(self)) return send_link(kC, attempt, {Kind::decline, 0});
  bind(self, attempt);
  self.slot_known = 1;
  happen(kC, Event::claim_received);
}

void World::take_message(size_t end, Item item, bool put_off) {
  auto& self = joint.ends[end];
  switch (item.kind) {
    case Kind::accept: self.slot_known = 1; [[fallthrough]];
    case Kind::confirm:
      if (!put_off) return take_offset(end, item.value);
      self.put_off = static_cast<uint8_t>(item.value + 1);
      return;
    case Kind::decline:
      self.retired |= bit(self.attempt), self.peer_retired |= bit(self.attempt);
      return happen(end, Event::declined);
    case Kind::witness: return happen(end, Event::witnessed);
    case Kind::retire: return take_retire(end, item.value);
    case Kind::ring: return take_ring(end, item.value);
    case Kind::raw:
    case Kind::token:
    case Kind::no:
    case Kind::resume:
    case Kind::claim: return wrong("a message that cannot be");
  }
}

bool World::go_on(size_t end) {
  auto& self = joint.ends[end];
  if (self.put_off == 0) return false;
  take_offset(end, std::exchange(self.put_off, uint8_t{0}) - 1u);
  return true;
}

// Of ACCEPT or CONFIRM. It may come when the cutover was given up.
void World::take_offset(size_t end, unsigned offset) {
  auto& self = joint.ends[end];
  if (self.state == State::claimed || self.state == State::accepted) self.peer_boundary = static_cast<uint8_t>(offset);
  happen(end, end == kS ? Event::accept_received : Event::confirm_received, {.past_boundary = self.raw_read > offset});
}

void World::take_retire(size_t end, bool begun) {
  auto& self = joint.ends[end];
  self.peer_retired |= bit(self.attempt);
  const bool gave_up = !begun && (self.state == State::confirmed || self.state == State::yielded);
  if (self.state != State::tcp && self.state != State::broken) happen(end, gave_up ? Event::raw_seen : Event::fault);
  retire(end);
}

// A ring counts until it is frozen.
void World::take_ring(size_t end, unsigned unit) {
  auto& self = joint.ends[end];
  if ((self.retired | self.noticed) & bit(self.attempt)) return;
  if (!takes_ring(self.state)) return wrong("ring bytes that are not expected");
  if (self.landed == 0) self.landed_first = static_cast<uint8_t>(unit);
  if (unit != self.landed_first + self.landed) return wrong("a gap in the ring");
  ++self.landed;
  deliver_ring(end);
}

bool World::notice(size_t end, unsigned attempt) {
  auto& self = joint.ends[end];
  if ((self.noticed & bit(attempt)) || !dead(attempt)) return false;
  self.noticed |= bit(attempt);
  if (self.attempt == attempt) happen(end, Event::fault);
  return true;
}

bool World::leave(size_t end) {
  auto& self = joint.ends[end];
  if (!rules_.leaves || self.state == State::tcp || dead(self.attempt)) return false;
  if ((self.left | self.noticed) & bit(self.attempt)) return false;
  self.left |= bit(self.attempt);
  happen(end, Event::fault);
  return true;
}

void World::happen(size_t end, Event event, Facts facts, unsigned offset) {
  auto& self = joint.ends[end];
  facts.raw_sent = self.raw_sent > self.own_boundary;
  findings_.steps.emplace(self.state, event);
  const auto before = self.state;
  const auto taken = rules_.step(before, event, facts);
  self.state = taken.state;
  if (event == (end == kC ? Event::token_seen : Event::witnessed)) self.seen = 1;
  for (const auto action : taken.actions) act(end, action, offset);
  if (self.state == State::broken) wrong(fmt::format("broken by {} in {}", name(event), name(before)));
  let_held_go(end);
  deliver_ring(end);
  if (done_with_link(self.state)) retire(end);
  if (self.state == State::tcp) {  // nothing of the attempt matters any more
    self.own_boundary = self.ring_first = self.ring_count = 0;
    self.landed = self.landed_first = self.ring_read = 0;
    if (!self.ahead) self.peer_boundary = 0;
  }
}

void World::retire(size_t end) {
  auto& self = joint.ends[end];
  if (!self.slot_known || ((self.retired | self.noticed) & bit(self.attempt))) return;
  self.retired |= bit(self.attempt);
  if (rules_.tells) send_link(end, self.attempt, {Kind::retire, self.begun});
}

void World::act(size_t end, Action action, unsigned offset) {
  auto& self = joint.ends[end];
  switch (action) {
    case Action::none:
    case Action::reset: return;
    case Action::send_claim: return send_link(end, self.attempt, {Kind::claim, 0});
    case Action::send_accept:
    case Action::send_confirm:
      self.own_boundary = self.raw_sent;
      self.ring_first = self.made;
      return send_link(end, self.attempt,
                       {action == Action::send_accept ? Kind::accept : Kind::confirm, self.own_boundary});
    case Action::show_token: self.begun = 1; return send_tcp(end, {Kind::token, 0});
    case Action::show_no: return send_tcp(end, {Kind::no, 0});
    case Action::send_witness: return send_link(end, self.attempt, {Kind::witness, 0});
    case Action::send_resume:
      self.landed = self.ring_read;  // what was not read comes again
      return send_tcp(end, {Kind::resume, self.ring_read});
    case Action::resend_rest: return resend(end, offset);
  }
}

void World::resend(size_t end, unsigned offset) {
  auto& self = joint.ends[end];
  if (offset > self.ring_count) return wrong("the peer received more than was sent");
  for (unsigned i = offset; i < self.ring_count; ++i) send_raw(end, self.ring_first + i);
  self.ring_count = 0;
}

void World::deliver(size_t end, unsigned unit) {
  auto& self = joint.ends[end];
  if (unit != self.delivered)
    return wrong(fmt::format("{} got unit {} as its unit {}", kEndNames[end], unit, self.delivered));
  ++self.delivered;
}

// Behind the peer's mark.
void World::deliver_ring(size_t end) {
  auto& self = joint.ends[end];
  if (!delivers_ring(self.state) || self.ahead) return;
  while (self.ring_read < self.landed) deliver(end, self.landed_first + self.ring_read++);
}

// Nothing is under way, and no fault is still to be noticed.
bool World::quiet() const {
  const auto& [c, s] = joint.ends;
  if (joint.tcp[kC].size + joint.tcp[kS].size > 0 || c.put_off + s.put_off > 0) return false;
  for (unsigned attempt = 1; attempt <= s.attempt; ++attempt) {
    for (const auto& queue : joint.links[attempt - 1])
      if (queue.size > 0) return false;
    if (dead(attempt) && !(c.noticed & s.noticed & bit(attempt))) return false;
  }
  return true;
}

void World::check_end() {
  const auto& [c, s] = joint.ends;
  findings_.ends.emplace(c.state, s.state);
  if (c.delivered != s.made || s.delivered != c.made) return wrong("a unit that is never delivered");
  const bool both_raw = c.state == State::tcp && s.state == State::tcp;
  const bool both_ring = c.state == State::lane && s.state == State::lane;
  // S cannot tell that C gave up as well until C sends something, or says it on the link; what it sends
  // meanwhile is raw.
  const bool yielded = c.state == State::tcp && s.state == State::yielded;
  if (!both_raw && !both_ring && !yielded) wrong(fmt::format("C waits in {}, S in {}", name(c.state), name(s.state)));
  if (joint.dead == 0 && yielded) wrong("S has not heard that C gave up, on a link that lives");
}

}  // namespace rsock::flow::model
