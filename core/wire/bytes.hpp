#pragma once
// Reading and writing big-endian fields byte by byte. A reader that runs past its end turns bad and gives zeros.

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace rsock::wire {

class Writer {
 public:
  explicit Writer(std::span<uint8_t> to) : to_(to) {}

  template <class T>
  void number(T value) {
    static_assert(std::is_unsigned_v<T>);
    for (size_t i = sizeof(T); i-- > 0;) byte(static_cast<uint8_t>(value >> (8 * i)));
  }
  template <size_t N>
  void raw(const std::array<uint8_t, N>& bytes) {
    for (const auto b : bytes) byte(b);
  }
  void raw(std::span<const uint8_t> bytes) {
    if (bytes.size() > to_.size() - size_) {
      good_ = false;
      return;
    }
    if (!bytes.empty()) std::memcpy(to_.data() + size_, bytes.data(), bytes.size());
    size_ += bytes.size();
  }
  size_t size() const { return size_; }
  bool good() const { return good_; }

 private:
  void byte(uint8_t value) {
    if (size_ < to_.size())
      to_[size_++] = value;
    else
      good_ = false;
  }
  std::span<uint8_t> to_;
  size_t size_ = 0;
  bool good_ = true;
};

class Reader {
 public:
  explicit Reader(std::span<const uint8_t> from) : from_(from) {}

  template <class T>
  T number() {
    static_assert(std::is_unsigned_v<T>);
    uint64_t value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) value = value << 8 | byte();
    return static_cast<T>(value);
  }
  template <size_t N>
  void raw(std::array<uint8_t, N>& bytes) {
    for (auto& b : bytes) b = byte();
  }
  // The next `size` bytes where they are; none if there are not so many.
  std::span<const uint8_t> take(size_t size) {
    if (size > left()) {
      good_ = false;
      return {};
    }
    next_ += size;
    return from_.subspan(next_ - size, size);
  }
  size_t left() const { return from_.size() - next_; }
  bool good() const { return good_; }
  // Everything was there, and nothing more.
  bool complete() const { return good_ && left() == 0; }

 private:
  uint8_t byte() {
    if (next_ < from_.size()) return from_[next_++];
    good_ = false;
    return 0;
  }
  std::span<const uint8_t> from_;
  size_t next_ = 0;
  bool good_ = true;
};

}  // namespace rsock::wire
