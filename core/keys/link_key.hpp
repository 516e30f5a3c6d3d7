#pragma once
// The secret that both ends of a link have, and nobody else. X25519 gives it to them (RFC 7748), so that
// whoever relays messages between two links of its own meets two secrets and knows neither; BLAKE2b (RFC
// 7693) makes keys of it:
//
//   key   = BLAKE2b-256("rsock link", X25519, dialler's public key, dialled's, dialler's number, dialled's)
//   proof = BLAKE2b-128("rsock proof", end), keyed by key
//
// Where there is a preshared secret, key is keyed by it. A label is 16 bytes, filled up with zeros; an end is
// one byte; a number is 4, big-endian.
//
// The numbers are what the medium itself calls the two ends (the socket that dialled; the queue
// pairs). Public keys can be handed on, and with them a relay would give the ends of its two links one secret;
// but to each end it has a number of its own.
//
// Without a preshared secret the key says that the peer is the one that holds the private half, not who that
// is. With one, a proof says that the peer knows that secret as well.
//
// A value, wiped when it is destroyed; any thread; no system call. A child of fork has its parent's, and no
// use for them: it leaves its parent's links.

#include <array>
#include <cstdint>

#include "core/base/result.hpp"
#include "core/keys/key_pair.hpp"

namespace rsock::keys {

using Preshared = std::array<uint8_t, 32>;
using Proof = std::array<uint8_t, 16>;

// Which one of the two made the link. Both give the same key from their own point of view, and the proof of
// one is not the other's.
enum class End : uint8_t { dialler = 0, dialled = 1 };

class LinkKey {
 public:
  LinkKey(const LinkKey&) = default;
  LinkKey& operator=(const LinkKey&) = default;
  ~LinkKey() { wipe(key_); }

  // `own_end` is that of `own`; `numbers`: this end's, then the peer's. EPROTO, ENOKEY: as KeyPair::agree.
  static Result<LinkKey> agree(const KeyPair& own, const PublicKey& peer, End own_end,
                               const std::array<uint32_t, 2>& numbers, const Preshared* preshared = nullptr);

  // That the end named knows this key. It says nothing else: it may be shown to the peer, over the link that
  // it is of.
  Proof proof(End of) const;
  // In constant time.
  bool proves(End of, const Proof& shown) const;

 private:
  friend class Result<LinkKey>;
  friend class CutoverKey;
  LinkKey() = default;
  std::array<uint8_t, 32> key_{};
};

}  // namespace rsock::keys
