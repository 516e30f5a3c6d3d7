// A frame on TCP, behind the token that it must bear: what is taken has exactly one encoding, the one that came.

#include "core/wire/frame.hpp"

#include <algorithm>
#include <cstdlib>

using namespace rsock::wire;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size != kMarkSize + kFrameSize) return 0;
  Mark token;
  std::copy_n(data, kMarkSize, token.begin());
  const std::span<const uint8_t, kFrameSize> bytes(data + kMarkSize, kFrameSize);
  const auto frame = decode_frame(bytes, token);
  if (!frame) return 0;
  const auto again = encode(token, *frame);
  if (!std::equal(again.begin(), again.end(), bytes.begin())) std::abort();
  return 0;
}
