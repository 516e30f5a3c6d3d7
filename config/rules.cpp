#include "config/rules.hpp"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>

namespace rsock::config {
namespace {

/// Whether flows of a listener on the wildcard address `bound` can have a local address within `network`.
/// A listener on :: takes IPv4 as well unless IPV6_V6ONLY is set, which nobody here knows (ipv6(7)).
bool may_overlap(const Network& network, const Address& bound) noexcept {
  return bound.family == Address::Family::v6 || network.has_family(Address::Family::v4);
}

/// Whether every flow of a listener on the wildcard address `bound` has a local address within `network`.
bool covers(const Network& network, const Address& bound) noexcept {
  if (network.family == Network::Family::any) return true;
  return network.prefix == 0 && network.family == Network::Family::v4 && bound.family == Address::Family::v4;
}

}  // namespace

bool Rule::applies_to(std::string_view program_name) const {
  if (program.empty()) return true;
  return ::fnmatch(program.c_str(), std::string(program_name).c_str(), 0) == 0;
}

std::string to_string(const Rule& rule) {
  const std::string_view side = rule.side == Rule::Side::listen ? "listen" : "connect";
  std::string out = fmt::format("{} {} lane {}", side, to_string(rule.endpoint), to_string(rule.lane));
  if (!rule.program.empty()) out += fmt::format(" program {}", rule.program);
  return out;
}

std::optional<Lane> Rules::listen(const sockaddr& local) const noexcept {
  return first_match(Rule::Side::listen, local);
}

std::optional<Lane> Rules::connect(const sockaddr& peer) const noexcept {
  return first_match(Rule::Side::connect, peer);
}

bool Rules::may_listen(const sockaddr& bound) const noexcept {
  const auto address = Address::from(bound);
  if (!address) return false;
  for (const Rule& rule : rules_) {
    if (rule.side != Rule::Side::listen || !rule.endpoint.ports.contains(address->port)) continue;
    const Network& network = rule.endpoint.network;
    if (!address->is_wildcard()) {
      if (network.contains(*address)) return rule.lane != Lane::tcp;
    } else if (rule.lane != Lane::tcp) {
      if (may_overlap(network, *address)) return true;
    } else if (covers(network, *address)) {
      return false;
    }
  }
  return false;
}

std::optional<Lane> Rules::first_match(Rule::Side side, const sockaddr& address) const noexcept {
  const auto end = Address::from(address);
  if (!end) return std::nullopt;
  for (const Rule& rule : rules_)
    if (rule.side == side && rule.endpoint.contains(*end)) return rule.lane;
  return std::nullopt;
}

bool Rules::any(Rule::Side side) const noexcept {
  return std::any_of(rules_.begin(), rules_.end(),
                     [&](const Rule& rule) { return rule.side == side && rule.lane != Lane::tcp; });
}

}  // namespace rsock::config
