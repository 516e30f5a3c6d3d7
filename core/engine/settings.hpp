#pragma once
// What the engine is told; the options of the configuration file, in its own types.

#include <cstdint>
#include <string>

#include "core/base/clock.hpp"

namespace rsock::engine {

struct Settings {
  Duration rendezvous = milliseconds(2000);
  Duration dial = milliseconds(2000);
  Duration spin = microseconds(400);
  Duration drain = milliseconds(2000);
  uint32_t ring_min = 16 << 10;
  uint32_t ring_max = 1 << 20;
  uint64_t max_pinned = 1 << 30;
  bool check_peer_address = true;
  std::string device;
};

}  // namespace rsock::engine
