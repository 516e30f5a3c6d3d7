#pragma once
// What carries the bytes of a flow now, and what may.

#include <array>
#include <string_view>

namespace rsock {

enum class Lane { tcp, rdma, shm };
inline constexpr std::array<std::string_view, 3> kLaneNames{"tcp", "rdma", "shm"};

// The lanes that a rule lets a flow enter; none: it stays on TCP. Shared memory is preferred where the peer is on this
// host.
struct Lanes {
  bool rdma = false, shm = false;
  bool any() const { return rdma || shm; }
  bool has(Lane lane) const { return (lane == Lane::rdma && rdma) || (lane == Lane::shm && shm); }
  friend Lanes operator|(Lanes a, Lanes b) { return {.rdma = a.rdma || b.rdma, .shm = a.shm || b.shm}; }
  // Those of `a` that are not in `b`.
  friend Lanes operator-(Lanes a, Lanes b) { return {.rdma = a.rdma && !b.rdma, .shm = a.shm && !b.shm}; }
};

}  // namespace rsock
