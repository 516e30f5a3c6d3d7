#pragma once
// The program's iovec array, checked as the kernel checks it, for descriptors of concern.

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <span>

#include "core/sockets/signals.hpp"
#include "core/sockets/sockets.hpp"
#include "preload/program_memory.hpp"

namespace rsock::preload {

// What one call moves at most (MAX_RW_COUNT of the kernel).
inline constexpr size_t kMostBytes = 0x7ffff000;
inline constexpr size_t kMostParts = 1024;  // UIO_MAXIOV

// MSG_CMSG_COMPAT, with which the kernel marks calls of 32-bit programs, and which it refuses from others.
inline constexpr int kCompat = static_cast<int>(0x80000000);

enum class Access { read, write, none };  // what will be done to the buffers; none: they are not touched

// parts() is what may be moved: cut before the first byte that may not be touched, as cut() then says, and at
// `most`, as a short transfer is. error() is what the kernel finds before it moves anything: EFAULT for an array
// that cannot be read or a buffer in no program's memory; EINVAL for a negative length; `too_many` for more than
// kMostParts parts.
class ProgramVector {
 public:
  ProgramVector(const iovec* at, size_t count, Access access, size_t most = kMostBytes, int too_many = EINVAL) {
    if (count > kMostParts) {
      error_ = too_many;
      return;
    }
    try {
      if (count > few_.size()) many_.resize(count);
    } catch (const std::bad_alloc&) {
      error_ = ENOMEM;
      return;
    }
    const std::span own(many_.empty() ? few_.data() : many_.data(), count);
    if (get_all(own, at))
      take(own, access, most);
    else
      error_ = EFAULT;
  }
  ProgramVector(const void* buffer, size_t size, Access access, size_t most = kMostBytes)
      : one_{const_cast<void*>(buffer), std::min(size, kMostBytes)}, parts_(&one_, 1) {
    if (memory::beyond_programs(one_.iov_base, one_.iov_len)) {
      error_ = EFAULT;
      return;
    }
    one_.iov_len = std::min(one_.iov_len, most);
    total_ = usable(one_, access);
    cut_ = total_ < one_.iov_len;
    one_.iov_len = total_;
  }
  ProgramVector(const ProgramVector&) = delete;
  ProgramVector& operator=(const ProgramVector&) = delete;

  int error() const { return error_; }
  sockets::Buffers parts() const { return {parts_, cut_}; }
  size_t total() const { return total_; }
  // Nothing is asked for.
  bool empty() const { return total_ == 0 && !cut_; }

 private:
  static size_t usable(const iovec& part, Access access) {
    switch (access) {
      case Access::read: return memory::usable(part.iov_base, part.iov_len, memory::Use::read);
      case Access::write: return memory::usable(part.iov_base, part.iov_len, memory::Use::write);
      case Access::none: break;
    }
    return part.iov_len;
  }

  void take(std::span<iovec> parts, Access access, size_t most) {
    for (const iovec& part : parts)
      if (static_cast<ssize_t>(part.iov_len) < 0) error_ = EINVAL;
    if (error_) return;
    for (const iovec& part : parts)
      if (memory::beyond_programs(part.iov_base, std::min(part.iov_len, kMostBytes))) error_ = EFAULT;
    if (error_) return;
    parts_ = parts;
    for (size_t i = 0; i < parts.size(); ++i) {
      const iovec part{parts[i].iov_base, std::min(parts[i].iov_len, most - total_)};
      const size_t good = usable(part, access);
      total_ += good;
      cut_ = good < part.iov_len;
      if (good == parts[i].iov_len) continue;
      parts[i].iov_len = good;
      parts_ = parts.first(i + 1);
      return;
    }
  }

  iovec one_{};
  std::array<iovec, 8> few_;  // our copies, which stay what they were when they were checked
  sockets::HeldVector<iovec> many_;
  std::span<const iovec> parts_;
  size_t total_ = 0;
  bool cut_ = false;
  int error_ = 0;
};

}  // namespace rsock::preload
