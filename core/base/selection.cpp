#include "core/base/selection.hpp"

#include <sys/syscall.h>

#include "core/base/kernel.hpp"

namespace rsock {
namespace {

template <class... Arguments>
Result<int> ready(long number, Arguments... arguments) {
  const int saved = errno;
  const long found = kernel.syscall(number, arguments...);
  const int error = std::exchange(errno, saved);
  return found < 0 ? Result<int>(Errno{error}) : Result<int>(static_cast<int>(found));
}

}  // namespace

Result<int> Selection::select(const timespec& time, const sigset_t* mask) {
  const struct {
    const sigset_t* set;
    size_t size;
  } with{mask, 8};
  timespec left = time;
  return ready(SYS_pselect6, count_, in_.data(), out_.data(), urgent_.data(), &left, &with);
}

Result<int> poll_now(std::span<pollfd> fds) {
  const timespec none{};
  return ready(SYS_ppoll, fds.data(), fds.size(), &none, nullptr, 0);
}

}  // namespace rsock
