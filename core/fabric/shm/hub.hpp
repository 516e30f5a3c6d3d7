#pragma once
// Where what peers on this host post is found: the channels of the engine are looked at one after the other,
// which costs a look at one cache line each. A peer that posts while we sleep rings the bell of its channel;
// all bells are in one epoll set, whose descriptor is the one to sleep on.

#include <vector>

#include "core/base/unique_fd.hpp"
#include "core/fabric/fabric.hpp"

namespace rsock::fabric::shm {

class Channel;

class Hub final : public Completions {
 public:
  explicit Hub(UniqueFd bells) : bells_(std::move(bells)) {}

  int poll() override;
  void arm() override;
  void acknowledge() override;
  int fd() const override { return bells_.get(); }

  // Under the engine's lock.
  Status enlist(Channel& channel);
  void strike(Channel& channel);

 private:
  void ignore(Channel& channel);

  UniqueFd bells_;
  std::vector<Channel*> channels_;
};

}  // namespace rsock::fabric::shm
