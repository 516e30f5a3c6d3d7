// The formats that cross from one host to another. The bytes below are the protocol: a change of them needs a new
// wire::kVersion, not a new expectation.

#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/wire/frame.hpp"
#include "core/wire/greeting.hpp"
#include "core/wire/message.hpp"

using namespace rsock;
using namespace rsock::wire;

namespace {

using Bytes = std::vector<uint8_t>;

// Hexadecimal digits; spaces are for the reader.
Bytes bytes(std::string_view hex) {
  Bytes out;
  std::string digits;
  for (const char c : hex) {
    if (c != ' ') digits += c;
    if (digits.size() == 2) out.push_back(static_cast<uint8_t>(std::stoi(digits, nullptr, 16))), digits.clear();
  }
  REQUIRE(digits.empty());
  return out;
}

Bytes encoded(const Message& message) {
  const auto made = encode(message);
  REQUIRE(made.size <= kMessageMax);
  const auto span = made.span();
  return {span.begin(), span.end()};
}

bool accepted(const Bytes& from) { return decode_message(from).has_value(); }

// Bytes that count up.
template <class Array>
Array counted(uint8_t first) {
  Array made;
  for (auto& byte : made) byte = first++;
  return made;
}

Endpoint v4() {
  Endpoint made;
  made.address.bytes = {192, 0, 2, 1};
  made.port = 0x1234;
  return made;
}

Endpoint v6() {
  Endpoint made;
  made.address.v6 = true;
  made.address.bytes = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  made.port = 0x5678;
  return made;
}

const RingPlace kRing{0x0102030405060708, 0x090a0b0c, 0x10000};
constexpr Slot kTo = 0xa1b2c3, kFrom = 0xd1e2f3;
constexpr uint64_t kOffset = 0x1112131415161718;

constexpr uint8_t kOnePiece[] = {0x00, 0xa1, 0xb2, 0xc3, 0x00, 0x03, 'a', 'b', 'c'};

struct Golden {
  std::string_view kind;
  Body body;
  std::string_view hex;
};

const Golden kGolden[] = {
    {"Key", Key{counted<PublicKey>(0x40), counted<Proof>(0xc0)},
     "00000000 5a5b5c5d"
     "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
     "c0c1c2c3c4c5c6c7c8c9cacbcccdcecf"},
    {"Claim", Claim{kFrom, v4(), v6(), kRing, counted<Nonce>(0x40)},
     "01000000 5a5b5c5d 00d1e2f3"
     "00 c0000201000000000000000000000000 1234"
     "01 20010db8000000000000000000000001 5678"
     "0102030405060708 090a0b0c 00010000"
     "404142434445464748494a4b4c4d4e4f"},
    {"Accept", Accept{kTo, kFrom, kRing, counted<Nonce>(0x80), kOffset},
     "02000000 5a5b5c5d 00a1b2c3 00d1e2f3"
     "0102030405060708 090a0b0c 00010000"
     "808182838485868788898a8b8c8d8e8f"
     "1112131415161718"},
    {"Confirm", Confirm{kTo, kOffset}, "03000000 5a5b5c5d 00a1b2c3 1112131415161718"},
    {"Decline", Decline{kTo, DeclineCause::unwilling}, "04000000 5a5b5c5d 00a1b2c3 02"},
    {"Window", Window{kTo, kOffset}, "05000000 5a5b5c5d 00a1b2c3 1112131415161718"},
    {"Blocked", Blocked{kTo}, "06000000 5a5b5c5d 00a1b2c3"},
    {"Grow", Grow{kTo, kRing}, "07000000 5a5b5c5d 00a1b2c3 0102030405060708 090a0b0c 00010000"},
    {"Switch", Switch{kTo}, "08000000 5a5b5c5d 00a1b2c3"},
    {"Fin", Fin{kTo, kOffset, true}, "09000000 5a5b5c5d 00a1b2c3 1112131415161718 01"},
    {"Reset", Reset{kTo}, "0a000000 5a5b5c5d 00a1b2c3"},
    {"Retire", Retire{kTo, true, false}, "0b000000 5a5b5c5d 00a1b2c3 01 00"},
    {"Credit", Credit{}, "0c000000 5a5b5c5d"},
    {"Pieces", Pieces{kOnePiece}, "0d000000 5a5b5c5d 00a1b2c3 0003 616263"},
    {"Witness", Witness{kTo, counted<WitnessCode>(0xe0)},
     "0e000000 5a5b5c5d 00a1b2c3 e0e1e2e3e4e5e6e7e8e9eaebecedeeef"},
};
static_assert(std::variant_size_v<Body> == std::size(kGolden));

template <class Check>
void for_each_kind(Check check) {
  for (const auto& golden : kGolden) {
    CAPTURE(golden.kind);
    check(Message{0x5a5b5c5d, golden.body}, bytes(golden.hex));
  }
}

Message message(Body body) { return {1, std::move(body)}; }
// Equal fields have equal bytes, which the golden ones prove.
bool survives(const Message& sent) {
  const auto got = decode_message(encoded(sent));
  return got && got->body.index() == sent.body.index() && encoded(*got) == encoded(sent);
}

}  // namespace

