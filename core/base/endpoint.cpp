#include "core/base/endpoint.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

namespace rsock {

bool parse(const sockaddr& from, Endpoint& to) {
  to = {};
  if (from.sa_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &from, sizeof in);
    std::memcpy(to.address.bytes.data(), &in.sin_addr, 4);
    to.port = ntohs(in.sin_port);
    return true;
  }
  if (from.sa_family != AF_INET6) return false;
  sockaddr_in6 in{};
  std::memcpy(&in, &from, sizeof in);
  to.port = ntohs(in.sin6_port);
  if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) {
    std::memcpy(to.address.bytes.data(), in.sin6_addr.s6_addr + 12, 4);
    return true;
  }
  to.address.v6 = true;
  to.address.scope = in.sin6_scope_id;
  std::memcpy(to.address.bytes.data(), &in.sin6_addr, 16);
  return true;
}

socklen_t write(const Endpoint& from, sockaddr_storage& to) {
  to = {};
  if (!from.address.v6) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(from.port);
    std::memcpy(&in.sin_addr, from.address.bytes.data(), 4);
    std::memcpy(&to, &in, sizeof in);
    return sizeof in;
  }
  sockaddr_in6 in{};
  in.sin6_family = AF_INET6;
  in.sin6_port = htons(from.port);
  in.sin6_scope_id = from.address.scope;
  std::memcpy(&in.sin6_addr, from.address.bytes.data(), 16);
  std::memcpy(&to, &in, sizeof in);
  return sizeof in;
}

std::string to_string(const Address& address) {
  char text[INET6_ADDRSTRLEN] = "?";
  inet_ntop(address.v6 ? AF_INET6 : AF_INET, address.bytes.data(), text, sizeof text);
  return text;
}

std::string to_string(const Endpoint& endpoint) {
  const auto address = to_string(endpoint.address);
  return endpoint.address.v6 ? fmt::format("[{}]:{}", address, endpoint.port)
                             : fmt::format("{}:{}", address, endpoint.port);
}

}  // namespace rsock
