#include "core/keys/key_pair.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "core/base/kernel.hpp"

namespace rsock::keys {

struct KeyPair::Page {
  Scalar private_half;
  bool there;  // or a child would compute with a private half of zeros, which everybody knows
};

KeyPair::KeyPair(KeyPair&& other) noexcept
    : page_(std::exchange(other.page_, nullptr)), own_(std::exchange(other.own_, {})) {}

KeyPair& KeyPair::operator=(KeyPair&& other) noexcept {
  std::swap(page_, other.page_);
  std::swap(own_, other.own_);
  return *this;
}

KeyPair::~KeyPair() {
  if (!page_) return;
  wipe(page_->private_half);
  sys::unmap(page_, sizeof *page_);
}

Result<KeyPair> KeyPair::empty() {
  const auto page = sys::map(sizeof(Page), MAP_PRIVATE | MAP_ANONYMOUS);
  if (!page) return Errno{page.error()};
  KeyPair pair;
  pair.page_ = static_cast<Page*>(*page);
  for (const int advice : {MADV_WIPEONFORK, MADV_DONTDUMP})
    if (const auto taken = sys::advise(*page, sizeof(Page), advice); !taken) return Errno{taken.error()};
  return pair;
}

void KeyPair::complete() {
  own_ = multiply_base(page_->private_half);
  page_->there = true;
}

Result<KeyPair> KeyPair::make() {
  auto pair = empty();
  if (!pair) return pair;
  auto& half = pair->page_->private_half;
  if (const auto drawn = sys::random(half.data(), half.size()); !drawn) return Errno{drawn.error()};
  pair->complete();
  return pair;
}

Result<KeyPair> KeyPair::of(const Scalar& private_half) {
  auto pair = empty();
  if (!pair) return pair;
  std::ranges::copy(private_half, pair->page_->private_half.begin());
  pair->complete();
  return pair;
}

Status KeyPair::agree(const PublicKey& peer, Point& shared) const {
  if (!page_ || !page_->there) return Errno{ENOKEY};
  if (!multiply(page_->private_half, peer, shared)) return Errno{EPROTO};
  return Done{};
}

}  // namespace rsock::keys