TEST_CASE("messages: the bytes of each kind", "[wire]") {
  size_t kind = 0;
  for_each_kind([&](const Message& sent, const Bytes& hex) {
    CHECK(sent.body.index() == kind++);
    CHECK(encoded(sent) == hex);
    const auto got = decode_message(hex);
    REQUIRE(got);
    CHECK(got->returned == 0x5a5b5c5d);
    CHECK(encoded(*got) == hex);
  });
}

TEST_CASE("messages: fields come back as they were", "[wire]") {
  const auto key = std::get<Key>(decode_message(bytes(kGolden[0].hex))->body);
  CHECK(key.key == counted<PublicKey>(0x40));
  CHECK(key.proof == counted<Proof>(0xc0));
  const auto claim = std::get<Claim>(decode_message(bytes(kGolden[1].hex))->body);
  CHECK(claim.from == kFrom);
  CHECK(claim.connector == v4());
  CHECK(claim.acceptor == v6());
  CHECK(claim.ring.address == kRing.address);
  CHECK(claim.ring.key == kRing.key);
  CHECK(claim.ring.size == kRing.size);
  CHECK(claim.nonce == counted<Nonce>(0x40));
  const auto accept = std::get<Accept>(decode_message(bytes(kGolden[2].hex))->body);
  CHECK(accept.to == kTo);
  CHECK(accept.from == kFrom);
  CHECK(accept.ring.size == kRing.size);
  CHECK(accept.nonce == counted<Nonce>(0x80));
  CHECK(accept.offset == kOffset);
  const auto fin = std::get<Fin>(decode_message(bytes(kGolden[9].hex))->body);
  CHECK(fin.to == kTo);
  CHECK(fin.total == kOffset);
  CHECK(fin.closed);
  const auto retire = std::get<Retire>(decode_message(bytes(kGolden[11].hex))->body);
  CHECK(retire.to == kTo);
  CHECK(retire.finished);
  CHECK_FALSE(retire.begun);
  CHECK(std::get<Retire>(decode_message(encoded({0, Retire{kTo, false, true}}))->body).begun);
}

