#pragma once
// Memory that two processes map: a memfd whose size is sealed, so that nothing the other one does to it can
// make a mapped page go away. Pages are had from the kernel when they are first touched. Not in core dumps,
// not inherited by children.

#include <cstddef>
#include <utility>

#include "core/base/result.hpp"
#include "core/base/unique_fd.hpp"

namespace rsock {

class SealedMemory {
 public:
  static constexpr size_t kPage = 4096;
  enum class Pages { when_touched, at_once };

  SealedMemory() = default;
  SealedMemory(SealedMemory&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  SealedMemory& operator=(SealedMemory&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~SealedMemory() {
    if (base_) sys::unmap(base_, size_);
  }

  // One of our own, and its descriptor for the other process. The name shows in /proc/PID/maps.
  static Result<SealedMemory> make(const char* name, size_t size, UniqueFd& descriptor);
  // The other process's, of whole pages. EPROTO: it is not as it has to be.
  static Result<SealedMemory> open(int descriptor, size_t least, size_t most, Pages pages = Pages::when_touched);

  std::byte* base() const { return base_; }
  size_t size() const { return size_; }
  explicit operator bool() const { return base_ != nullptr; }

 private:
  static Result<SealedMemory> map(int descriptor, size_t size, int flags);
  std::byte* base_ = nullptr;
  size_t size_ = 0;
};

}  // namespace rsock
