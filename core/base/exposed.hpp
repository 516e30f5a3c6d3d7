#pragma once
// A unix socket of ours that strangers reach. What they put into it goes with it, descriptors above all: a
// TCP socket that lingers makes whoever closes its last descriptor wait for as long as its owner likes, and
// so does whoever takes a message that it came with. So nothing is taken from such a socket that brings
// descriptors, unless they are known to do no harm, and one in which something is left is closed by a thread
// that nobody waits for, and which is there only while it is needed.

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/base/duration.hpp"
#include "core/base/unique_fd.hpp"

namespace rsock {

// Any thread, no lock of others.
class ExposedFd {
 public:
  ExposedFd() = default;
  explicit ExposedFd(UniqueFd fd) : fd_(std::move(fd)) {}
  ExposedFd(ExposedFd&& other) noexcept : fd_(std::move(other.fd_)), watcher_(std::exchange(other.watcher_, -1)) {}
  ExposedFd& operator=(ExposedFd&& other) noexcept;
  ~ExposedFd() { reset(); }

  // A member of this epoll set until it is given up, which may be before it is closed. Again: with other
  // events.
  Status watch(int epoll, uint32_t events, uint64_t data);
  void unwatch();
  void reset();
  int get() const { return fd_.get(); }
  explicit operator bool() const { return static_cast<bool>(fd_); }

  // The same for what a stranger gave us, of which nothing is known.
  static void close_aside(UniqueFd fd);
  // How many are given up and not closed yet, since what is in them holds them up. A caller that lets strangers in
  // stops at kMostHeldUp.
  static size_t held_up();
  // Until none is, for so long at most.
  static void await_closed(Duration most);
  static constexpr size_t kMostHeldUp = 32;
  // Before a filter of system calls (seccomp(2)): no thread closes anything any more, and those that did have ended.
  // What is held up then stays open. False if one was held up for longer than this.
  static bool retire(Duration most);
  // In a child of fork, which has closed all of them.
  static void forked();

 private:
  UniqueFd fd_;
  int watcher_ = -1;
};

// The next packet of a unix socket of packets, or what there is of a stream, if no descriptors came with it; never
// blocks. EPROTO: some did, and all stays where it is.
Result<size_t> receive_bare(int socket, std::span<uint8_t> to);

}  // namespace rsock
