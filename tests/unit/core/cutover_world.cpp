#include "cutover_world.hpp"

#include <fmt/format.h>

namespace rsock::flow::model {

bool World::apply(Move move) {
  switch (move.verb) {
    case Verb::claim: return claim();
    case Verb::write: return write(move.end);
    case Verb::read_tcp: return read_tcp(move.end);
    case Verb::read_link: return read_link(move.end, move.attempt, false);
    case Verb::refuse_claim: return read_link(move.end, move.attempt, true);
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

bool World::claim() {
  auto& self = joint.ends[kS];
  if (self.state != State::tcp || self.attempt == rules_.attempts) return false;
  ++self.attempt;
  happen(kS, Event::claim_wanted);
  return true;
}

bool World::write(size_t end) {
  auto& self = joint.ends[end];
  if (self.made == rules_.units || sends(self.state) == Sends::nothing) return false;
  const unsigned unit = self.made++;
  if (sends(self.state) == Sends::raw) {
    send_raw(end, unit);
  } else {
    ++self.ring_count;
    send_link(end, self.attempt, {Kind::ring, unit});
  }
  return true;
}

bool World::read_tcp(size_t end) {
  auto& self = joint.ends[end];
  auto& queue = joint.tcp[end];
  if (queue.size == 0) return false;
  const auto item = queue.front();
  switch (receives(self.state)) {
    case Receives::nothing: return false;
    case Receives::raw: take_raw(end); return true;
    case Receives::raw_to_boundary:
      if (self.raw_read < self.peer_boundary) {
        take_raw(end);
      } else if (item.kind == Kind::token) {
        queue.pop();
        happen(end, Event::token_seen);
      } else if (item.kind == Kind::raw) {
        happen(end, Event::raw_seen);  // and is read as what it is in the next state
      } else {
        wrong("a frame where a token may be");
      }
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

void World::take_raw(size_t end) {
  const auto item = joint.tcp[end].front();
  joint.tcp[end].pop();
  if (item.kind != Kind::raw) return wrong("a token or frame read as data");
  ++joint.ends[end].raw_read;
  deliver(end, item.value);
}

bool World::read_link(size_t end, unsigned attempt, bool refuse) {
  auto& queue = link(end, attempt);
  if (queue.size == 0 || (refuse && queue.front().kind != Kind::claim)) return false;
  const auto item = queue.front();
  queue.pop();
  if (item.kind == Kind::claim)
    take_claim(attempt, refuse);
  else if (attempt == joint.ends[end].attempt)
    take_message(end, item);
  return true;
}

// A flow that is not back on TCP yet refuses; a link that has failed is not answered.
void World::take_claim(unsigned attempt, bool refuse) {
  auto& self = joint.ends[kC];
  if (self.noticed & bit(attempt)) return;
  if (refuse || self.state != State::tcp) return send_link(kC, attempt, {Kind::decline, 0});
  self.attempt = static_cast<uint8_t>(attempt);
  happen(kC, Event::claim_received);
}

void World::take_message(size_t end, Item item) {
  auto& self = joint.ends[end];
  const Facts facts{.past_boundary = self.raw_read > item.value};
  switch (item.kind) {
    case Kind::accept:
      self.peer_boundary = static_cast<uint8_t>(item.value);
      return happen(end, Event::accept_received, facts);
    case Kind::confirm:
      if (self.state == State::accepted) self.peer_boundary = static_cast<uint8_t>(item.value);
      return happen(end, Event::confirm_received, facts);
    case Kind::ack: return happen(end, Event::ack_received);
    case Kind::decline: return happen(end, Event::declined);
    case Kind::retire:
      self.noticed |= bit(self.attempt);
      return happen(end, Event::fault);
    case Kind::ring: return take_ring(end, item.value);
    case Kind::raw:
    case Kind::token:
    case Kind::resume:
    case Kind::claim: return wrong("a message that cannot be");
  }
}

// A ring counts from the boundary message on, until it is frozen or void.
void World::take_ring(size_t end, unsigned unit) {
  auto& self = joint.ends[end];
  if (self.state == State::accepted) return wrong("ring bytes before CONFIRM");
  if (self.state != State::confirmed && self.state != State::shown && self.state != State::lane) return;
  if (self.landed == 0) self.landed_first = static_cast<uint8_t>(unit);
  if (unit != self.landed_first + self.landed) return wrong("a gap in the ring");
  ++self.landed;
  deliver_ring(end);
}

bool World::notice(size_t end, unsigned attempt) {
  auto& self = joint.ends[end];
  const bool peer_left = rules_.told == Told::later && (joint.ends[other(end)].left & bit(attempt));
  if ((self.noticed & bit(attempt)) || !(dead(attempt) || peer_left)) return false;
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
  if (rules_.told == Told::by_retire) send_link(end, self.attempt, {Kind::retire, 0});
  return true;
}

void World::happen(size_t end, Event event, Facts facts, unsigned offset) {
  auto& self = joint.ends[end];
  facts.raw_sent = self.raw_sent > self.own_boundary;
  findings_.steps.emplace(self.state, event);
  const auto before = self.state;
  const auto taken = rules_.step(before, event, facts);
  self.state = taken.state;
  for (const auto action : taken.actions) act(end, action, offset);
  if (self.state == State::broken) wrong(fmt::format("broken by {} in {}", name(event), name(before)));
  deliver_ring(end);
  if (self.state == State::tcp) {  // nothing of the attempt matters any more
    self.own_boundary = self.peer_boundary = self.ring_first = self.ring_count = 0;
    make_void(self);
  }
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
    case Action::send_ack: return send_link(end, self.attempt, {Kind::ack, 0});
    case Action::show_token: return send_tcp(end, {Kind::token, 0});
    case Action::void_received:
      if (self.ring_read > 0) wrong("ring bytes made void that were delivered");
      return make_void(self);
    case Action::send_resume: return send_tcp(end, {Kind::resume, self.landed});
    case Action::resend_all: return resend(end, 0);
    case Action::resend_rest: return resend(end, offset);
  }
}

void World::make_void(End& self) { self.landed = self.landed_first = self.ring_read = 0; }

void World::resend(size_t end, unsigned offset) {
  auto& self = joint.ends[end];
  if (offset > self.ring_count) return wrong("the peer received more than was sent");
  for (unsigned i = offset; i < self.ring_count; ++i) send_raw(end, self.ring_first + i);
  self.ring_count = 0;
}

void World::deliver(size_t end, unsigned unit) {
  auto& self = joint.ends[end];
  if (unit != self.delivered) return wrong(fmt::format("{} got unit {} as its unit {}", kEndNames[end], unit, self.delivered));
  ++self.delivered;
}

void World::deliver_ring(size_t end) {
  auto& self = joint.ends[end];
  if (!delivers_ring(self.state)) return;
  while (self.ring_read < self.landed) deliver(end, self.landed_first + self.ring_read++);
}

// Nothing is under way, and no fault is still to be noticed.
bool World::quiet() const {
  const auto& [c, s] = joint.ends;
  if (joint.tcp[kC].size + joint.tcp[kS].size > 0) return false;
  for (unsigned attempt = 1; attempt <= s.attempt; ++attempt) {
    for (const auto& queue : joint.links[attempt - 1])
      if (queue.size > 0) return false;
    const auto mask = bit(attempt);
    if (dead(attempt) && !(c.noticed & s.noticed & mask)) return false;
    const bool to_be_noticed = ((c.left | s.left) & ~(c.left & s.left) & ~(c.noticed | s.noticed)) & mask;
    if (rules_.told == Told::later && to_be_noticed) return false;
  }
  return true;
}

void World::check_end() {
  const auto& [c, s] = joint.ends;
  findings_.ends.emplace(c.state, s.state);
  if (c.delivered != s.made || s.delivered != c.made) return wrong("a unit that is never delivered");
  const bool both_raw = c.state == State::tcp && s.state == State::tcp;
  const bool both_ring = c.state == State::lane && s.state == State::lane;
  // S cannot tell that C gave up as well until C sends something; what it sends meanwhile is raw.
  const bool yielded = c.state == State::tcp && s.state == State::yielded;
  if (!both_raw && !both_ring && !yielded) wrong(fmt::format("C waits in {}, S in {}", name(c.state), name(s.state)));
  if (joint.dead == 0 && c.left + s.left == 0 && yielded) wrong("S gave up without a reason");
}

}  // namespace rsock::flow::model
