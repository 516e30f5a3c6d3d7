#pragma once
// Errors are values: an operation gives either its value or the errno that a socket call would show for it.

#include <cerrno>
#include <cstddef>
#include <utility>

namespace rsock {

struct Errno {
  int code;
};

// Result<T>: a value or an errno (> 0). T must be cheap to make from nothing.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}
  Result(Errno error) : error_(error.code) {}

  explicit operator bool() const { return error_ == 0; }
  bool is(int code) const { return error_ == code; }
  int error() const { return error_; }
  T& operator*() { return value_; }
  const T& operator*() const { return value_; }
  T* operator->() { return &value_; }
  const T* operator->() const { return &value_; }

 private:
  T value_{};
  int error_ = 0;
};

struct Done {};
using Status = Result<Done>;

}  // namespace rsock
