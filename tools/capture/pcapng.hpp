#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace rsock::tools {

/// Blocks of a pcapng file (draft-ietf-opsawg-pcapng), of IP packets with times in nanoseconds, put behind
/// what is in a buffer.
class Pcapng {
 public:
  using Bytes = std::vector<std::uint8_t>;
  explicit Pcapng(Bytes& out) : out_(out) {}

  /// The first block.
  void section(std::string_view application);
  /// Its number.
  std::uint32_t interface(std::string_view name);
  void packet(std::uint32_t interface, std::uint64_t time, bool outgoing, std::span<const std::uint8_t> head,
              std::span<const std::byte> data);
  void statistics(std::uint32_t interface, std::uint64_t time, std::uint64_t received, std::uint64_t dropped);

 private:
  template <class T>
  void put(T value);
  void raw(const void* bytes, std::size_t size);
  void pad();
  void option(std::uint16_t code, const void* bytes, std::size_t size);
  std::size_t begin(std::uint32_t type);
  void end(std::size_t block);
  void time(std::uint64_t nanoseconds);

  Bytes& out_;
  std::uint32_t interfaces_ = 0;
};

}  // namespace rsock::tools
