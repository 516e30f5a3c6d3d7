#pragma once
// Whether the process has rings of io_uring. Through a ring the kernel is told what no preload sees: to read and write
// a flow's socket, and which sockets are members of an epoll set (IORING_OP_EPOLL_CTL). Rings are refused where they
// are asked for (sockets::before_ring); what is looked for here are those that are there all the same: inherited,
// received, or made by an instruction of the program's own.
//
// A look reads the names of all descriptors, so it costs some microseconds for each that the program has. It is due
// when a flow begins to look for its lane, and takes its time at most once in a hundred times that: a flow that comes
// sooner after the last look waits for none, and the look is made up for. What is not seen: a ring that comes when no
// flow does any more, one without a descriptor (IORING_SETUP_REGISTERED_FD_ONLY), and any where /proc cannot be read.
//
// The service thread.

#include <optional>

#include "core/base/clock.hpp"
#include "core/base/unique_fd.hpp"

namespace rsock::engine {

class KernelRings {
 public:
  // Until then, and once it is closed, no ring is found.
  void open();
  void close() { folder_.reset(), wanted_ = false; }

  void flow_comes() { wanted_ = folder_ && !found_; }
  // When there is something to do.
  std::optional<Time> due() const { return wanted_ ? std::optional(next_) : std::nullopt; }
  // Looks, if it is time. True when it finds the first one.
  bool found();

 private:
  bool look() const;

  UniqueFd folder_;  // kept open: opened for each look, it would take a number from the program each time
  bool wanted_ = false, found_ = false;
  Time next_{};
};

}  // namespace rsock::engine
