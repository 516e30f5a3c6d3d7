#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/kernel.hpp"
#include "core/keys/cutover_key.hpp"

using namespace rsock;
using namespace rsock::keys;

namespace {

template <size_t N>
std::array<uint8_t, N> hex(std::string_view text) {
  std::array<uint8_t, N> bytes;
  REQUIRE(text.size() == 2 * N);
  for (size_t i = 0; i < N; ++i) std::from_chars(&text[2 * i], &text[2 * i] + 2, bytes[i], 16);
  return bytes;
}

KeyPair pair() {
  auto made = KeyPair::make();
  REQUIRE(made);
  return std::move(*made);
}

LinkKey agreed(const KeyPair& own, const PublicKey& peer, End end, const Preshared* preshared = nullptr) {
  const auto key = LinkKey::agree(own, peer, end, {1, 1}, preshared);
  REQUIRE(key);
  return *key;
}

bool agree(const LinkKey& one, const LinkKey& other) {
  return one.proves(End::dialler, other.proof(End::dialler)) && one.proves(End::dialled, other.proof(End::dialled));
}

// Both keys of one link.
struct Link {
  KeyPair dialling = pair(), dialled = pair();
  LinkKey dialler_s = agreed(dialling, dialled.own(), End::dialler);
  LinkKey dialled_s = agreed(dialled, dialling.own(), End::dialled);
};

constexpr Nonce kAcceptor{1, 2, 3}, kConnector{4, 5, 6};
constexpr std::array<uint8_t, 5> kClaim{10, 11, 12, 13, 14};
constexpr std::array<uint8_t, 3> kAccept{20, 21, 22};

CutoverKey cutover(const LinkKey& link) { return CutoverKey::make(link, kAcceptor, kConnector, kClaim, kAccept); }

// In how many places of this process' memory that can be written these bytes are. They are given inverted, or
// they would be found where they are given.
size_t places(const Scalar& inverted) {
  Scalar sought;
  std::ranges::transform(inverted, sought.begin(), [](uint8_t byte) { return static_cast<uint8_t>(~byte); });
  const auto memory = sys::open("/proc/self/mem", O_RDONLY | O_CLOEXEC, 0);
  REQUIRE(memory);
  constexpr size_t kLargest = 64 << 20;  // a sanitizer's shadow is no place of ours
  std::ifstream maps("/proc/self/maps");
  std::vector<std::pair<size_t, size_t>> ranges;
  for (std::string line; std::getline(maps, line);) {
    size_t from = 0, to = 0;
    char write = 0;
    if (std::sscanf(line.c_str(), "%zx-%zx %*c%c", &from, &to, &write) == 3 && write == 'w' && to - from <= kLargest)
      ranges.emplace_back(from, to);
  }
  size_t found = 0;
  for (const auto& [from, to] : ranges) {
    std::vector<uint8_t> bytes(to - from);
    const auto got = ::pread(*memory, bytes.data(), bytes.size(), static_cast<off_t>(from));
    if (got <= 0) continue;
    bytes.resize(static_cast<size_t>(got));
    for (auto at = bytes.begin(); (at = std::search(at, bytes.end(), sought.begin(), sought.end())) != bytes.end();
         ++at)
      if (from + static_cast<size_t>(at - bytes.begin()) != reinterpret_cast<size_t>(sought.data())) ++found;
    wipe(bytes);
  }
  (void)sys::close(*memory);
  wipe(sought);
  return found;
}

// What `act` is in a child: its exit status.
template <class Act>
int in_child(Act act) {
  const auto child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(act());
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("X25519 gives what RFC 7748 says it gives", "[keys]") {
  // Section 5.2.
  struct Vector {
    std::string_view scalar, point, product;
  };
  for (const auto& [scalar, point, product] :
       {Vector{"a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
               "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
               "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"},
        Vector{"4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
               "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
               "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"}}) {
    Point got;
    CHECK(multiply(hex<32>(scalar), hex<32>(point), got));
    CHECK(got == hex<32>(product));
  }
  Scalar scalar = hex<32>("0900000000000000000000000000000000000000000000000000000000000000");
  Point point = scalar;
  for (int i = 0; i < 1000; ++i) {
    Point product;
    REQUIRE(multiply(scalar, point, product));
    point = std::exchange(scalar, product);
    if (i == 0) CHECK(scalar == hex<32>("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"));
  }
  CHECK(scalar == hex<32>("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
}

TEST_CASE("Key pairs agree on what RFC 7748 says they agree on", "[keys]") {
  // Section 6.1.
  const auto alices = KeyPair::of(hex<32>("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
  const auto bobs = KeyPair::of(hex<32>("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
  REQUIRE(alices);
  REQUIRE(bobs);
  CHECK(alices->own() == hex<32>("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
  CHECK(bobs->own() == hex<32>("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
  const auto shared = hex<32>("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
  Point got;
  CHECK(alices->agree(bobs->own(), got));
  CHECK(got == shared);
  CHECK(bobs->agree(alices->own(), got));
  CHECK(got == shared);
}

TEST_CASE("BLAKE2b gives what RFC 7693 says it gives", "[keys]") {
  // Appendix A.
  Hash hash(64);
  const std::array<uint8_t, 3> abc{'a', 'b', 'c'};
  std::array<uint8_t, 64> digest;
  hash.add(Bytes(abc).first(1)).add(Bytes(abc).subspan(1));
  hash.finish(digest);
  CHECK(digest == hex<64>("ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
                          "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"));
  const auto with = [&](Bytes key) { return hashed<Scalar>(key, [&](Hash& to) { to.add(abc); }); };
  CHECK(with({}) != with(Scalar{}));
  CHECK(with(Scalar{1}) != with(Scalar{2}));
}

TEST_CASE("A point for which all private halves give zeros is refused", "[keys]") {
  // All points of small order, and those that are they once reduced; see curve 25519's page, "how do I
  // validate public keys?".
  const auto own = pair();
  for (const std::string_view point : {
           "0000000000000000000000000000000000000000000000000000000000000000",
           "0100000000000000000000000000000000000000000000000000000000000000",
           "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
           "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
           "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
           "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
           "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
           "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
       }) {
    CAPTURE(point);
    CHECK(LinkKey::agree(own, hex<32>(point), End::dialler, {1, 1}).is(EPROTO));
    CHECK(LinkKey::agree(own, hex<32>(point), End::dialled, {1, 1}).is(EPROTO));
  }
}

TEST_CASE("Both ends of a link have one key, and nobody else has it", "[keys]") {
  const Link link;
  CHECK(agree(link.dialler_s, link.dialled_s));
  // A proof is its own end's, and no other value is one.
  CHECK_FALSE(link.dialled_s.proves(End::dialler, link.dialler_s.proof(End::dialled)));
  CHECK_FALSE(link.dialler_s.proves(End::dialled, link.dialled_s.proof(End::dialler)));
  for (size_t bit = 0; bit < 8 * sizeof(Proof); ++bit) {
    auto proof = link.dialler_s.proof(End::dialler);
    proof[bit / 8] = static_cast<uint8_t>(proof[bit / 8] ^ 1u << bit % 8);
    CHECK_FALSE(link.dialled_s.proves(End::dialler, proof));
  }

  // A relay's: each end agrees with a key of the relay's, and the two keys differ.
  const auto relay = pair();
  const auto left = agreed(link.dialling, relay.own(), End::dialler),
             right = agreed(link.dialled, relay.own(), End::dialled);
  CHECK_FALSE(agree(left, right));
  // Nor have two pairs one key in both directions, or with themselves.
  CHECK_FALSE(agree(agreed(link.dialling, link.dialled.own(), End::dialled), link.dialled_s));
  CHECK_FALSE(agree(agreed(link.dialling, link.dialled.own(), End::dialled), link.dialler_s));
}

TEST_CASE("Ends with different preshared secrets have no key in common", "[keys]") {
  const Link link;
  const auto of = [&](End end, const Preshared* secret) {
    return end == End::dialler ? agreed(link.dialling, link.dialled.own(), end, secret)
                               : agreed(link.dialled, link.dialling.own(), end, secret);
  };
  const Preshared one{1}, other{2}, zeros{};
  CHECK(agree(of(End::dialler, &one), of(End::dialled, &one)));
  CHECK_FALSE(agree(of(End::dialler, &one), of(End::dialled, &other)));
  CHECK_FALSE(agree(of(End::dialler, &one), of(End::dialled, nullptr)));
  CHECK_FALSE(agree(of(End::dialler, &zeros), of(End::dialled, nullptr)));
}

TEST_CASE("A child finds its parent's private half wiped, and makes its own", "[keys]") {
  Scalar inverted;
  REQUIRE(sys::random(inverted.data(), inverted.size()));
  KeyPair own;
  {
    Scalar half;
    std::ranges::transform(inverted, half.begin(), [](uint8_t byte) { return static_cast<uint8_t>(~byte); });
    auto made = KeyPair::of(half);
    wipe(half);
    REQUIRE(made);
    own = std::move(*made);
  }
  CHECK(places(inverted) == 1);
  const auto peer = pair();
  (void)agreed(own, peer.own(), End::dialler);
  CHECK(places(inverted) == 1);
  CHECK(in_child([&] { return static_cast<int>(places(inverted)); }) == 0);
  CHECK(in_child([&] {
          const bool refused = LinkKey::agree(own, peer.own(), End::dialler, {1, 1}).is(ENOKEY);
          const auto fresh = KeyPair::make();
          if (!fresh || !refused) return 1;
          return fresh->own() != own.own() && LinkKey::agree(*fresh, peer.own(), End::dialler, {1, 1}) ? 0 : 2;
        }) == 0);
  // The parent's is still there, until it is destroyed.
  (void)agreed(own, peer.own(), End::dialler);
  own = {};
  CHECK(places(inverted) == 0);
}

TEST_CASE("A key pair has one owner", "[keys]") {
  auto first = pair();
  const auto key = first.own();
  const KeyPair second = std::move(first);
  CHECK(second.own() == key);
  CHECK(LinkKey::agree(first, pair().own(), End::dialler, {1, 1}).is(ENOKEY));
  CHECK(LinkKey::agree(second, pair().own(), End::dialler, {1, 1}));
  CHECK(pair().own() != pair().own());
}

namespace {
const Fresh kFresh = hashed<Fresh>({}, [](Hash& hash) { hash.add(uint64_t{1}); });
const Fresh kAnswered = hashed<Fresh>({}, [](Hash& hash) { hash.add(uint64_t{2}); });
}  // namespace

TEST_CASE("Both ends of a cutover make the same marks", "[keys]") {
  const Link link;
  for (const auto side : {Side::connector, Side::acceptor})
    for (const uint64_t n : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32, UINT64_MAX}) {
      CHECK(cutover(link.dialler_s).mark(side, n, kFresh, kAnswered) ==
            cutover(link.dialled_s).mark(side, n, kFresh, kAnswered));
      CHECK(cutover(link.dialler_s).no(n, kAnswered) == cutover(link.dialled_s).no(n, kAnswered));
    }
  CHECK(cutover(link.dialler_s).witness(kFresh, kAnswered) == cutover(link.dialled_s).witness(kFresh, kAnswered));
}

TEST_CASE("Nothing of a cutover can change and its marks stay", "[keys]") {
  const Link link, other;
  const auto& key = link.dialler_s;
  const std::vector<uint8_t> claim(kClaim.begin(), kClaim.end()), accept(kAccept.begin(), kAccept.end());
  auto other_nonce = kAcceptor;
  other_nonce[15] ^= 1;
  auto other_claim = claim, other_accept = accept, longer_claim = claim;
  other_claim[4] ^= 1, other_accept[0] ^= 1;
  // The same bytes, divided otherwise.
  longer_claim.push_back(accept[0]);
  const std::vector<uint8_t> shorter_accept(accept.begin() + 1, accept.end());
  const auto side = Side::connector;
  const std::vector<Mark> marks{
      cutover(key).mark(side, 7, kFresh, kAnswered),
      cutover(key).mark(Side::acceptor, 7, kFresh, kAnswered),
      cutover(key).mark(side, 8, kFresh, kAnswered),
      cutover(key).mark(side, 7 + (uint64_t{1} << 32), kFresh, kAnswered),
      cutover(other.dialler_s).mark(side, 7, kFresh, kAnswered),
      CutoverKey::make(key, other_nonce, kConnector, claim, accept).mark(side, 7, kFresh, kAnswered),
      CutoverKey::make(key, kAcceptor, other_nonce, claim, accept).mark(side, 7, kFresh, kAnswered),
      CutoverKey::make(key, kConnector, kAcceptor, claim, accept).mark(side, 7, kFresh, kAnswered),
      CutoverKey::make(key, kAcceptor, kConnector, other_claim, accept).mark(side, 7, kFresh, kAnswered),
      CutoverKey::make(key, kAcceptor, kConnector, claim, other_accept).mark(side, 7, kFresh, kAnswered),
      CutoverKey::make(key, kAcceptor, kConnector, longer_claim, shorter_accept).mark(side, 7, kFresh, kAnswered),
      CutoverKey::make(key, kAcceptor, kConnector, {}, {}).mark(side, 7, kFresh, kAnswered),
      cutover(key).mark(side, 7, kAnswered, kAnswered),
      cutover(key).mark(side, 7, kFresh, kFresh),
      cutover(key).mark(side, 7, kAnswered, kFresh),
  };
  std::set<Mark> distinct(marks.begin(), marks.end());
  CHECK(distinct.size() == marks.size());
  std::set<std::vector<uint8_t>> macs, tags;
  for (const auto& mark : marks) {
    tags.emplace(mark.begin(), mark.begin() + kTagSize);
    macs.emplace(mark.begin() + kTagSize, mark.begin() + kTagSize + kMacSize);
  }
  CHECK(macs.size() == marks.size());
  CHECK(tags.size() == 7);  // what the link and the messages are is no part of it
  CHECK(std::ranges::equal(Bytes(marks[0]).first(kTagSize), Bytes(marks[4]).first(kTagSize)));
  const std::set<Witness> witnesses{cutover(key).witness(kFresh, kAnswered), cutover(key).witness(kAnswered, kFresh),
                                    cutover(key).witness(kFresh, kFresh),
                                    cutover(other.dialler_s).witness(kFresh, kAnswered)};
  CHECK(witnesses.size() == 4);
}

TEST_CASE("Each beginning of what comes at N is judged", "[keys]") {
  const Link link, other;
  const auto side = GENERATE(Side::connector, Side::acceptor);
  constexpr uint64_t kN = 123456789012;
  const auto ours = cutover(link.dialled_s);
  const auto judge = [&](Bytes bytes) { return ours.judge(bytes, side, kN, kAnswered); };
  const auto token = cutover(link.dialler_s).mark(side, kN, kFresh, kAnswered),
             foreign = cutover(other.dialler_s).mark(side, kN, kFresh, kAnswered),
             unread = cutover(link.dialler_s).mark(side, kN, kFresh), no = ours.no(kN, kAnswered),
             no_unread = ours.no(kN, {});
  // Only the acceptor says no, and only to whoever it has read.
  const bool accepts = side == Side::acceptor;
  std::vector<std::pair<Mark, Seen>> marks{{token, Seen::token}, {foreign, Seen::foreign}, {unread, Seen::foreign}};
  if (accepts) marks.insert(marks.end(), {{no, Seen::no}, {no_unread, Seen::foreign}});
  if (!accepts) CHECK(judge(no) == Seen::unlike);
  for (const auto& [mark, whole] : marks) {
    for (size_t size = 0; size < kMarkSize; ++size) CHECK(judge(Bytes(mark).first(size)) == Seen::partly);
    CHECK(judge(mark) == whole);
    // What is behind it does not count.
    std::vector<uint8_t> more(mark.begin(), mark.end());
    more.resize(100, 0x55);
    CHECK(judge(more) == whole);
    // A bit of the tag makes it data as soon as it is there; one of the rest makes it another's once it is
    // whole.
    for (size_t bit = 0; bit < 8 * kMarkSize; ++bit) {
      auto wrong = mark;
      wrong[bit / 8] = static_cast<uint8_t>(wrong[bit / 8] ^ 1u << bit % 8);
      for (size_t size = 0; size <= kMarkSize; ++size) {
        const bool data = bit / 8 < kTagSize && size > bit / 8;
        const bool blank = whole == Seen::no && bit / 8 >= kTagSize + kMacSize;  // what is not looked at
        const auto expected = data ? Seen::unlike : size < kMarkSize ? Seen::partly : blank ? Seen::no : Seen::foreign;
        if (judge(Bytes(wrong).first(size)) != expected) FAIL("bit " << bit << ", size " << size);
      }
    }
  }
  // A mark that is right elsewhere is data here.
  const auto elsewhere = side == Side::connector ? Side::acceptor : Side::connector;
  CHECK(judge(cutover(link.dialler_s).mark(elsewhere, kN, kFresh, kAnswered)) == Seen::unlike);
  CHECK(judge(cutover(link.dialler_s).mark(side, kN + 1, kFresh, kAnswered)) == Seen::unlike);
  CHECK(judge(std::array<uint8_t, kMarkSize>{}) == Seen::unlike);
}