TEST_CASE("messages: the ends of each range", "[wire]") {
  constexpr auto kMax = std::numeric_limits<uint64_t>::max();
  for (const uint64_t offset : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32, kMax})
    for (const Slot slot : {Slot{0}, Slot{1}, kSlotLimit - 1}) {
      CHECK(survives(message(Confirm{slot, offset})));
      CHECK(survives(message(Window{slot, offset})));
      CHECK(survives(message(Accept{slot, slot, kRing, Nonce{}, offset})));
      CHECK(survives(message(Fin{slot, offset, false})));
    }
  for (uint32_t size = 4096; size <= 1u << 26; size *= 2)
    CHECK(survives(message(Grow{0, {kMax, std::numeric_limits<uint32_t>::max(), size}})));
  for (const auto cause : {DeclineCause::unknown_flow, DeclineCause::resources, DeclineCause::unwilling})
    CHECK(survives(message(Decline{0, cause})));
  for (const uint32_t returned : {0u, 1u, 0xffffffffu})
    CHECK(decode_message(encoded({returned, Credit{}}))->returned == returned);
  auto far = v6();
  far.address.bytes.fill(0xff), far.port = 0xffff;
  CHECK(survives(message(Claim{0, far, far, kRing, Nonce{}})));
  CHECK(survives(message(Claim{0, Endpoint{}, Endpoint{}, kRing, Nonce{}})));
}

TEST_CASE("messages: pieces are packed and come apart", "[wire]") {
  Packer packer;
  CHECK(packer.empty());
  CHECK(packer.room() == Packer::kLargest);
  const Bytes first{'a', 'b', 'c'};
  packer.add(kTo, first);
  CHECK(packer.room() == Packer::kLargest - first.size() - Packer::kHead);
  const Bytes second(packer.room(), 'x');
  packer.add(kSlotLimit - 1, second);
  CHECK(packer.room() == 0);
  const auto sent = encoded(message(packer.pieces()));
  CHECK(sent.size() == kMessageMax);
  auto pieces = std::get<Pieces>(decode_message(sent)->body);
  auto piece = next_piece(pieces);
  REQUIRE(piece);
  CHECK(piece->to == kTo);
  CHECK(Bytes(piece->bytes.begin(), piece->bytes.end()) == first);
  piece = next_piece(pieces);
  REQUIRE(piece);
  CHECK(piece->to == kSlotLimit - 1);
  CHECK(Bytes(piece->bytes.begin(), piece->bytes.end()) == second);
  CHECK_FALSE(next_piece(pieces));
  packer.clear();
  CHECK(packer.empty());
}

TEST_CASE("messages: pieces that are none", "[wire]") {
  CHECK_FALSE(accepted(bytes("0d000000 00000000")));                                 // no piece
  CHECK_FALSE(accepted(bytes("0d000000 00000000 00a1b2c3 0000")));                   // an empty one
  CHECK_FALSE(accepted(bytes("0d000000 00000000 01000000 0001 61")));                // no slot
  CHECK_FALSE(accepted(bytes("0d000000 00000000 00a1b2c3 0002 61")));                // longer than the message
  CHECK_FALSE(accepted(bytes("0d000000 00000000 00a1b2c3 0001 61 00a1b2c3 0001")));  // the second one, too
  CHECK(accepted(bytes("0d000000 00000000 00a1b2c3 0001 61 00a1b2c3 0001 62")));
}

TEST_CASE("messages: a part or more than one is none", "[wire]") {
  CHECK_FALSE(accepted({}));
  for_each_kind([](const Message&, const Bytes& hex) {
    for (size_t size = 0; size < hex.size(); ++size)
      CHECK_FALSE(accepted(Bytes(hex.begin(), hex.begin() + static_cast<ptrdiff_t>(size))));
    auto longer = hex;
    while (longer.size() < kMessageMax + 2) {
      longer.push_back(0);
      CHECK_FALSE(accepted(longer));
    }
  });
}

TEST_CASE("messages: the zeros of the header are zero", "[wire]") {
  for_each_kind([](const Message&, const Bytes& hex) {
    for (size_t at = 1; at <= 3; ++at)
      for (unsigned bit = 0; bit < 8; ++bit) {
        auto wrong = hex;
        wrong[at] = static_cast<uint8_t>(1u << bit);
        CHECK_FALSE(accepted(wrong));
      }
  });
}

