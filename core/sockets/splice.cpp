// splice(2) between a pipe and a flow. The bytes go by a pipe of our own, so that what the other side does not take
// stays where it was: what came in is only looked at until the program's pipe has it, and what is to go out is copied
// by tee(2) until the flow has it. Between the look and the taking nobody lets the lock go: another thread could read
// the same bytes, or the flow leave its lane, and they would come again.

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>

#include "core/base/unique_fd.hpp"
#include "core/sockets/entry.hpp"

namespace rsock::sockets {
namespace {

constexpr size_t kAtATime = 64 << 10;  // what a pipe holds, as a rule
constexpr unsigned kFlags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;

// Ours, for one call. Its ends never block where they should not: only as much is read as was written.
struct OwnPipe {
  UniqueFd out, in;
  size_t holds = 0;

  static OwnPipe make() {
    int ends[2];
    if (kernel.syscall(SYS_pipe2, ends, O_CLOEXEC) != 0) return {};
    OwnPipe made{UniqueFd(ends[0]), UniqueFd(ends[1])};
    const auto size = sys::fcntl(made.in.get(), F_GETPIPE_SZ, 0);
    made.holds = size ? std::min(static_cast<size_t>(*size), kAtATime) : 0;
    return made;
  }
  explicit operator bool() const { return holds > 0; }
};

// Whether the call is one that moves bytes between a flow and a pipe that can be used in this way. About others the
// kernel knows better, and does not look at the flow.
bool moves(int flow, int pipe, int access, size_t size, unsigned flags) {
  const auto* entry = find(flow);
  if (!entry || entry->passes.load(std::memory_order_acquire) || size == 0 || (flags & ~kFlags)) return false;
  const auto mode = sys::fcntl(pipe, F_GETFL, 0);
  return mode && (*mode & O_ACCMODE) != access && sys::fcntl(pipe, F_GETPIPE_SZ, 0);
}

bool without_waiting(int pipe, unsigned flags) {
  const auto mode = sys::fcntl(pipe, F_GETFL, 0);
  return (flags & SPLICE_F_NONBLOCK) || (mode && (*mode & O_NONBLOCK));
}

bool has_room(int pipe) { return sys::readiness(pipe) & (EPOLLOUT | EPOLLERR); }

// As the kernel, which waits for the pipe before it looks at the socket.
Status wait_for_room(int pipe, unsigned flags, const Pipes& libc) {
  Handled since;
  while (!has_room(pipe)) {
    if (without_waiting(pipe, flags)) return Errno{EAGAIN};
    pollfd place{pipe, POLLOUT, 0};
    if (libc.poll(&place, 1, -1) >= 0) continue;
    if (errno != EINTR || !since.all_restart()) return Errno{errno};
    since = {};
  }
  return Done{};
}

Answer<size_t> moved(ssize_t result) {
  return result < 0 ? Answer<size_t>(Errno{errno}) : Answer<size_t>(static_cast<size_t>(result));
}

// Gives the pipe what of the flow's bytes are there and it has room for. EAGAIN: none are, or it has none.
Answer<size_t> hand_on(int fd, int pipe, const OwnPipe& own, std::span<std::byte> space, unsigned flags,
                       const Pipes& libc) {
  const Section section;
  const auto flow = lane_flow(fd);
  if (!flow) return Answer<size_t>::pass();
  iovec part{space.data(), space.size()};
  const auto there = flow->read({&part, 1}, true);
  if (!there || *there == 0) return there;
  const auto written = sys::write(own.in.get(), space.data(), *there);
  if (!written) return Errno{written.error()};
  const auto given = libc.splice(own.out.get(), nullptr, pipe, nullptr, *written, flags | SPLICE_F_NONBLOCK);
  if (given <= 0) return moved(given);
  for (size_t left = static_cast<size_t>(given); left > 0;) {
    part.iov_len = left;
    const auto taken = flow->read({&part, 1}, false);
    if (!taken || *taken == 0) break;
    left -= *taken;
  }
  return static_cast<size_t>(given);
}

}  // namespace

Answer<size_t> splice_in(int fd, int pipe, size_t size, unsigned flags, const Pipes& libc) {
  if (!moves(fd, pipe, O_RDONLY, size, flags)) return Answer<size_t>::pass();
  HeldVector<std::byte> space;
  for (;;) {
    if (const auto room = wait_for_room(pipe, flags, libc); !room) return Errno{room.error()};
    std::byte any;
    const iovec first{&any, sizeof any};
    const auto there = receive(fd, {{&first, 1}}, MSG_PEEK);
    if (!there.served() || !there.result() || *there.result() == 0) return there;
    const auto own = OwnPipe::make();
    if (!own) return unserved(fd), Answer<size_t>::pass();
    space.resize(std::min(size, own.holds));
    const auto given = hand_on(fd, pipe, own, space, flags, libc);
    // Others took the bytes, or the room: who may wait, waits for more.
    if (!given.served() || !given.result().is(EAGAIN)) return given;
  }
}

Answer<size_t> splice_out(int pipe, int fd, size_t size, unsigned flags, const Pipes& libc) {
  if (!moves(fd, pipe, O_WRONLY, size, flags)) return Answer<size_t>::pass();
  const auto own = OwnPipe::make();
  if (!own) return unserved(fd), Answer<size_t>::pass();
  HeldVector<std::byte> bytes(std::min(size, own.holds));
  size_t done = 0;
  while (done < size) {
    // Nothing more is waited for once something was moved.
    const auto copied =
        libc.tee(pipe, own.in.get(), std::min(size - done, bytes.size()), done ? flags | SPLICE_F_NONBLOCK : flags);
    if (copied <= 0) return done ? Answer<size_t>(done) : moved(copied);
    const auto got = sys::read(own.out.get(), bytes.data(), static_cast<size_t>(copied));
    if (!got) return done ? Answer<size_t>(done) : Answer<size_t>(Errno{got.error()});
    const iovec part{bytes.data(), *got};
    const auto sent = transmit(fd, {{&part, 1}}, flags & SPLICE_F_MORE ? MSG_MORE : 0);
    if (!sent.served() || !sent.result()) return done ? Answer<size_t>(done) : sent;
    // Now it is the pipe's no more.
    if (kernel.syscall(SYS_splice, pipe, nullptr, own.in.get(), nullptr, *sent.result(), SPLICE_F_NONBLOCK) > 0)
      (void)sys::read(own.out.get(), bytes.data(), bytes.size());
    done += *sent.result();
    if (*sent.result() < *got) break;
  }
  return done;
}

}  // namespace rsock::sockets
