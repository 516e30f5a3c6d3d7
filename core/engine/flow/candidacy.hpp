#pragma once
// Whether a flow may enter a lane, where its peer is looked for, and what came of it so far.
//
//   selected ─▶ worth it ─▶ sought ─▶ in a lane ─▶ lost ─▶ sought again, after a pause that grows ─▶ …
//                  └─────────────┴────────┴─▶ settled: on TCP for good, for a reason that is counted
//
// It only remembers and decides: the flow, and the service that looks for peers, act. Under the engine's
// lock.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <set>

#include "core/base/clock.hpp"
#include "core/base/lane.hpp"
#include "core/base/reason.hpp"

namespace rsock::engine {

class Candidacy {
 public:
  // ---- selection
  // A rule selected the flow for one of `lanes`.
  void select(Lanes lanes) { selected_ = true, wanted_ = lanes; }
  bool selected() const { return selected_; }
  Lanes wanted() const { return wanted_; }
  void want(Lanes lanes) { wanted_ = lanes; }
  // The program used it, in this process.
  bool used() const { return used_; }
  void note_used() { used_ = true; }
  // Its rendezvous point was asked for.
  bool expected() const { return expected_; }
  void expect() { expected_ = true; }
  // It has shown that it is worth a lane, or is to have one whatever it is worth.
  void show_worth() { worth_ = true; }
  bool worth() const { return worth_; }
  // On TCP for good. False if it was already.
  bool settle(Reason reason);
  bool settled() const { return settled_for_.has_value(); }
  std::optional<Reason> settled_for() const { return settled_for_; }

  // ---- the search of an accepted flow
  // Where its peer is looked for; Lane::tcp: nowhere yet.
  Lane sought() const { return sought_; }
  void seek_in(Lane lane) { sought_ = lane, sought_until_ = {}, times_found_ = 0; }
  void seek_again() { tried_.clear(), seek_in(Lane::tcp); }
  // The end of the search, once it has begun.
  Time sought_until() const { return sought_until_; }
  void seek_until(Time end) {
    if (sought_until_ == Time{}) sought_until_ = end;
  }
  // How often its own point was answered.
  int times_found() const { return times_found_; }
  void found() { ++times_found_; }
  // Links that were asked for this flow already, by number.
  size_t links_tried() const { return tried_.size(); }
  bool has_tried(uint64_t link) const { return tried_.contains(link); }
  void try_link(uint64_t link) { tried_.insert(link); }

  // ---- what came of it
  struct Entry {
    bool first = false;  // it was in no lane before
    bool again = false;  // it had lost one
  };
  Entry enter(Lane lane, Time when);
  // True if it was in a lane. One that lasted makes up for all failures before it.
  bool leave(Time when);
  void lose_lane() { lost_ = true; }
  bool lost_lane() const { return lost_; }
  // The fastest that it was in; Lane::tcp: none.
  Lane furthest() const { return furthest_; }

  enum class Next { again, settle };
  // No lane was found for it. Where it had one, or where what is lacking may come back by itself
  // (`may_come_back`), it is tried again: many times if what is lacking comes and goes without either
  // program's doing, a few times if not.
  Next not_served(Reason reason, bool may_come_back);
  void not_now() { ++pauses_; }
  void forget_pauses() { pauses_ = 0; }
  bool tried_before() const { return pauses_ > 0; }
  // How long to wait before the next try, and at most.
  static constexpr Duration kLongestPause = milliseconds(5000);
  Duration pause() const;

 private:
  bool selected_ = false, used_ = false, expected_ = false, worth_ = false;
  Lanes wanted_;
  std::optional<Reason> settled_for_;
  Lane sought_ = Lane::tcp;
  Time sought_until_{};
  int times_found_ = 0;
  std::set<uint64_t> tried_;
  Lane furthest_ = Lane::tcp;
  bool been_in_lane_ = false, lost_ = false;
  std::optional<Time> entered_;
  int tries_ = 0, pauses_ = 0;  // since it was last in a lane for long: that count, and that make it wait
};

}  // namespace rsock::engine
