#include "tools/capture/pcapng.hpp"

#include <cstring>

namespace rsock::tools {
namespace {

constexpr std::uint32_t kSection = 0x0a0d0d0a, kInterface = 1, kStatistics = 5, kPacket = 6;
constexpr std::uint32_t kByteOrder = 0x1a2b3c4d;
constexpr std::uint16_t kLinkRaw = 101;  // packets begin with their IP header
constexpr std::uint16_t kEndOfOptions = 0, kApplication = 4, kName = 2, kResolution = 9, kFlags = 2, kReceived = 4,
                        kDropped = 5;
constexpr std::uint32_t kInbound = 1, kOutbound = 2;

}  // namespace

template <class T>
void Pcapng::put(T value) {
  raw(&value, sizeof value);
}

void Pcapng::raw(const void* bytes, std::size_t size) {
  const auto* first = static_cast<const std::uint8_t*>(bytes);
  out_.insert(out_.end(), first, first + size);
}

// Blocks are of multiples of four bytes, and so are their parts; so is what is in the buffer before.
void Pcapng::pad() { out_.resize((out_.size() + 3) & ~std::size_t{3}); }

void Pcapng::option(std::uint16_t code, const void* bytes, std::size_t size) {
  put(code);
  put(static_cast<std::uint16_t>(size));
  raw(bytes, size);
  pad();
}

std::size_t Pcapng::begin(std::uint32_t type) {
  const auto block = out_.size();
  put(type);
  put(std::uint32_t{0});
  return block;
}

// Its length stands at both ends.
void Pcapng::end(std::size_t block) {
  const auto length = static_cast<std::uint32_t>(out_.size() - block + sizeof(std::uint32_t));
  put(length);
  std::memcpy(out_.data() + block + sizeof(std::uint32_t), &length, sizeof length);
}

void Pcapng::time(std::uint64_t nanoseconds) {
  put(static_cast<std::uint32_t>(nanoseconds >> 32));
  put(static_cast<std::uint32_t>(nanoseconds));
}

void Pcapng::section(std::string_view application) {
  const auto block = begin(kSection);
  put(kByteOrder);
  put(std::uint16_t{1});  // version 1.0
  put(std::uint16_t{0});
  put(std::uint64_t{UINT64_MAX});  // its length is not known
  option(kApplication, application.data(), application.size());
  option(kEndOfOptions, nullptr, 0);
  end(block);
}

std::uint32_t Pcapng::interface(std::string_view name) {
  constexpr std::uint8_t kNanoseconds = 9;
  const auto block = begin(kInterface);
  put(kLinkRaw);
  put(std::uint16_t{0});
  put(std::uint32_t{0});  // packets are whole
  option(kName, name.data(), name.size());
  option(kResolution, &kNanoseconds, sizeof kNanoseconds);
  option(kEndOfOptions, nullptr, 0);
  end(block);
  return interfaces_++;
}

void Pcapng::packet(std::uint32_t interface, std::uint64_t when, bool outgoing, std::span<const std::uint8_t> head,
                    std::span<const std::byte> data) {
  const auto block = begin(kPacket);
  const auto size = static_cast<std::uint32_t>(head.size() + data.size());
  const auto flags = outgoing ? kOutbound : kInbound;
  put(interface);
  time(when);
  put(size);
  put(size);
  raw(head.data(), head.size());
  raw(data.data(), data.size());
  pad();
  option(kFlags, &flags, sizeof flags);
  option(kEndOfOptions, nullptr, 0);
  end(block);
}

void Pcapng::statistics(std::uint32_t interface, std::uint64_t when, std::uint64_t received, std::uint64_t dropped) {
  const auto block = begin(kStatistics);
  put(interface);
  time(when);
  option(kReceived, &received, sizeof received);
  option(kDropped, &dropped, sizeof dropped);
  option(kEndOfOptions, nullptr, 0);
  end(block);
}

}  // namespace rsock::tools
