#include "config/endpoint.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "config/diagnostic.hpp"

namespace rsock::config {
namespace {

constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr unsigned kMappedBits = 96;

using Bytes = std::array<std::uint8_t, 16>;

bool is_mapped(const Bytes& bytes) noexcept { return std::equal(kMapped.begin(), kMapped.end(), bytes.begin()); }

Bytes unmapped(const Bytes& bytes) noexcept {
  Bytes v4{};
  std::copy(bytes.begin() + kMapped.size(), bytes.end(), v4.begin());
  return v4;
}

/// The mask for byte `index` of an address of which the first `prefix` bits count.
std::uint8_t mask(unsigned prefix, unsigned index) noexcept {
  const unsigned bits = std::clamp(static_cast<int>(prefix) - static_cast<int>(index * 8), 0, 8);
  return static_cast<std::uint8_t>(0xff00u >> bits);
}

/// A decimal number without sign; nullopt when `text` is anything else. Saturates at 999999.
std::optional<unsigned> number(std::string_view text) noexcept {
  if (text.empty() || !std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return std::nullopt;
  unsigned value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc{} ? std::min(value, 999999u) : 999999u;
}

/// inet_pton for text that need not end in NUL.
bool parse_address(int family, std::string_view text, Bytes& bytes) noexcept {
  std::array<char, INET6_ADDRSTRLEN> terminated{};
  if (text.size() >= terminated.size() || text.find('\0') != text.npos) return false;
  std::copy(text.begin(), text.end(), terminated.begin());
  return ::inet_pton(family, terminated.data(), bytes.data()) == 1;
}

std::variant<std::uint16_t, Complaint> parse_port(std::string_view text) {
  const auto value = number(text);
  if (!value) return Complaint{fmt::format("bad port {}: a port is a number, FIRST-LAST or *", quoted(text))};
  if (*value < 1 || *value > 65535) return Complaint{fmt::format("port {} is out of range (1 to 65535)", quoted(text))};
  return static_cast<std::uint16_t>(*value);
}

std::variant<Ports, Complaint> parse_ports(std::string_view text) {
  if (text == "*") return Ports{};
  const auto dash = text.find('-');
  const auto first = parse_port(text.substr(0, dash));
  if (const auto* complaint = std::get_if<Complaint>(&first)) return *complaint;
  if (dash == text.npos) return Ports{std::get<std::uint16_t>(first), std::get<std::uint16_t>(first)};
  const auto last = parse_port(text.substr(dash + 1));
  if (const auto* complaint = std::get_if<Complaint>(&last)) return *complaint;
  const Ports ports{std::get<std::uint16_t>(first), std::get<std::uint16_t>(last)};
  if (ports.first > ports.last) return Complaint{fmt::format("port range {} is reversed", quoted(text))};
  return ports;
}

/// ADDRESS or ADDRESS/PREFIX of the given family, without brackets.
std::variant<Network, Complaint> parse_network(Network::Family family, std::string_view text) {
  const bool v4 = family == Network::Family::v4;
  const auto slash = text.find('/');
  Network network{family, {}, static_cast<std::uint8_t>(v4 ? 32 : 128)};
  if (!parse_address(v4 ? AF_INET : AF_INET6, text.substr(0, slash), network.bytes))
    return Complaint{fmt::format("bad {} address {}", v4 ? "IPv4" : "IPv6", quoted(text.substr(0, slash)))};
  if (slash != text.npos) {
    const auto prefix = number(text.substr(slash + 1));
    if (!prefix) return Complaint{fmt::format("bad prefix length {}", quoted(text.substr(slash + 1)))};
    if (*prefix > network.prefix)
      return Complaint{fmt::format("prefix length {} is longer than the {} bits of an {} address",
                                   quoted(text.substr(slash + 1)), network.prefix, v4 ? "IPv4" : "IPv6")};
    network.prefix = static_cast<std::uint8_t>(*prefix);
  }
  if (!v4 && network.prefix >= kMappedBits && is_mapped(network.bytes))
    network = {Network::Family::v4, unmapped(network.bytes), static_cast<std::uint8_t>(network.prefix - kMappedBits)};
  for (unsigned i = 0; i < network.bytes.size(); ++i) network.bytes[i] &= mask(network.prefix, i);
  return network;
}

struct Halves {
  std::string_view host;
  std::string_view ports;
  bool bracketed;
};

std::variant<Halves, Complaint> split(std::string_view text) {
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == text.npos) return Complaint{fmt::format("{} lacks a closing bracket", quoted(text))};
    const std::string_view rest = text.substr(end + 1);
    if (!rest.starts_with(':')) return Complaint{fmt::format("{} has no port; [ADDRESS]:* means any", quoted(text))};
    return Halves{text.substr(1, end - 1), rest.substr(1), true};
  }
  const auto colon = text.find(':');
  if (colon == text.npos) return Complaint{fmt::format("{} has no port; ADDRESS:* means any", quoted(text))};
  if (text.find(':', colon + 1) != text.npos)
    return Complaint{fmt::format("bad address {}: an IPv6 address stands in brackets, as in [::1]:80", quoted(text))};
  return Halves{text.substr(0, colon), text.substr(colon + 1), false};
}

}  // namespace

