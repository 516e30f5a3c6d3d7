#include "core/base/exposed.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <climits>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#include "core/base/clock.hpp"
#include "core/base/signals_blocked.hpp"

namespace rsock {
namespace {

struct Closer {
  pthread_t id{};
  std::atomic<uint32_t> ended{0};
  bool started = false;
};

// Those that are held up, and the threads that close them: some, since one may be held up for long.
struct Held {
  std::mutex lock;
  std::vector<UniqueFd>* next = nullptr;  // never destroyed: the threads may be there until the very end
  std::atomic<uint32_t> all{0};
  std::array<Closer, 4> closers;
  bool retired = false;
};
constinit Held held;

void* close_all(void* self) {
  pthread_setname_np(pthread_self(), "rsock-close");
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, nullptr);
  std::unique_lock lock(held.lock);
  while (!held.next->empty() && !held.retired) {
    auto fd = std::move(held.next->back());
    held.next->pop_back();
    lock.unlock();
    fd.reset();
    lock.lock();
    if (--held.all == 0) sys::futex_wake(held.all, INT_MAX);
  }
  auto& ended = static_cast<Closer*>(self)->ended;
  ended = 1;
  sys::futex_wake(ended, INT_MAX);
  return nullptr;
}

void join(Closer& closer) {
  pthread_join(closer.id, nullptr);
  closer.started = false;
}

// One more, if there may be one more; with the lock.
void start_closer() {
  for (auto& closer : held.closers) {
    if (closer.started && closer.ended) join(closer);
    if (closer.started) continue;
    const SignalsBlocked here;
    closer.ended = 0;
    closer.started = pthread_create(&closer.id, nullptr, close_all, &closer) == 0;
    return;
  }
}

enum class Left { nothing, harmless, unknown };

// What is next in a socket to which nothing comes any more, and how many bytes that is. Packets: their end and a packet
// without bytes look alike, but for the sender's credentials. A stream: one look sees no further than the first
// descriptors.
Left next_in(int fd, bool packets, std::span<uint8_t> bytes, size_t& size) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred)) + CMSG_LEN(sizeof(int))];
  iovec piece{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const auto seen = sys::recvmsg(fd, message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (seen.is(ECONNRESET)) return Left::harmless;  // told once
  if (!seen) return Left::unknown;
  size = *seen;
  bool harmless = !(message.msg_flags & MSG_CTRUNC);
  for (auto* part = CMSG_FIRSTHDR(&message); part; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    int number;
    std::memcpy(&number, CMSG_DATA(part), sizeof number);
    UniqueFd brought(number);
    if (sys::is_sealed(number)) continue;  // to close it holds nobody up
    harmless = false;
    ExposedFd::close_aside(std::move(brought));
  }
  if (size == 0 && (!packets || !CMSG_FIRSTHDR(&message))) return Left::nothing;
  return harmless ? Left::harmless : Left::unknown;
}

int option_of(int fd, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  return sys::getsockopt(fd, SOL_SOCKET, name, &value, size) ? value : 0;
}

// Whether nothing is left in it that may do harm, once it is shut; what is harmless is taken out.
bool is_emptied(int fd) {
  constexpr int kMost = 512;  // more than fits
  const int on = 1;
  (void)sys::shutdown(fd, SHUT_RDWR);
  (void)sys::setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
  if (option_of(fd, SO_ACCEPTCONN)) {
    for (int i = 0; i < kMost; ++i) {
      const auto caller = sys::accept(fd, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (!caller) return caller.is(EAGAIN) || caller.is(EINVAL);  // by whether it may block
      const ExposedFd closed{UniqueFd(*caller)};
    }
    return false;
  }
  const bool packets = option_of(fd, SO_TYPE) != SOCK_STREAM;
  for (int i = 0; i < kMost; ++i) {
    std::array<uint8_t, 512> bytes;
    size_t size = 0;
    const auto left = next_in(fd, packets, bytes, size);
    if (left != Left::harmless) return left == Left::nothing;
    (void)sys::recv(fd, bytes.data(), size, MSG_DONTWAIT);
  }
  return false;
}

}  // namespace

ExposedFd& ExposedFd::operator=(ExposedFd&& other) noexcept {
  if (this == &other) return *this;
  reset();
  fd_ = std::move(other.fd_);
  watcher_ = std::exchange(other.watcher_, -1);
  return *this;
}

Status ExposedFd::watch(int epoll, uint32_t events, uint64_t data) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  const auto done = sys::epoll_ctl(epoll, watcher_ == epoll ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd_.get(), &event);
  if (done) watcher_ = epoll;
  return done;
}

void ExposedFd::unwatch() {
  epoll_event none{};
  if (watcher_ >= 0) (void)sys::epoll_ctl(std::exchange(watcher_, -1), EPOLL_CTL_DEL, fd_.get(), &none);
}

void ExposedFd::reset() {
  if (!fd_) return;
  unwatch();
  if (is_emptied(fd_.get())) return fd_.reset();
  close_aside(std::move(fd_));
}

// Without a thread for it, it stays open until there is one.
void ExposedFd::close_aside(UniqueFd fd) {
  const std::lock_guard lock(held.lock);
  if (!held.next) held.next = new std::vector<UniqueFd>;
  held.next->push_back(std::move(fd));
  ++held.all;
  if (!held.retired) start_closer();
}

// A thread that has ended for the kernel, too, is killed by no filter.
bool ExposedFd::retire(Duration most) {
  const auto deadline = now() + most;
  std::unique_lock lock(held.lock);
  held.retired = true;
  for (auto& closer : held.closers) {
    if (!closer.started) continue;
    lock.unlock();
    for (auto left = most; closer.ended == 0 && (left = deadline - now()) > Duration::zero();)
      sys::futex_sleep(closer.ended, 0, left);
    lock.lock();
    if (closer.ended == 0) return false;
    join(closer);
  }
  return true;
}

size_t ExposedFd::held_up() { return held.all; }

void ExposedFd::await_closed(Duration most) {
  const auto deadline = now() + most;
  for (auto all = held.all.load(); all > 0; all = held.all) {
    const auto left = deadline - now();
    if (left <= Duration::zero()) return;
    sys::futex_sleep(held.all, all, left);
  }
}

void ExposedFd::forked() { new (&held) Held; }

Result<size_t> receive_bare(int socket, std::span<uint8_t> to) {
  iovec piece{to.data(), to.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  const auto seen = sys::recvmsg(socket, message, MSG_PEEK | MSG_DONTWAIT);
  if (!seen) return seen;
  if (message.msg_flags & MSG_CTRUNC) return Errno{EPROTO};
  return sys::recv(socket, to.data(), *seen, MSG_DONTWAIT);  // of a stream, no more than was looked at
}

}  // namespace rsock
