#pragma once

#include <optional>
#include <string_view>

namespace rsock::config {

/// What a rule asks to carry a flow's bytes. `automatic` lets the library choose the best lane that both ends
/// have; `tcp` keeps the flow out of every lane.
enum class Lane { automatic, rdma, shm, tcp };

/// The word used in configuration files, on the command line and in the log.
std::string_view to_string(Lane lane) noexcept;

/// nullopt when `word` names no lane.
std::optional<Lane> parse_lane(std::string_view word) noexcept;

/// Every word that parse_lane takes, separated by ", ".
std::string_view lane_words() noexcept;

}  // namespace rsock::config