std::optional<Address> Address::from(const sockaddr& address) noexcept {
  Address result;
  if (address.sa_family == AF_INET) {
    sockaddr_in in;
    std::memcpy(&in, &address, sizeof in);
    std::memcpy(result.bytes.data(), &in.sin_addr, sizeof in.sin_addr);
    result.port = ntohs(in.sin_port);
    return result;
  }
  if (address.sa_family != AF_INET6) return std::nullopt;
  sockaddr_in6 in6;
  std::memcpy(&in6, static_cast<const void*>(&address), sizeof in6);
  std::memcpy(result.bytes.data(), &in6.sin6_addr, sizeof in6.sin6_addr);
  result.port = ntohs(in6.sin6_port);
  result.family = Family::v6;
  if (is_mapped(result.bytes)) {
    result.family = Family::v4;
    result.bytes = unmapped(result.bytes);
  }
  return result;
}

bool Address::is_wildcard() const noexcept {
  return std::all_of(bytes.begin(), bytes.end(), [](std::uint8_t byte) { return byte == 0; });
}

bool Network::has_family(Address::Family wanted) const noexcept {
  return family == Family::any || (family == Family::v4) == (wanted == Address::Family::v4);
}

bool Network::contains(const Address& address) const noexcept {
  if (!has_family(address.family)) return false;
  for (unsigned i = 0; i * 8 < prefix; ++i)
    if ((address.bytes[i] & mask(prefix, i)) != bytes[i]) return false;
  return true;
}

std::variant<Endpoint, Complaint> parse_endpoint(std::string_view text) {
  const auto halves = split(text);
  if (const auto* complaint = std::get_if<Complaint>(&halves)) return *complaint;
  const auto& [host, port_text, bracketed] = std::get<Halves>(halves);
  Endpoint endpoint;
  if (bracketed || host != "*") {
    const auto network = parse_network(bracketed ? Network::Family::v6 : Network::Family::v4, host);
    if (const auto* complaint = std::get_if<Complaint>(&network)) return *complaint;
    endpoint.network = std::get<Network>(network);
  }
  const auto ports = parse_ports(port_text);
  if (const auto* complaint = std::get_if<Complaint>(&ports)) return *complaint;
  endpoint.ports = std::get<Ports>(ports);
  return endpoint;
}

std::string to_string(const Endpoint& endpoint) {
  const auto& [network, ports] = endpoint;
  std::string out = "*";
  if (network.family != Network::Family::any) {
    const bool v4 = network.family == Network::Family::v4;
    std::array<char, INET6_ADDRSTRLEN> address{};
    ::inet_ntop(v4 ? AF_INET : AF_INET6, network.bytes.data(), address.data(), address.size());
    out = address.data();
    if (network.prefix != (v4 ? 32 : 128)) out += fmt::format("/{}", network.prefix);
    if (!v4) out = fmt::format("[{}]", out);
  }
  if (ports.first == 0) return out + ":*";
  if (ports.first == ports.last) return fmt::format("{}:{}", out, ports.first);
  return fmt::format("{}:{}-{}", out, ports.first, ports.last);
}

}  // namespace rsock::config