TEST_CASE("messages: a kind is one of those above, and has its own length", "[wire]") {
  for_each_kind([](const Message& sent, const Bytes& hex) {
    for (unsigned kind = 0; kind < 256; ++kind) {
      CAPTURE(kind);
      auto other = hex;
      other[0] = static_cast<uint8_t>(kind);
      const auto got = decode_message(other);
      if (kind >= std::size(kGolden)) CHECK_FALSE(got);
      if (kind < std::size(kGolden) && bytes(kGolden[kind].hex).size() != hex.size()) CHECK_FALSE(got);
      if (kind == sent.body.index()) CHECK(got);
    }
  });
}

TEST_CASE("messages: flags are 0 or 1, causes are known", "[wire]") {
  for (unsigned value = 0; value < 256; ++value) {
    CAPTURE(value);
    auto fin = encoded(message(Fin{}));
    fin.back() = static_cast<uint8_t>(value);
    CHECK(accepted(fin) == (value <= 1));
    for (const size_t flag : {1, 2}) {
      auto retire = encoded(message(Retire{}));
      retire[retire.size() - flag] = static_cast<uint8_t>(value);
      CHECK(accepted(retire) == (value <= 1));
    }
    auto decline = encoded(message(Decline{}));
    decline.back() = static_cast<uint8_t>(value);
    CHECK(accepted(decline) == (value <= 2));
    for (const size_t family : {12, 31}) {  // the connector's and the acceptor's
      auto claim = encoded(message(Claim{0, Endpoint{}, Endpoint{}, kRing, Nonce{}}));
      claim[family] = static_cast<uint8_t>(value);
      CHECK(accepted(claim) == (value <= 1));
    }
  }
}

TEST_CASE("messages: an IPv4 address has nothing behind it", "[wire]") {
  const auto good = encoded(message(Claim{0, v4(), v4(), kRing, Nonce{}}));
  REQUIRE(accepted(good));
  for (const size_t address : {13, 32})
    for (size_t at = 4; at < 16; ++at) {
      auto wrong = good;
      wrong[address + at] = 1;
      CHECK_FALSE(accepted(wrong));
    }
}

TEST_CASE("messages: a ring is a power of two from 4 KiB to 64 MiB", "[wire]") {
  const auto takes = [](uint32_t size) {
    const RingPlace ring{1, 1, size};
    const bool claim = accepted(encoded(message(Claim{0, v4(), v4(), ring, Nonce{}})));
    CHECK(accepted(encoded(message(Accept{0, 0, ring, Nonce{}, 0}))) == claim);
    CHECK(accepted(encoded(message(Grow{0, ring}))) == claim);
    return claim;
  };
  for (unsigned power = 0; power < 32; ++power) {
    const auto size = 1u << power;
    CAPTURE(size);
    CHECK(takes(size) == (power >= 12 && power <= 26));
    CHECK_FALSE(takes(size + (power > 0 ? 1 : 2)));
    if (power > 1) CHECK_FALSE(takes(size - 1));
  }
  CHECK_FALSE(takes(0));
  CHECK_FALSE(takes(0xffffffff));
}

// A slot must fit into the immediate of a write.
TEST_CASE("messages: slots have 24 bits", "[wire]") {
  for (const Slot slot : {kSlotLimit, kSlotLimit + 1, Slot{0xffffffff}}) {
    CAPTURE(slot);
    CHECK_FALSE(accepted(encoded(message(Claim{slot, v4(), v4(), kRing, Nonce{}}))));
    CHECK_FALSE(accepted(encoded(message(Accept{slot, 0, kRing, Nonce{}, 0}))));
    CHECK_FALSE(accepted(encoded(message(Accept{0, slot, kRing, Nonce{}, 0}))));
    CHECK_FALSE(accepted(encoded(message(Reset{slot}))));
    CHECK_FALSE(accepted(encoded(message(Window{slot, 0}))));
  }
  CHECK(immediate(kSlotLimit - 1) == 0xffffff);
}

