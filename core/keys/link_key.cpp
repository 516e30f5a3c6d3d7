#include "core/keys/link_key.hpp"

#include "core/keys/label.hpp"
#include "core/wire/bytes.hpp"

namespace rsock::keys {
namespace {

constexpr auto kLink = label("rsock link"), kProof = label("rsock proof");

}  // namespace

Result<LinkKey> LinkKey::agree(const KeyPair& own, const PublicKey& peer, End own_end,
                               const std::array<uint32_t, 2>& numbers, const Preshared* preshared) {
  Point shared;
  if (const auto agreed = own.agree(peer, shared); !agreed) return Errno{agreed.error()};
  const bool dialler = own_end == End::dialler;
  std::array<uint8_t, 8> between;
  wire::Writer writer(between);
  writer.number(numbers[dialler ? 0 : 1]);
  writer.number(numbers[dialler ? 1 : 0]);
  LinkKey link;
  link.key_ = hashed<Preshared>(preshared ? Bytes(*preshared) : Bytes(), [&](Hash& hash) {
    hash.add(kLink).add(shared).add(dialler ? own.own() : peer).add(dialler ? peer : own.own()).add(between);
  });
  wipe(shared);
  return link;
}

Proof LinkKey::proof(End of) const {
  const std::array end{static_cast<uint8_t>(of)};
  return hashed<Proof>(key_, [&](Hash& hash) { hash.add(kProof).add(end); });
}

bool LinkKey::proves(End of, const Proof& shown) const { return same(proof(of), shown); }

}  // namespace rsock::keys
