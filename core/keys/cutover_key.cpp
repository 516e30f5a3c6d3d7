#include "core/keys/cutover_key.hpp"

#include <algorithm>

#include "core/keys/label.hpp"

namespace rsock::keys {
namespace {

constexpr auto kCutover = label("rsock cutover"), kTag = label("rsock tag"), kMac = label("rsock mac"),
               kNo = label("rsock no"), kWitness = label("rsock witness");

void add(Hash& hash, Side side, uint64_t n) {
  const std::array byte{static_cast<uint8_t>(side)};
  hash.add(byte).add(n);
}

template <class Tag, class Mac>
Mark joined(const Tag& tag, const Mac& mac, const Fresh& fresh) {
  Mark mark;
  std::ranges::copy(fresh, std::ranges::copy(mac, std::ranges::copy(tag, mark.begin()).out).out);
  return mark;
}

}  // namespace

Fresh fresh_in(const Mark& mark) {
  Fresh fresh;
  std::copy_n(mark.begin() + kTagSize + kMacSize, fresh.size(), fresh.begin());
  return fresh;
}

CutoverKey CutoverKey::make(const LinkKey& link, const Nonce& acceptor, const Nonce& connector,
                            std::span<const uint8_t> claim, std::span<const uint8_t> accept) {
  CutoverKey cutover(acceptor, connector);
  cutover.key_ = hashed<std::array<uint8_t, 32>>(link.key_, [&](Hash& hash) {
    hash.add(kCutover).add(acceptor).add(connector).add(claim.size()).add(claim).add(accept.size()).add(accept);
  });
  return cutover;
}

Mark CutoverKey::mark(Side side, uint64_t n, const Fresh& fresh, const Fresh& answered) const {
  return joined(tag(side, n), mac(side, n, fresh, answered), fresh);
}

Mark CutoverKey::no(uint64_t n, const Fresh& answered) const {
  return joined(tag(Side::acceptor, n), refusal(n, answered), {});
}

Witness CutoverKey::witness(const Fresh& connector, const Fresh& acceptor) const {
  return hashed<Witness>(key_, [&](Hash& hash) { hash.add(kWitness).add(connector).add(acceptor); });
}

Seen CutoverKey::judge(std::span<const uint8_t> bytes, Side side, uint64_t n, const Fresh& answered) const {
  const auto expected = tag(side, n);
  const auto known = std::min(bytes.size(), expected.size());
  if (!std::equal(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(known), bytes.begin()))
    return Seen::unlike;
  if (bytes.size() < kMarkSize) return Seen::partly;
  Mac shown;
  Fresh fresh;
  std::ranges::copy(bytes.subspan(kTagSize, kMacSize), shown.begin());
  std::ranges::copy(bytes.subspan(kTagSize + kMacSize, kFreshSize), fresh.begin());
  if (same(shown, mac(side, n, fresh, answered))) return Seen::token;
  return side == Side::acceptor && same(shown, refusal(n, answered)) ? Seen::no : Seen::foreign;
}

CutoverKey::Tag CutoverKey::tag(Side side, uint64_t n) const {
  const auto whole = hashed<Mac>({}, [&](Hash& hash) {
    hash.add(kTag).add(acceptor_).add(connector_);
    keys::add(hash, side, n);
  });
  Tag tag;
  std::copy_n(whole.begin(), tag.size(), tag.begin());
  return tag;
}

CutoverKey::Mac CutoverKey::mac(Side side, uint64_t n, const Fresh& fresh, const Fresh& answered) const {
  return hashed<Mac>(key_, [&](Hash& hash) {
    hash.add(kMac);
    keys::add(hash, side, n);
    hash.add(fresh).add(answered);
  });
}

CutoverKey::Mac CutoverKey::refusal(uint64_t n, const Fresh& answered) const {
  return hashed<Mac>({}, [&](Hash& hash) { hash.add(kNo).add(acceptor_).add(connector_).add(n).add(answered); });
}

}  // namespace rsock::keys
