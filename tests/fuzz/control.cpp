// The packets of the control socket: what is taken is what stands there, and nothing else was said.

#include "core/wire/control.hpp"

#include <algorithm>
#include <cstdlib>

using namespace rsock::wire;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> bytes(data, size);
  if (const auto request = decode_control_request(bytes); request && !std::ranges::equal(encode(*request), bytes))
    std::abort();
  if (const auto answer = decode_control_answer(bytes)) {
    const auto again = decode_control_answer(encode(*answer));
    if (!again || again->program != answer->program || again->stay.size() != answer->stay.size()) std::abort();
  }
  if (const auto page = decode_control_page(bytes); page && !std::ranges::equal(encode(*page), bytes)) std::abort();
  return 0;
}
