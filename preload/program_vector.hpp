#pragma once
// The program's iovec array, checked as the kernel checks it, for descriptors of concern.

#include <sys/uio.h>

#include <cerrno>
#include <span>

#include "preload/program_memory.hpp"

namespace rsock::preload {

// What one call moves at most (MAX_RW_COUNT of the kernel).
inline constexpr size_t kMostBytes = 0x7ffff000;
inline constexpr size_t kMostParts = 1024;  // UIO_MAXIOV

enum class Access { read, write, none };  // what will be done to the buffers; none: they are not touched

// parts() is what may be moved: cut before the first bad buffer and at kMostBytes, as a short transfer is.
// error() is EFAULT when already the array or the first byte is bad; EINVAL for a negative length; `too_many`
// for more than kMostParts parts.
class ProgramVector {
 public:
  ProgramVector(const iovec* at, size_t count, Access access, int too_many = EINVAL) {
    if (count > kMostParts)
      error_ = too_many;
    else if (!readable(at, count * sizeof *at))
      error_ = EFAULT;
    else
      take({at, count}, access);
  }
  ProgramVector(const void* buffer, size_t size, Access access)
      : one_{const_cast<void*>(buffer), size < kMostBytes ? size : kMostBytes}, parts_(&one_, 1) {
    if (!allowed(one_, access)) error_ = EFAULT;
    total_ = one_.iov_len;
  }
  ProgramVector(const ProgramVector&) = delete;
  ProgramVector& operator=(const ProgramVector&) = delete;

  int error() const { return error_; }
  std::span<const iovec> parts() const { return parts_; }
  size_t total() const { return total_; }

 private:
  static bool allowed(const iovec& part, Access access) {
    switch (access) {
      case Access::read:
        return readable(part.iov_base, part.iov_len);
      case Access::write:
        return writable(part.iov_base, part.iov_len);
      case Access::none:
        break;
    }
    return true;
  }

  void take(std::span<const iovec> parts, Access access) {
    for (const iovec& part : parts)
      if (static_cast<ssize_t>(part.iov_len) < 0) {
        error_ = EINVAL;
        return;
      }
    size_t taken = 0;
    for (; taken < parts.size(); ++taken) {
      const iovec& part = parts[taken];
      if (part.iov_len > kMostBytes - total_) break;
      if (!allowed(part, access)) {
        if (total_ == 0) error_ = EFAULT;
        break;
      }
      total_ += part.iov_len;
    }
    parts_ = parts.first(taken);
    if (total_ == 0 && taken < parts.size() && error_ == 0) {
      // One part alone is more than a call moves.
      one_ = {parts[taken].iov_base, kMostBytes};
      if (!allowed(one_, access)) error_ = EFAULT;
      parts_ = {&one_, 1};
      total_ = kMostBytes;
    }
  }

  iovec one_{};
  std::span<const iovec> parts_;
  size_t total_ = 0;
  int error_ = 0;
};

}  // namespace rsock::preload
