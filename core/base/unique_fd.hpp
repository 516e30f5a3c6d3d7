#pragma once
// A descriptor of the library's own, closed by its one owner, and out of the program's reach (see own.hpp).

#include <utility>

#include "core/base/kernel.hpp"
#include "core/base/numbers.hpp"
#include "core/base/own.hpp"

namespace rsock {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) { own::keep(fd); }
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~UniqueFd() { reset(); }

  void reset() {
    if (fd_ < 0) return;
    own::forget(fd_);  // first: once it is closed, the number may be the program's
    (void)sys::close(std::exchange(fd_, -1));
  }
  // From now on somebody else's.
  int release() {
    own::forget(fd_);
    return std::exchange(fd_, -1);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// What `make` opens, out of the program's way (sys::duplicate_high).
template <class Make>
Result<UniqueFd> out_of_the_way(Make make) {
  const numbers::Taken taken;
  const Result<int> fd = make();
  if (!fd) return Errno{fd.error()};
  return UniqueFd(sys::move_high(*fd));
}

}  // namespace rsock
