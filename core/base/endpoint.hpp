#pragma once
// One end of a TCP connection as a value: an IP address and a port. IPv4-mapped IPv6 addresses are the IPv4
// address they stand for, since both ends of one connection may see it in different families.

#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <string>

namespace rsock {

struct Address {
  std::array<uint8_t, 16> bytes{};  // network order; IPv4 in the first four
  uint32_t scope = 0;               // of a link-local IPv6 address, local to this host
  bool v6 = false;

  bool operator==(const Address& other) const { return v6 == other.v6 && bytes == other.bytes; }
  auto operator<=>(const Address& other) const {
    if (const auto order = v6 <=> other.v6; order != 0) return order;
    return bytes <=> other.bytes;
  }
  bool unspecified() const { return bytes == std::array<uint8_t, 16>{}; }
};

struct Endpoint {
  Address address;
  uint16_t port = 0;  // host order

  auto operator<=>(const Endpoint&) const = default;
  bool operator==(const Endpoint&) const = default;
};

// False for other families than AF_INET and AF_INET6.
bool parse(const sockaddr& from, Endpoint& to);
// The size of what was written.
socklen_t write(const Endpoint& from, sockaddr_storage& to);
std::string to_string(const Endpoint& endpoint);
std::string to_string(const Address& address);

}  // namespace rsock
