#pragma once
// What the engine is told; the options of the configuration file, in its own types.

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/clock.hpp"
#include "core/keys/link_key.hpp"

namespace rsock::engine {

struct Settings {
  Duration rendezvous = milliseconds(2000);
  Duration young = milliseconds(10);  // zero: no connection has to show that it is worth a lane
  Duration dial = milliseconds(2000);
  Duration spin = microseconds(400);
  Duration drain = milliseconds(2000);
  uint32_t ring_min = 16 << 10;
  uint32_t ring_max = 1 << 20;
  uint64_t max_pinned = 1 << 30;
  bool check_peer_address = true;
  std::string device;
  bool rings_allowed = false;  // of io_uring; flows stay on TCP then
  // Of those that peers over RDMA must know one of; the first is the one to show. None: they need not.
  std::vector<keys::Preshared> secrets;
};

}  // namespace rsock::engine
