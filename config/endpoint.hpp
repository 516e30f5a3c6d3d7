#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace rsock::config {

/// One end of a flow as rules see it. An IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2) is an IPv4 address
/// here, whatever the family of its socket.
struct Address {
  enum class Family : std::uint8_t { v4, v6 };
  Family family = Family::v4;
  std::array<std::uint8_t, 16> bytes{};  ///< network order; IPv4 in the first four
  std::uint16_t port = 0;                ///< host order

  /// nullopt unless `address` is a sockaddr_in or a sockaddr_in6, complete as its sa_family says.
  static std::optional<Address> from(const sockaddr& address) noexcept;

  /// 0.0.0.0 or ::
  bool is_wildcard() const noexcept;
};

/// A set of addresses: every one, or those of one family that share the first `prefix` bits of `bytes`.
/// Invariant: bits of `bytes` from `prefix` on are zero.
struct Network {
  enum class Family : std::uint8_t { any, v4, v6 };
  Family family = Family::any;
  std::array<std::uint8_t, 16> bytes{};
  std::uint8_t prefix = 0;

  bool contains(const Address& address) const noexcept;
  bool has_family(Address::Family wanted) const noexcept;
};

/// first <= last. Any port is 0 to 65535.
struct Ports {
  std::uint16_t first = 0;
  std::uint16_t last = 65535;

  bool contains(std::uint16_t port) const noexcept { return first <= port && port <= last; }
};

/// What stands after `listen` or `connect` in a rule.
struct Endpoint {
  Network network;
  Ports ports;

  bool contains(const Address& address) const noexcept {
    return ports.contains(address.port) && network.contains(address);
  }
};

/// Why something was not accepted, as a phrase for the end of a diagnostic.
struct Complaint {
  std::string text;
};

/// Takes "HOST:PORT". HOST is *, an IPv4 address, or an IPv6 address in brackets, with an optional /PREFIX
/// (within the brackets for IPv6); bits beyond the prefix are dropped. PORT is *, a port or FIRST-LAST. A
/// network that lies within ::ffff:0:0/96 becomes the IPv4 network that it is. May throw std::bad_alloc.
std::variant<Endpoint, Complaint> parse_endpoint(std::string_view text);

/// The shortest text that parse_endpoint turns into `endpoint`. May throw std::bad_alloc.
std::string to_string(const Endpoint& endpoint);

}  // namespace rsock::config
