// The private data of a dial: what is taken is what stands there, whatever follows it.

#include "core/wire/greeting.hpp"

#include <cstdlib>
#include <cstring>

using namespace rsock::wire;

namespace {

constexpr size_t kMeaningful = 20;  // of what all greetings have

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (const auto answer = decode_answer({data, size})) {
    const auto again = encode(*answer);
    if (size < kGreetingSize || std::memcmp(again.data(), data, kMeaningful) != 0) std::abort();
    const bool ours = answer->common().has_value();
    if (ours && (size < again.size() ||
                 std::memcmp(again.data() + kGreetingSize, data + kGreetingSize, sizeof answer->key) != 0))
      std::abort();
  }
  if (const auto hello = decode_hello({data, size})) {
    const auto again = encode(*hello);
    if (size < again.size() || std::memcmp(again.data(), data, kMeaningful) != 0) std::abort();
    if (std::memcmp(again.data() + kGreetingSize, data + kGreetingSize, kEndpointSize) != 0) std::abort();
  }
  return 0;
}
