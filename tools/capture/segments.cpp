#include "tools/capture/segments.hpp"

#include <algorithm>

#include "core/wire/bytes.hpp"

namespace rsock::tools {
namespace {

constexpr std::uint8_t kFin = 1, kSyn = 2, kPush = 8, kAck = 16;
constexpr std::uint8_t kTcp = 6;
constexpr std::size_t kIpv4 = 20, kIpv6 = 40, kHeader = 20, kSynOptions = 8;

From other(From from) { return from == From::connector ? From::acceptor : From::connector; }
std::size_t index(From from) { return static_cast<std::size_t>(from); }

/// The sum of 16-bit words that checksums of IP and TCP are made from.
class Sum {
 public:
  template <class Byte>
  void add(std::span<const Byte> bytes) {
    std::size_t at = 0;
    for (; at + 1 < bytes.size(); at += 2)
      sum_ += static_cast<unsigned>(bytes[at]) << 8 | static_cast<unsigned>(bytes[at + 1]);
    if (at < bytes.size()) sum_ += static_cast<unsigned>(bytes[at]) << 8;
  }
  void add(std::size_t number) { sum_ += number; }
  std::uint16_t checksum() const {
    auto sum = sum_;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
  }

 private:
  std::uint64_t sum_ = 0;
};

void store(std::span<std::uint8_t> at, std::uint16_t number) {
  at[0] = static_cast<std::uint8_t>(number >> 8);
  at[1] = static_cast<std::uint8_t>(number);
}

}  // namespace

void Segments::segment(From from, std::uint8_t flags, std::span<const std::byte> data, const Emit& emit) {
  const auto& [source, target] =
      from == From::connector ? std::pair(ends_[0], ends_[1]) : std::pair(ends_[1], ends_[0]);
  const bool v6 = source.address.v6, syn = flags & kSyn;
  const auto ip = v6 ? kIpv6 : kIpv4, tcp = kHeader + (syn ? kSynOptions : 0);
  const auto source_address = std::span(source.address.bytes).first(v6 ? 16 : 4);
  const auto target_address = std::span(target.address.bytes).first(v6 ? 16 : 4);
  auto& own = streams_[index(from)];

  std::array<std::uint8_t, kIpv6 + kHeader + kSynOptions> bytes{};
  wire::Writer writer(bytes);
  if (v6) {
    writer.number(std::uint32_t{6} << 28);
    writer.number(static_cast<std::uint16_t>(tcp + data.size()));
    writer.number(kTcp);
    writer.number(std::uint8_t{64});  // hops
  } else {
    writer.number(std::uint16_t{0x4500});
    writer.number(static_cast<std::uint16_t>(ip + tcp + data.size()));
    writer.number(std::uint16_t{0});
    writer.number(std::uint16_t{0x4000});  // not to be cut
    writer.number(std::uint8_t{64});
    writer.number(kTcp);
    writer.number(std::uint16_t{0});  // the checksum
  }
  writer.raw(source_address);
  writer.raw(target_address);
  writer.number(source.port);
  writer.number(target.port);
  writer.number(own.next);
  writer.number(flags & kAck ? streams_[index(other(from))].next : std::uint32_t{0});
  writer.number(static_cast<std::uint8_t>(tcp / 4 << 4));
  writer.number(flags);
  writer.number(std::uint16_t{65535});  // the window, of a scale that nothing exceeds
  writer.number(std::uint32_t{0});      // the checksum; nothing is urgent
  if (syn) {
    writer.number(std::uint32_t{0x0204ffd7});  // segments of 65495 bytes
    writer.number(std::uint32_t{0x0103030e});  // windows times 2^14
  }

  const std::span head(bytes.data(), ip + tcp);
  if (!v6) {
    Sum sum;
    sum.add(std::span<const std::uint8_t>(head.first(ip)));
    store(head.subspan(10), sum.checksum());
  }
  Sum sum;
  sum.add(source_address);
  sum.add(target_address);
  sum.add(std::size_t{kTcp} + tcp + data.size());
  sum.add(std::span<const std::uint8_t>(head.subspan(ip)));
  sum.add(data);
  store(head.subspan(ip + 16), sum.checksum());
  emit(from, head, data);
  own.next += static_cast<std::uint32_t>(data.size()) + (flags & (kSyn | kFin) ? 1 : 0);
}

void Segments::begin(const Emit& emit) {
  segment(From::connector, kSyn, {}, emit);
  segment(From::acceptor, kSyn | kAck, {}, emit);
  segment(From::connector, kAck, {}, emit);
}

void Segments::data(From from, std::uint64_t position, std::span<const std::byte> bytes, const Emit& emit) {
  auto& own = streams_[index(from)];
  if (!own.origin) own.origin = position;
  own.next = static_cast<std::uint32_t>(1 + position - *own.origin);
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min(bytes.size(), kMost));
    segment(from, kPush | kAck, part, emit);
    bytes = bytes.subspan(part.size());
  }
}

void Segments::end(From first, const Emit& emit) {
  segment(first, kFin | kAck, {}, emit);
  segment(other(first), kFin | kAck, {}, emit);
  segment(first, kAck, {}, emit);
}

}  // namespace rsock::tools
