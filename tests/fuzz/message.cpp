// A control message from a peer: what is taken has exactly one encoding, the one that came.

#include "core/wire/message.hpp"

#include <cstdlib>
#include <cstring>

using namespace rsock::wire;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto message = decode_message({data, size});
  if (!message) return 0;
  const auto again = encode(*message);
  if (again.size != size || std::memcmp(again.bytes.data(), data, size) != 0) std::abort();
  return 0;
}
