#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <stdexcept>

/// A socket address made from text; converts to what the tested functions take.
class At {
 public:
  At(const char* address, std::uint16_t port) {
    sockaddr_in in{};
    sockaddr_in6 in6{};
    in.sin_family = AF_INET;
    in.sin_port = in6.sin6_port = htons(port);
    in6.sin6_family = AF_INET6;
    if (inet_pton(AF_INET, address, &in.sin_addr) == 1)
      value_.in = in;
    else if (inet_pton(AF_INET6, address, &in6.sin6_addr) == 1)
      value_.in6 = in6;
    else
      throw std::invalid_argument(address);
  }
  operator const sockaddr&() const { return value_.any; }

 private:
  union {
    sockaddr any;
    sockaddr_in in;
    sockaddr_in6 in6;
  } value_{};
};
