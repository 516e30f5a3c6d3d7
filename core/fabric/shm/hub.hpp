#pragma once
// Where what peers on this host post is found. A look at a channel costs a look at one cache line, and so the channels
// of a few peers are looked at one after the other. Among many, those that are quiet are not: a peer that posts to us
// while its channel sleeps rings the bell of it, and all bells are in one epoll set, whose descriptor is the one to
// sleep on, and to ask.
//
//   awake ──▶ awake and armed ──▶ quiet      armed: it was told to ring, and is looked at once more, behind a fence
//     ▲  its turn to sleep, or long  │
//     │  without a post              │       quiet: its word says "ring", or a ring of it is in the set
//     └──────────────────────────────┘
//       a ring, a post of ours, a look in passing
//
// Under the engine's lock.

#include <vector>

#include "core/base/unique_fd.hpp"
#include "core/fabric/fabric.hpp"

namespace rsock::fabric::shm {

class Channel;

class Hub final : public Completions {
 public:
  // So many are looked at, all of them, at each poll.
  static constexpr size_t kFew = 32;

  explicit Hub(UniqueFd bells, size_t few = kFew) : bells_(std::move(bells)), few_(few) {}

  bool listen() override;
  int poll() override;
  int glance() override;
  int look_everywhere() override;
  void arm() override;
  void acknowledge() override { (void)hear(); }
  int fd() const override { return bells_.get(); }

  Status enlist(Channel& channel);
  void strike(Channel& channel);
  // It is looked at for a while: something came, or an answer is likely.
  void rouse(Channel& channel);

  // What the hub knows of a channel, which keeps it.
  struct Seat {
    size_t at = 0;  // in its list
    bool awake = false;
    bool armed = false;
    uint32_t in_vain = 0;  // looks since the last post
  };

 private:
  using List = std::vector<Channel*>;

  bool hear();
  int look_at_awake();
  int look_at_quiet(size_t most);
  void settle_down();
  void seat(List& list, Channel& channel);
  void unseat(Channel& channel);
  void ignore(Channel& channel);
  bool crowded() const { return awake_.size() + quiet_.size() > few_; }

  UniqueFd bells_;
  const size_t few_;
  List awake_, quiet_;
  size_t next_ = 0;  // of the quiet ones
};

}  // namespace rsock::fabric::shm
