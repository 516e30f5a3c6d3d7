#pragma once
// What an engine is known by on its links: an X25519 key pair (RFC 7748), made when the engine is.
//
//   page of its own, private to the process:  | private half (32) | there (1) | unused ... |
//
// The private half is never copied out of that page. A child of fork finds the page wiped (MADV_WIPEONFORK):
// it cannot pass for its parent on a link, and makes a pair of its own. The page is in no core dump.
//
// Any thread may read one at the same time as others; one thread makes, moves or destroys it. Nothing here
// blocks.

#include <array>
#include <cstdint>
#include <span>

#include "core/base/result.hpp"
#include "core/keys/primitives.hpp"

namespace rsock::keys {

using PublicKey = Point;

class KeyPair {
 public:
  // Nothing: agree() gives ENOKEY.
  KeyPair() = default;
  KeyPair(KeyPair&& other) noexcept;
  KeyPair& operator=(KeyPair&& other) noexcept;
  ~KeyPair();

  // Of random bytes. ENOMEM: there is no page. EINVAL: the kernel wipes no page for a child (before
  // Linux 4.14). Else what sys::random gave.
  static Result<KeyPair> make();
  // Of a private half that is known, as those that RFC 7748 gives; errors as above. The caller wipes its own
  // copy.
  static Result<KeyPair> of(const Scalar& private_half);

  // A child still reads its parent's here, which is no secret.
  const PublicKey& own() const { return own_; }
  // What X25519 gives of this pair and `peer`; to be wiped once keys were made of it. EPROTO: `peer` is a
  // point for which all private halves give zeros, and so would be known to anybody. ENOKEY: there is none,
  // or it is the parent's of this process.
  Status agree(const PublicKey& peer, Point& shared) const;

 private:
  struct Page;
  static Result<KeyPair> empty();
  // Once the private half is in the page.
  void complete();

  Page* page_ = nullptr;
  PublicKey own_{};
};

}  // namespace rsock::keys
