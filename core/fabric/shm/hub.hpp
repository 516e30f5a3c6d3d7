#pragma once
// Where what peers on this host post is found: the channels of the engine are looked at one after the other, which costs a
// look at one cache line each. A bell, an eventfd that all peers have, is rung by a peer that posts while we sleep.

#include <vector>

#include "core/base/unique_fd.hpp"
#include "core/fabric/fabric.hpp"

namespace rsock::fabric::shm {

class Channel;

class Hub final : public Completions {
 public:
  explicit Hub(UniqueFd bell) : bell_(std::move(bell)) {}

  int poll() override;
  void arm() override;
  void acknowledge() override;
  int fd() const override { return bell_.get(); }

  // Under the engine's lock.
  void enlist(Channel& channel) { channels_.push_back(&channel); }
  void strike(Channel& channel) { std::erase(channels_, &channel); }

 private:
  UniqueFd bell_;
  std::vector<Channel*> channels_;
};

}  // namespace rsock::fabric::shm
