// The private data of a dial: what is taken is what stands there, whatever follows it.

#include <cstdlib>
#include <cstring>

#include "core/wire/greeting.hpp"

using namespace rsock::wire;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto greeting = decode_greeting({data, size});
  if (!greeting) return 0;
  const auto again = encode(*greeting);
  constexpr size_t kMeaningful = 20;
  if (size < again.size() || std::memcmp(again.data(), data, kMeaningful) != 0) std::abort();
  const auto hello = decode_hello({data, size});
  if (!hello) return 0;
  const auto whole = encode(*hello);
  if (size < whole.size() || std::memcmp(whole.data() + kGreetingSize, data + kGreetingSize, kEndpointSize) != 0) std::abort();
  return 0;
}
