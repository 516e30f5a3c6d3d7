#include "signals.hpp"

#include "threads.hpp"

namespace conformance {

bool Caller::asleep() const {
  return falls_asleep(shared_->task, [this] { return done(); });
}

const std::vector<Reader> readers{
    {"read", [](int fd, void* buffer, size_t size) { return read(fd, buffer, size); }},
    {"readv",
     [](int fd, void* buffer, size_t size) {
       iovec part{buffer, size};
       return readv(fd, &part, 1);
     }},
    {"recv", [](int fd, void* buffer, size_t size) { return recv(fd, buffer, size, 0); }},
    {"recvfrom", [](int fd, void* buffer, size_t size) { return recvfrom(fd, buffer, size, 0, nullptr, nullptr); }},
    {"recvmsg",
     [](int fd, void* buffer, size_t size) {
       iovec part{buffer, size};
       msghdr message{};
       message.msg_iov = &part, message.msg_iovlen = 1;
       return recvmsg(fd, &message, 0);
     }},
    {"recvmmsg", [](int fd, void* buffer, size_t size) -> ssize_t {
       iovec part{buffer, size};
       mmsghdr message{};
       message.msg_hdr.msg_iov = &part, message.msg_hdr.msg_iovlen = 1;
       const int got = recvmmsg(fd, &message, 1, 0, nullptr);
       return got == 1 ? static_cast<ssize_t>(message.msg_len) : got;
     }}};

const std::vector<Writer> writers{
    {"write", [](int fd, const void* buffer, size_t size) { return write(fd, buffer, size); }},
    {"writev",
     [](int fd, const void* buffer, size_t size) {
       iovec part{const_cast<void*>(buffer), size};
       return writev(fd, &part, 1);
     }},
    {"send", [](int fd, const void* buffer, size_t size) { return send(fd, buffer, size, 0); }},
    {"sendto", [](int fd, const void* buffer, size_t size) { return sendto(fd, buffer, size, 0, nullptr, 0); }},
    {"sendmsg",
     [](int fd, const void* buffer, size_t size) {
       iovec part{const_cast<void*>(buffer), size};
       msghdr message{};
       message.msg_iov = &part, message.msg_iovlen = 1;
       return sendmsg(fd, &message, 0);
     }},
    {"sendmmsg", [](int fd, const void* buffer, size_t size) -> ssize_t {
       iovec part{const_cast<void*>(buffer), size};
       mmsghdr message{};
       message.msg_hdr.msg_iov = &part, message.msg_hdr.msg_iovlen = 1;
       const int sent = sendmmsg(fd, &message, 1, 0);
       return sent == 1 ? static_cast<ssize_t>(message.msg_len) : sent;
     }}};

namespace {

// Milliseconds as the newer calls take them.
struct Span {
  explicit Span(int ms) : ever(ms < 0), time{ms / 1000, ms % 1000 * 1'000'000L} {}
  operator const timespec*() const { return ever ? nullptr : &time; }
  bool ever;
  timespec time;
};

struct Sets {
  Sets(int fd, short events) {
    FD_ZERO(&reads);
    FD_ZERO(&writes);
    if (events & POLLIN) FD_SET(fd, &reads);
    if (events & POLLOUT) FD_SET(fd, &writes);
  }
  fd_set reads, writes;
};

template <class Wait>
int in_set(int fd, short events, Wait wait) {
  const Fd set(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = static_cast<uint32_t>(events);
  if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0) return -2;
  return wait(+set, &event);
}

}  // namespace

const std::vector<Waiter> waiters{
    {"poll",
     [](int fd, short events, int ms) {
       pollfd one{fd, events, 0};
       return poll(&one, 1, ms);
     }},
    {"ppoll",
     [](int fd, short events, int ms) {
       pollfd one{fd, events, 0};
       return ppoll(&one, 1, Span(ms), nullptr);
     }},
    {"select",
     [](int fd, short events, int ms) {
       Sets sets(fd, events);
       timeval time{ms / 1000, ms % 1000 * 1000};
       return select(fd + 1, &sets.reads, &sets.writes, nullptr, ms < 0 ? nullptr : &time);
     }},
    {"pselect",
     [](int fd, short events, int ms) {
       Sets sets(fd, events);
       return pselect(fd + 1, &sets.reads, &sets.writes, nullptr, Span(ms), nullptr);
     }},
    {"epoll_wait",
     [](int fd, short events, int ms) {
       return in_set(fd, events, [&](int set, epoll_event* event) { return epoll_wait(set, event, 1, ms); });
     }},
    {"epoll_pwait",
     [](int fd, short events, int ms) {
       return in_set(fd, events, [&](int set, epoll_event* event) { return epoll_pwait(set, event, 1, ms, nullptr); });
     }},
    {"epoll_pwait2", [](int fd, short events, int ms) {
       return in_set(fd, events,
                     [&](int set, epoll_event* event) { return epoll_pwait2(set, event, 1, Span(ms), nullptr); });
     }}};

}  // namespace conformance
