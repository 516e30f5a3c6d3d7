#pragma once
// The core as the shell calls it. Where even the library's reserve of memory is used up (core/base/reserve.hpp), a call
// fails with ENOMEM, and what was only to be noted is not. The program may have no exception of ours. A cancelled
// thread's unwinding is none: it passes.

#include <new>
#include <type_traits>
#include <utility>

#include "core/sockets/sockets.hpp"

namespace rsock::preload::sockets {

using namespace rsock::sockets;

template <class Call>
[[gnu::always_inline]] inline auto guarded(const Call& call) -> decltype(call()) {
  using Given = decltype(call());
  try {
    return call();
  } catch (const std::bad_alloc&) {
    if constexpr (std::is_constructible_v<Given, Errno>)
      return Errno{ENOMEM};
    else if constexpr (!std::is_void_v<Given>)
      return Given{};
  }
}

#define RSOCK_GUARDED(name)                                                                                \
  inline constexpr auto name = [](auto&&... arguments) __attribute__((always_inline)) {                    \
    return guarded([&] { return rsock::sockets::name(std::forward<decltype(arguments)>(arguments)...); }); \
  };
RSOCK_GUARDED(make_room)
RSOCK_GUARDED(make_room_soon)
RSOCK_GUARDED(finish)
RSOCK_GUARDED(before_fork)
RSOCK_GUARDED(after_fork_in_parent)
RSOCK_GUARDED(after_fork_in_child)
RSOCK_GUARDED(before_exec)
RSOCK_GUARDED(exec_failed)
RSOCK_GUARDED(before_daemon)
RSOCK_GUARDED(became_daemon)
RSOCK_GUARDED(before_unshare)
RSOCK_GUARDED(before_filter)
RSOCK_GUARDED(before_ring)
RSOCK_GUARDED(socket_made)
RSOCK_GUARDED(listening)
RSOCK_GUARDED(accepted)
RSOCK_GUARDED(connecting)
RSOCK_GUARDED(connected)
RSOCK_GUARDED(duplicated)
RSOCK_GUARDED(meant_for_next_program)
RSOCK_GUARDED(taken)
RSOCK_GUARDED(before_close)
RSOCK_GUARDED(readable_bytes)
RSOCK_GUARDED(receive)
RSOCK_GUARDED(transmit)
RSOCK_GUARDED(transmit_file)
RSOCK_GUARDED(splice_in)
RSOCK_GUARDED(splice_out)
RSOCK_GUARDED(passed_in)
RSOCK_GUARDED(passed_out)
RSOCK_GUARDED(shutdown)
RSOCK_GUARDED(getsockopt)
RSOCK_GUARDED(setsockopt)
RSOCK_GUARDED(option_set)
RSOCK_GUARDED(unread)
RSOCK_GUARDED(ioctl)
RSOCK_GUARDED(nonblocking_set)
RSOCK_GUARDED(unserved)
RSOCK_GUARDED(unhonoured)
RSOCK_GUARDED(disconnected)
RSOCK_GUARDED(end_known)
RSOCK_GUARDED(epoll_ctl)
RSOCK_GUARDED(epoll_wait)
RSOCK_GUARDED(epoll_waited)
RSOCK_GUARDED(poll)
RSOCK_GUARDED(select)
#undef RSOCK_GUARDED

}  // namespace rsock::preload::sockets
