#pragma once
// The joint state of the model in cutover_model.hpp, and its moves.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "cutover_model.hpp"

namespace rsock::flow::model {

inline constexpr size_t kC = 0, kS = 1, kAttempts = 2, kQueue = 11;
inline constexpr std::array<char, 2> kEndNames{'C', 'S'};
constexpr size_t other(size_t end) { return 1 - end; }

// What TCP or a link carries: a kind and a small number, in one byte.
enum class Kind : uint8_t { raw, token, no, resume, claim, accept, confirm, decline, retire, ring, witness };
inline constexpr std::array<std::string_view, 11> kKindNames{
    "raw", "token", "NO", "RESUME", "CLAIM", "ACCEPT", "CONFIRM", "DECLINE", "RETIRE", "ring", "WITNESS"};
struct Item {
  Kind kind;
  unsigned value;
};

struct Queue {
  uint8_t size = 0;
  std::array<uint8_t, kQueue> items{};

  bool push(Item item) {
    if (size == kQueue) return false;
    items[size++] = static_cast<uint8_t>(static_cast<unsigned>(item.kind) << 4 | item.value);
    return true;
  }
  Item front() const { return at(0); }
  Item at(size_t i) const { return {static_cast<Kind>(items[i] >> 4), items[i] & 15u}; }
  void pop() {
    std::copy(items.begin() + 1, items.end(), items.begin());
    items[--size] = 0;
  }
  void clear() { *this = {}; }
};

// Attempts count from 1; a set of attempts is a mask of bits.
struct End {
  State state = State::tcp;
  uint8_t attempt = 0;        // the flow's slot: messages of other attempts are not for it
  uint8_t noticed = 0;        // attempts whose link is known to have failed, or to have been left by the peer
  uint8_t left = 0;           // attempts that this end left on purpose
  uint8_t retired = 0;        // attempts that this end has said RETIRE of, or has no more to say of
  uint8_t peer_retired = 0;   // the same of the peer
  uint8_t slot_known = 0;     // the peer's, of this attempt
  uint8_t put_off = 0;        // ACCEPT or CONFIRM waits here: its N, plus one
  uint8_t begun = 0;          // its token is out
  uint8_t seen = 0;           // the peer has read this end's token
  uint8_t ahead = 0;          // the peer's mark was seen, and lies behind unread units
  uint8_t made = 0;           // units that the application wrote
  uint8_t held = 0;           // the last of which are held
  uint8_t delivered = 0;      // units that the application read
  uint8_t raw_sent = 0;       // units ever handed to TCP: N at the moment of the cutover
  uint8_t raw_read = 0;       // units ever taken from TCP
  uint8_t own_boundary = 0;   // own N
  uint8_t peer_boundary = 0;  // the peer's N
  uint8_t ring_first = 0;     // own ring stream: units from ring_first on, ring_count of them
  uint8_t ring_count = 0;
  uint8_t landed_first = 0;  // the peer's ring stream as far as it arrived
  uint8_t landed = 0;
  uint8_t ring_read = 0;  // of which the application got so many
};

struct Joint {
  std::array<End, 2> ends;
  std::array<Queue, 2> tcp;                           // by receiver
  std::array<std::array<Queue, 2>, kAttempts> links;  // by receiver
  uint8_t dead = 0;
};
static_assert(std::has_unique_object_representations_v<Joint>, "states are compared as bytes");

inline std::string_view bytes(const Joint& joint) { return {reinterpret_cast<const char*>(&joint), sizeof joint}; }
constexpr uint8_t bit(unsigned attempt) { return static_cast<uint8_t>(1u << attempt); }

enum class Verb : uint8_t {
  claim,
  write,
  read_tcp,
  look_ahead,
  read_link,
  put_off,
  go_on,
  refuse_claim,
  die,
  lose,
  notice,
  leave
};
struct Move {
  Verb verb;
  uint8_t end;
  uint8_t attempt;
};

class World {
 public:
  World(const Rules& rules, const Joint& start, Findings& findings)
      : joint(start), rules_(rules), findings_(findings) {}

  // False if the move is not possible now.
  bool apply(Move move);
  bool quiet() const;
  void check_end();

  Joint joint;
  std::string violation;

 private:
  void wrong(std::string what) {
    if (violation.empty()) violation = std::move(what);
  }
  bool claim();
  bool write(size_t end);
  bool read_tcp(size_t end);
  bool look_ahead(size_t end);
  bool read_link(size_t end, unsigned attempt, Verb how);
  bool go_on(size_t end);
  bool notice(size_t end, unsigned attempt);
  bool leave(size_t end);

  bool may_enter(const End& self) const;
  void bind(End& self, unsigned attempt);
  void see(size_t end, Item item);
  void take_raw(size_t end);
  void take_claim(unsigned attempt, bool refuse);
  void take_message(size_t end, Item item, bool put_off);
  void take_offset(size_t end, unsigned offset);
  void take_retire(size_t end, bool begun);
  void take_ring(size_t end, unsigned unit);
  void happen(size_t end, Event event, Facts facts = {}, unsigned offset = 0);
  void act(size_t end, Action action, unsigned offset);
  void retire(size_t end);
  void resend(size_t end, unsigned offset);
  void send_unit(size_t end, unsigned unit);
  void let_held_go(size_t end);
  void deliver(size_t end, unsigned unit);
  void deliver_ring(size_t end);

  bool dead(unsigned attempt) const { return joint.dead & bit(attempt); }
  Queue& link(size_t receiver, unsigned attempt) { return joint.links[attempt - 1][receiver]; }
  void send_tcp(size_t from, Item item) {
    if (!joint.tcp[other(from)].push(item)) wrong("more on TCP than there can be");
  }
  void send_link(size_t from, unsigned attempt, Item item) {
    if (!dead(attempt) && !link(other(from), attempt).push(item)) wrong("more on the link than there can be");
  }
  void send_raw(size_t from, unsigned unit) {
    send_tcp(from, {Kind::raw, unit});
    ++joint.ends[from].raw_sent;
  }

  const Rules& rules_;
  Findings& findings_;
};

}  // namespace rsock::flow::model
