#include "config/lane.hpp"

namespace rsock::config {

std::string_view to_string(Lane lane) noexcept {
  switch (lane) {
    case Lane::automatic: return "auto";
    case Lane::rdma: return "rdma";
    case Lane::shm: return "shm";
    case Lane::tcp: return "tcp";
  }
  return "unknown";
}

std::optional<Lane> parse_lane(std::string_view word) noexcept {
  for (const Lane lane : {Lane::automatic, Lane::rdma, Lane::shm, Lane::tcp})
    if (to_string(lane) == word) return lane;
  return std::nullopt;
}

std::string_view lane_words() noexcept { return "auto, rdma, shm, tcp"; }

}  // namespace rsock::config