TEST_CASE("greetings: the bytes of an answer", "[wire]") {
  const Greeting sent{kVersion, Verdict::linked, 0x0102030405060708, 0x090a0b0c, counted<PublicKey>(0x40)};
  const auto hex = bytes(
      "7273636b 0002 0002 0102030405060708 090a0b0c 00020000"
      "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f");
  const auto made = encode(sent);
  CHECK(Bytes(made.begin(), made.end()) == hex);
  const auto got = decode_answer(hex);
  REQUIRE(got);
  CHECK(got->version == 2);
  CHECK(got->verdict == Verdict::linked);
  CHECK(got->engine == 0x0102030405060708);
  CHECK(got->receives == 0x090a0b0c);
  CHECK(got->key == counted<PublicKey>(0x40));
}

TEST_CASE("greetings: what is one and what is not", "[wire]") {
  const auto made = encode(Greeting{kVersion, Verdict::welcome, 1, 128, counted<PublicKey>(1)});
  const Bytes good(made.begin(), made.end());
  for (size_t size = 0; size < kAnswerSize; ++size) CHECK_FALSE(decode_answer(std::span(good).first(size)));
  for (size_t bit = 0; bit < 32; ++bit) {
    auto wrong = good;
    wrong[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    CHECK_FALSE(decode_answer(wrong));
  }
  for (unsigned verdict = 0; verdict < 0x10000; ++verdict) {
    auto other = good;
    other[6] = static_cast<uint8_t>(verdict >> 8), other[7] = static_cast<uint8_t>(verdict);
    const bool got = decode_answer(other).has_value();
    if (got != (verdict <= 4)) FAIL("verdict " << verdict);
  }
  // A welcome names receives that a link can live on; a refusal names none.
  const auto welcome = [](uint32_t receives) { return encode(Greeting{kVersion, Verdict::welcome, 1, receives}); };
  for (const auto receives : {kFewestReceives, 128u, kMostReceives}) CHECK(decode_answer(welcome(receives)));
  for (const auto receives : {0u, kFewestReceives - 1, kMostReceives + 1, UINT32_MAX})
    CHECK_FALSE(decode_answer(welcome(receives)));
  CHECK(decode_answer(encode(Greeting{kVersion, Verdict::linked, 1, 0})));
}

TEST_CASE("greetings: a request says which end dials", "[wire]") {
  const auto hex =
      bytes("7273636b 0002 0000 0102030405060708 00000080 00020000 00 0a000001000000000000000000000000 18eb");
  Hello sent{{kVersion, Verdict::welcome, 0x0102030405060708, 128, {}}, {}};
  sent.acceptor.address.bytes = {10, 0, 0, 1};
  sent.acceptor.port = 6379;
  const auto made = encode(sent);
  CHECK(Bytes(made.begin(), made.end()) == hex);
  const auto got = decode_hello(hex);
  REQUIRE(got);
  CHECK(got->greeting.engine == 0x0102030405060708);
  CHECK(got->acceptor == sent.acceptor);
  for (size_t size = 0; size < kHelloSize; ++size) CHECK_FALSE(decode_hello(std::span(hex).first(size)));
  auto padded = hex;
  padded.resize(56, 0xee);
  CHECK(decode_hello(padded));
  auto wrong = hex;
  wrong[kGreetingSize] = 2;
  CHECK_FALSE(decode_hello(wrong));
  wrong = hex;
  wrong[kGreetingSize + 1 + 4] = 1;  // an IPv4 address of five bytes
  CHECK_FALSE(decode_hello(wrong));
  // A request that refuses would name receives that nobody has looked at.
  for (const auto verdict : {Verdict::version, Verdict::linked, Verdict::resources, Verdict::stranger}) {
    sent.greeting = {kVersion, verdict, 1, 0, {}};
    CHECK_FALSE(decode_hello(encode(sent)));
    sent.greeting.version = sent.greeting.oldest = kVersion + 1;
    CHECK(decode_hello(encode(sent)));
  }
}

TEST_CASE("greetings: two ends speak the newest version that both know", "[wire]") {
  const auto common = [](uint16_t newest, uint16_t oldest) {
    return Greeting{.version = newest, .oldest = oldest}.common();
  };
  CHECK(common(kVersion, kVersion) == kVersion);
  CHECK(common(kVersion + 1, kVersion) == kVersion);
  CHECK(common(kVersion + 7, kOldestVersion) == kVersion);
  CHECK_FALSE(common(kVersion + 1, kVersion + 1));
  CHECK_FALSE(common(kOldestVersion - 1, kOldestVersion - 1));
  // One that does not say speaks one; more than all there are, none.
  auto made = encode(Greeting{.version = kVersion, .receives = kFewestReceives, .oldest = 0});
  CHECK(decode_answer(made)->oldest == kVersion);
  made = encode(Greeting{.version = kVersion, .receives = kFewestReceives, .oldest = kVersion + 1});
  CHECK_FALSE(decode_answer(made));
}

// The version is the caller's to judge, and what later versions add must not keep it from being read.
TEST_CASE("greetings: earlier and later versions can be told", "[wire]") {
  for (const uint16_t version : {uint16_t{1}, uint16_t{0xffff}}) {
    const auto made = encode(Greeting{.version = version, .engine = 7, .oldest = version});
    Bytes other(made.begin(), made.begin() + kGreetingSize);  // the first had no key
    const auto shortest = decode_answer(other);
    REQUIRE(shortest);
    CHECK(shortest->version == version);
    CHECK(shortest->key == PublicKey{});
    other[23] = 1;
    other.resize(196, 0xee);  // RDMA-CM pads private data
    const auto got = decode_answer(other);
    REQUIRE(got);
    CHECK(got->version == version);
    CHECK(got->engine == 7);
  }
}

TEST_CASE("frames: the bytes", "[wire]") {
  const auto token = counted<Mark>(0xa0);
  const auto made = encode(token, Frame{FrameKind::resume, kOffset, 0x2122232425262728});
  const auto hex = bytes(
      "a0a1a2a3a4a5a6a7 a8a9aaabacadaeafb0b1b2b3b4b5b6b7 b8b9babbbcbdbebfc0c1c2c3c4c5c6c7"
      "01 00000000000000 1112131415161718 2122232425262728");
  CHECK(Bytes(made.begin(), made.end()) == hex);
  for (const uint64_t value : {uint64_t{0}, kOffset, std::numeric_limits<uint64_t>::max()}) {
    const auto got = decode_frame(encode(token, {FrameKind::resume, value, ~value}), token);
    REQUIRE(got);
    CHECK(got->kind == FrameKind::resume);
    CHECK(got->consumed == value);
    CHECK(got->written == ~value);
  }
}

TEST_CASE("frames: every bit but those of the two counts is checked", "[wire]") {
  const auto token = counted<Mark>(1);
  const auto good = encode(token, Frame{FrameKind::resume, 0});
  for (const auto kind : {FrameKind::leave, FrameKind::aside})
    CHECK(decode_frame(encode(token, {kind, 7}), token)->kind == kind);
  for (size_t bit = 0; bit < kFrameSize * 8; ++bit) {
    CAPTURE(bit);
    auto other = good;
    other[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    CHECK(decode_frame(other, token).has_value() == (bit / 8 >= 48));
  }
}

TEST_CASE("a writer stops at its end, a reader gives zeros behind its own", "[wire]") {
  std::array<uint8_t, 3> place{};
  Writer writer(place);
  writer.number(uint16_t{0x0102});
  CHECK(writer.good());
  writer.number(uint32_t{0x03040506});
  CHECK_FALSE(writer.good());
  CHECK(writer.size() == 3);
  CHECK(place == std::array<uint8_t, 3>{1, 2, 3});
  Reader reader(place);
  CHECK(reader.number<uint16_t>() == 0x0102);
  CHECK(reader.left() == 1);
  CHECK((reader.good() && !reader.complete()));
  CHECK(reader.number<uint32_t>() == 0x03000000);
  CHECK_FALSE(reader.good());
  CHECK_FALSE(reader.complete());
}
