#pragma once
// Whether flows may enter a lane, as far as operators say: `rsock lane tcp` shuts the gate, for all or for a port, and
// `rsock lane auto` opens it. A flow has the ports of both its ends. What was said of all replaces what was said of
// single ports. And as far as there are descriptors for it: without any the gate is barred, whatever was said.

#include <cstdint>
#include <set>

namespace rsock::engine {

class Gate {
 public:
  // `port` 0: all.
  void set(bool open, uint16_t port) {
    if (port == 0) {
      open_ = open;
      otherwise_.clear();
    } else if (open == open_) {
      otherwise_.erase(port);
    } else {
      otherwise_.insert(port);
    }
  }
  void bar(bool barred) { barred_ = barred; }
  bool barred() const { return barred_; }
  bool admits(uint16_t local, uint16_t remote) const {
    if (barred_) return false;
    if (otherwise_.empty()) return open_;
    return open_ != (otherwise_.contains(local) || otherwise_.contains(remote));
  }

 private:
  bool open_ = true, barred_ = false;
  std::set<uint16_t> otherwise_;  // ports for which it is not as for all
};

}  // namespace rsock::engine
