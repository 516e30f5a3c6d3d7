#pragma once

#include <sys/socket.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/endpoint.hpp"
#include "config/lane.hpp"

namespace rsock::config {

/// One [[rule]]: the flows that it speaks of, and the lane they shall take.
struct Rule {
  enum class Side { listen, connect };
  Side side = Side::listen;
  Endpoint endpoint;
  std::string program;  ///< fnmatch(3) pattern on the program's name; empty: every program
  Lane lane = Lane::automatic;

  /// `program_name` is the name without its folder. May throw std::bad_alloc.
  bool applies_to(std::string_view program_name) const;
};

/// "listen *:6379 lane auto", "connect [fd00::/8]:80 lane rdma program redis-*". May throw std::bad_alloc.
std::string to_string(const Rule& rule);

/// The rules that apply to one program, in the order written. The first whose endpoint contains an address
/// decides.
///
/// A value; const calls may come from any thread at once, from signal handlers and from children of fork:
/// they take no lock, allocate nothing and make no call. An answer of nullopt or Lane::tcp means: not
/// selected.
class Rules {
 public:
  Rules() = default;
  /// `rules` is kept as it is: whoever makes it has dropped the rules of other programs.
  explicit Rules(std::vector<Rule> rules) noexcept : rules_(std::move(rules)) {}

  /// The lane for a flow accepted on `local`, its own end's address (getsockname(2) of the accepted
  /// descriptor).
  std::optional<Lane> listen(const sockaddr& local) const noexcept;

  /// The lane for a flow connected to `peer`.
  std::optional<Lane> connect(const sockaddr& peer) const noexcept;

  /// False only if no flow that a listener bound to `bound` accepts can be selected. Where `bound` is 0.0.0.0
  /// or ::, the local addresses of its flows are not known yet, so true may turn out to be too much.
  bool may_listen(const sockaddr& bound) const noexcept;

  /// Whether any flow at all can be selected on that side.
  bool any_listen() const noexcept { return any(Rule::Side::listen); }
  bool any_connect() const noexcept { return any(Rule::Side::connect); }

  std::span<const Rule> all() const noexcept { return rules_; }

 private:
  std::optional<Lane> first_match(Rule::Side side, const sockaddr& address) const noexcept;
  bool any(Rule::Side side) const noexcept;

  std::vector<Rule> rules_;
};

}  // namespace rsock::config
