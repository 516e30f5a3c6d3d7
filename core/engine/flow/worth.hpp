#pragma once
// Whether a connection is worth a lane, by what it did so far.
//
// To enter one costs both ends together as much as about ten exchanges over TCP, and most connections that are
// opened for one request are over before that. So a lane is sought when TCP has cost as much as the lane would:
// the connection is likely to go on then, and where it does not, it has paid twice and no more. One that did
// less, and is there still after Settings::young, gets a lane, too (core/engine/service/young.hpp).
//
// The connector is to wait before it is dialled: it needs three quarters of what the acceptor needs.
//
// It only counts. Under the engine's lock.

#include <cstdint>
#include <utility>

namespace rsock::engine {

enum class Use : uint8_t { none, reads, writes };

class Worth {
 public:
  static constexpr unsigned kTurns = 16;  // from reading to writing, or back
  static constexpr uint64_t kBytes = 256 << 10;

  // The program is about to use the connection, over which `bytes` went so far, either way. True if that is
  // enough.
  bool uses(Use use, uint64_t bytes, bool connector) {
    turns_ += std::exchange(last_, use) != use;
    const uint64_t part = connector ? 3 : 4;
    return turns_ >= kTurns * part / 4 || bytes >= kBytes * part / 4;
  }

 private:
  Use last_ = Use::none;
  unsigned turns_ = 0;
};

}  // namespace rsock::engine
