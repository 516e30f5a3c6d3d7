#pragma once
// An endpoint on the wire, 19 bytes: 1 if IPv6 (1), address (16; IPv4 in the first four, the rest zero), port (2).

#include "core/base/endpoint.hpp"
#include "core/wire/bytes.hpp"

namespace rsock::wire {

inline constexpr size_t kEndpointSize = 1 + 16 + 2;

inline void put(Writer& writer, const Endpoint& endpoint) {
  writer.number(static_cast<uint8_t>(endpoint.address.v6));
  writer.raw(endpoint.address.bytes);
  writer.number(endpoint.port);
}

// False if what was there is none.
inline bool get(Reader& reader, Endpoint& endpoint) {
  const auto v6 = reader.number<uint8_t>();
  endpoint.address.v6 = v6 == 1;
  reader.raw(endpoint.address.bytes);
  endpoint.port = reader.number<uint16_t>();
  bool zero = true;
  for (size_t i = 4; i < 16; ++i) zero = zero && endpoint.address.bytes[i] == 0;
  return reader.good() && v6 <= 1 && (v6 == 1 || zero);
}

}  // namespace rsock::wire
