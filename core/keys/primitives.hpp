#pragma once
// The functions that keys are made of: X25519 (RFC 7748) and BLAKE2b (RFC 7693), as libsodium has them, and
// constant-time comparison. Nothing else of the library includes libsodium's headers.
//
// Any thread, no state, no allocation, no system call. Sizes are in bytes. None of them fails for a reason of
// its own: the sizes that libsodium would refuse are refused when this is compiled, or asserted.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace rsock::keys {

using Bytes = std::span<const uint8_t>;

inline constexpr size_t kKeySize = 32;
// A private half; RFC 7748, section 5, says which of its bits count.
using Scalar = std::array<uint8_t, kKeySize>;
// A public half, or what two agree on: a u-coordinate.
using Point = std::array<uint8_t, kKeySize>;

// X25519(scalar, point). False, and `product` is of no use, if it is all zeros: `point` is one of the few of
// small order, for which every scalar gives that (RFC 7748, section 6.1). Nothing that tells the scalar stays
// on the stack.
[[nodiscard]] bool multiply(std::span<const uint8_t, kKeySize> scalar, const Point& point, Point& product);
// X25519(scalar, 9): the public half.
Point multiply_base(std::span<const uint8_t, kKeySize> scalar);

// BLAKE2b of 16 to 64 bytes, keyed if a key of 16 to 64 bytes is given. What is added is one stream: the
// caller sees to it that no two lists of parts give the same.
class Hash {
 public:
  explicit Hash(size_t size, Bytes key = {});
  Hash(const Hash&) = delete;
  Hash& operator=(const Hash&) = delete;
  ~Hash();

  Hash& add(Bytes bytes);
  // Big-endian.
  Hash& add(uint64_t number);
  // Once, for as many bytes as were announced.
  void finish(std::span<uint8_t> to);

 private:
  alignas(64) std::array<uint8_t, 384> state_;
};

// `Value` of what `add` adds to the hash.
template <class Value, class Add>
Value hashed(Bytes key, Add add) {
  Value value;
  Hash hash(value.size(), key);
  add(hash);
  hash.finish(value);
  return value;
}

// Takes as long whether they differ or not, and wherever.
bool same(const std::array<uint8_t, 16>& one, const std::array<uint8_t, 16>& other);

// Zeros that the compiler does not leave out though nobody reads them.
void wipe(std::span<uint8_t> bytes);

}  // namespace rsock::keys
