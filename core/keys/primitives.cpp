#include "core/keys/primitives.hpp"

#include <sodium/crypto_generichash_blake2b.h>
#include <sodium/crypto_scalarmult_curve25519.h>
#include <sodium/crypto_verify_16.h>

#include <cassert>
#include <cstring>

// The linker takes whole members out of libsodium.a. Those of the functions below are pure, but they want
// three names of other members: utils.o, which locks and maps memory, and core.o, which initialises all of
// libsodium and so brings what opens /dev/urandom, polls it and reads it. librsock.so takes these calls over,
// and they would come back to it. The three names are therefore defined here, and the linker takes neither
// member. Should another version of libsodium want more of them, our three names are defined twice, and
// linking fails. tests/shell/exports looks at what the members that are taken want besides.
//
// crypto_generichash() shares a member with its keygen(), which wants random bytes: hence BLAKE2b's own
// functions. sodium_init() is never called: all that it would do for these functions is to choose faster
// implementations, by what the processor has. Those who would tell it are weak references, which another copy
// of libsodium in the process would satisfy if they were not defined here as well.
extern "C" {

void sodium_memzero(void* bytes, size_t size) { rsock::keys::wipe({static_cast<uint8_t*>(bytes), size}); }

int sodium_is_zero(const unsigned char* bytes, size_t size) {
  unsigned char any = 0;
  for (size_t i = 0; i < size; ++i) any = static_cast<unsigned char>(any | bytes[i]);
  return any == 0;
}

// A size that the function called does not take: see the assertions below.
[[noreturn]] void sodium_misuse() { __builtin_trap(); }

int sodium_runtime_has_ssse3() { return 0; }
int sodium_runtime_has_sse41() { return 0; }
int sodium_runtime_has_avx() { return 0; }
int sodium_runtime_has_avx2() { return 0; }

}  // extern "C"

namespace rsock::keys {
namespace {

// A multiplication leaves the scalar's digits on the stack, at most 2 KiB below the frame that called it.
[[gnu::noinline]] void clear_stack() {
  std::array<uint8_t, 4096> below;
  wipe(below);
}

crypto_generichash_blake2b_state* of(uint8_t* bytes) {
  return reinterpret_cast<crypto_generichash_blake2b_state*>(bytes);
}

}  // namespace

bool multiply(std::span<const uint8_t, kKeySize> scalar, const Point& point, Point& product) {
  static_assert(kKeySize == crypto_scalarmult_curve25519_BYTES && kKeySize == crypto_scalarmult_curve25519_SCALARBYTES);
  const bool good = crypto_scalarmult_curve25519(product.data(), scalar.data(), point.data()) == 0;
  clear_stack();
  return good;
}

Point multiply_base(std::span<const uint8_t, kKeySize> scalar) {
  Point product;
  crypto_scalarmult_curve25519_base(product.data(), scalar.data());
  clear_stack();
  return product;
}

Hash::Hash(size_t size, Bytes key) {
  static_assert(sizeof state_ >= sizeof(crypto_generichash_blake2b_state) &&
                alignof(Hash) >= alignof(crypto_generichash_blake2b_state));
  assert(crypto_generichash_blake2b_BYTES_MIN <= size && size <= crypto_generichash_blake2b_BYTES_MAX);
  assert(key.empty() || (crypto_generichash_blake2b_KEYBYTES_MIN <= key.size() &&
                         key.size() <= crypto_generichash_blake2b_KEYBYTES_MAX));
  crypto_generichash_blake2b_init(of(state_.data()), key.data(), key.size(), size);
}

Hash::~Hash() { wipe(state_); }

Hash& Hash::add(Bytes bytes) {
  crypto_generichash_blake2b_update(of(state_.data()), bytes.data(), bytes.size());
  return *this;
}

Hash& Hash::add(uint64_t number) {
  std::array<uint8_t, sizeof number> bytes;
  for (size_t i = bytes.size(); i-- > 0; number >>= 8) bytes[i] = static_cast<uint8_t>(number);
  return add(Bytes(bytes));
}

void Hash::finish(std::span<uint8_t> to) { crypto_generichash_blake2b_final(of(state_.data()), to.data(), to.size()); }

bool same(const std::array<uint8_t, 16>& one, const std::array<uint8_t, 16>& other) {
  return crypto_verify_16(one.data(), other.data()) == 0;
}

void wipe(std::span<uint8_t> bytes) {
  if (bytes.empty()) return;
  std::memset(bytes.data(), 0, bytes.size());
  asm volatile("" : : "r"(bytes.data()) : "memory");
}

}  // namespace rsock::keys
