#pragma once
// What is known of a peer's address in one lane: which flows wait to be dialled there, which is dialled, and
// when the next may be.
//
// The two ends of a connection are not ordered in time, and a plain peer opens no point, so a refusal is an
// ordinary answer. A flow whose dial is refused, or not answered, waits and is dialled again after a pause
// that grows. Dials over RDMA to one address are also spaced: closely at first; far apart once a flow of that
// address has used up its time and none since was ever linked. Then the address is taken for a plain peer's,
// and only its newest flow is tried. Over shared memory a dial costs next to nothing and is not spaced.
//
// Pure: times are handed in. The service's thread. A child of fork does not use it.

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "core/base/endpoint.hpp"
#include "core/base/lane.hpp"
#include "core/base/reason.hpp"
#include "core/engine/service/pause.hpp"

namespace rsock::engine {

// Where peers are looked for.
struct Place {
  Lane lane;
  Address address;
  auto operator<=>(const Place&) const = default;
};

class Peer {
 public:
  static constexpr size_t kMostWaiting = 1024;
  // A flow that waits to be dialled.
  struct Waiting {
    uint64_t flow;
    Time due;                             // not before
    Pause pause;                          // after the next refusal
    Reason failure = Reason::plain_peer;  // of the last dial
  };

  // `number`: by which timers name it.
  Peer(const Place& place, uint64_t number) : place_(place), number_(number) {}
  const Place& place() const { return place_; }
  uint64_t number() const { return number_; }
  bool idle() const { return waiting_.empty() && !dialling_; }

  // Its first dial is due at once. False if too many wait.
  bool add(uint64_t flow, Time time);
  // When there is something to dial; nothing while none waits, or one is dialled.
  std::optional<Time> next_dial() const;
  // The flow to dial then: it waits no longer.
  Waiting take();
  // It is dialled, until `ends` at the latest.
  void begin(const Waiting& waiting, Time ends);
  const std::optional<Waiting>& dialling() const { return dialling_; }
  Time dial_ends() const { return dial_ends_; }
  Waiting end();
  // It was refused: it waits again, and so does the address.
  void wait_again(Waiting waiting, Time time);
  void space(Time time);

  // There is a link. Whoever is served by it waits no longer.
  template <class Served>
  void linked(Served&& is_served) {
    plain_ = false;
    next_dial_ = {};
    std::erase_if(waiting_, [&](const Waiting& waiting) { return is_served(waiting.flow); });
  }
  // When it is looked whether those who wait still have to; nothing while none does.
  std::optional<Time> next_sweep() const;
  enum class Fate { waits, gone, in_vain };
  // In vain: its time is used up, and its last dial has failed for that reason.
  template <class Judge>
  void sweep(Time time, Judge&& judge) {
    swept(time);
    std::erase_if(waiting_, [&](const Waiting& waiting) {
      const auto fate = judge(waiting.flow, waiting.failure);
      if (fate == Fate::in_vain) plain_ = place_.lane == Lane::rdma;
      return fate != Fate::waits;
    });
  }

 private:
  size_t next() const;
  void swept(Time time);

  const Place place_;
  const uint64_t number_;
  std::deque<Waiting> waiting_;      // oldest first
  std::optional<Waiting> dialling_;  // the flow whose point is dialled
  Time dial_ends_{};
  Time next_dial_{};  // not before
  Time next_sweep_{};
  bool plain_ = false;  // taken for an address where librsock does not run
};

}  // namespace rsock::engine
