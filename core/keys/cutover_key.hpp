#pragma once
// What two ends of a TCP connection recognise each other by when it enters a lane: each shows a mark on TCP,
// at the offset N that the cutover's messages tell.
//
//   0 ....... 8 ............... 24 .............. 40
//   |  tag   |      MAC         |      fresh       |
//
//   key = BLAKE2b-256("rsock cutover", nonces, CLAIM, ACCEPT), keyed by the link's key
//   tag = the first 8 bytes of BLAKE2b-128("rsock tag", nonces, side, N), without a key
//   MAC = BLAKE2b-128("rsock mac", side, N, fresh, answered), keyed by key
//   NO  = BLAKE2b-128("rsock no", nonces, N, answered), without a key, in the place of the acceptor's MAC, and zeros
//   for fresh WITNESS = BLAKE2b-128("rsock witness", the connector's fresh, the acceptor's), keyed by key
//
// nonces: the acceptor's, then the connector's, 16 bytes each. A side is one byte, N is 8, big-endian, in
// bytes of that side's TCP stream from its beginning, marks included. CLAIM and ACCEPT are the bodies of
// these messages as they were sent, each behind its length (8 bytes, big-endian).
//
// fresh: 16 random bytes of whoever makes the mark, which are nowhere but in it. answered: those of the connector's
// mark, which the acceptor's answers; zeros in the connector's own.
//
// The tag says that a mark was meant here: both ends of the claim know it before it comes, and whoever merely
// supplies a program's data does not know the nonces. The MAC says that the peer of this link made it: a
// mark that was made on another link has the right tag and another MAC. That the peer holds the connection it does not
// say by itself: somebody may supply the data of whoever does, and have it written by that program. But such a one does
// not read what the other end wrote there. So the acceptor's mark covers what is fresh in the connector's, and WITNESS
// what is in both. BLAKE2b: RFC 7693.
//
// A value, wiped when it is destroyed; any thread; no system call, no allocation.

#include <array>
#include <cstdint>
#include <span>

#include "core/keys/link_key.hpp"

namespace rsock::keys {

using Nonce = std::array<uint8_t, 16>;

inline constexpr size_t kTagSize = 8, kMacSize = 16, kFreshSize = 16, kMarkSize = kTagSize + kMacSize + kFreshSize;
using Mark = std::array<uint8_t, kMarkSize>;
using Fresh = std::array<uint8_t, kFreshSize>;
using Witness = std::array<uint8_t, 16>;

Fresh fresh_in(const Mark& mark);

// Whose stream a mark is in: that of the end that connected, or of the one that accepted. No matter who
// dialled the link.
enum class Side : uint8_t { connector = 0, acceptor = 1 };

// What bytes at offset N are.
enum class Seen : uint8_t {
  unlike,   // the program's: they differ from the tag
  partly,   // all there are could begin a mark; more have to come before it is known
  token,    // the peer's: it is on this link
  foreign,  // a mark that was not made on this link; no data
  no,       // a mark that says no
};

class CutoverKey {
 public:
  CutoverKey(const CutoverKey&) = default;
  CutoverKey& operator=(const CutoverKey&) = default;
  ~CutoverKey() { wipe(key_); }

  static CutoverKey make(const LinkKey& link, const Nonce& acceptor, const Nonce& connector,
                         std::span<const uint8_t> claim, std::span<const uint8_t> accept);

  // The token of a side that has N bytes before it.
  Mark mark(Side side, uint64_t n, const Fresh& fresh, const Fresh& answered = {}) const;
  // That the acceptor stays on TCP. Whoever has read the connector's mark can make it, as whoever holds the connection
  // can end the stream.
  Mark no(uint64_t n, const Fresh& answered) const;
  // `bytes` are those at N, as many as have come; what is behind a mark does not count. In constant time as
  // to the MAC.
  Seen judge(std::span<const uint8_t> bytes, Side side, uint64_t n, const Fresh& answered = {}) const;
  Witness witness(const Fresh& connector, const Fresh& acceptor) const;

 private:
  using Tag = std::array<uint8_t, kTagSize>;
  using Mac = std::array<uint8_t, kMacSize>;

  CutoverKey(const Nonce& acceptor, const Nonce& connector) : acceptor_(acceptor), connector_(connector) {}
  Tag tag(Side side, uint64_t n) const;
  Mac mac(Side side, uint64_t n, const Fresh& fresh, const Fresh& answered) const;
  Mac refusal(uint64_t n, const Fresh& answered) const;

  Nonce acceptor_, connector_;
  std::array<uint8_t, 32> key_{};
};

}  // namespace rsock::keys
