#pragma once
// What a cutover keeps waiting, and for how long: the program's bytes, from when this end's N is fixed; and
// the peer's word, as long as the program has not read what comes before the lane (docs/protocol.md, section
// 6, rules 7 to 9).
//
// Pure. Times are handed in.

#include <cstdint>
#include <optional>
#include <utility>

#include "core/base/clock.hpp"
#include "core/flow/held.hpp"
#include "core/wire/message.hpp"

namespace rsock::flow {

class Hold {
 public:
  // ---- the program's bytes
  HeldBytes kept;
  // The program waits; true the first time.
  bool begin_wait(Time when);
  void end_wait() { since_.reset(); }
  bool waited_on() const { return since_.has_value(); }
  // Longer than a program can be asked to. As long as TCP drains, `undelivered` bytes being left of this end's
  // own, its token is on its way, and the time begins anew.
  bool too_long(Time when, uint64_t undelivered);

  // ---- the peer's word, which is for later
  void keep(const wire::Accept& accept) { accept_ = accept; }
  void keep(const wire::Confirm& confirm) { confirm_ = confirm; }
  bool has_accept() const { return accept_.has_value(); }
  bool has_confirm() const { return confirm_.has_value(); }
  const wire::Accept& accept() const { return *accept_; }
  const wire::Confirm& confirm() const { return *confirm_; }
  wire::Accept take_accept() { return *std::exchange(accept_, {}); }
  wire::Confirm take_confirm() { return *std::exchange(confirm_, {}); }
  void forget_words() { accept_.reset(), confirm_.reset(); }

  // ---- how it is to go on
  bool hurried() const { return hurried_; }  // no later than now
  void hurry(bool on = true) { hurried_ = on; }
  // The peer's program waits; this end's had read so much by then. True the first time.
  bool peer_blocked(uint64_t position_in);
  // This end's has read something since.
  bool reads_on(uint64_t position_in) const { return blocked_at_ && position_in > *blocked_at_; }
  bool pressed() const { return pressed_; }  // long enough to take bytes out of TCP
  void press() { pressed_ = true; }

  // How long the present state may last. `claims`: S waits for an answer; `felt`: the program waits, or had
  // no room on TCP and waits for it; else as long as a dial, or as half of it.
  Duration limit(Duration dial, bool claims, bool felt) const;

 private:
  std::optional<Time> since_;
  std::optional<wire::Accept> accept_;
  std::optional<wire::Confirm> confirm_;
  std::optional<uint64_t> blocked_at_;
  uint64_t undelivered_ = UINT64_MAX;
  bool hurried_ = false, pressed_ = false;
};

}  // namespace rsock::flow
