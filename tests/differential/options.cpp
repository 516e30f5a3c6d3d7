// Options and state of sockets, and of what is none.
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "program.hpp"

#ifndef SIOCATMARK
#include <linux/sockios.h>
#endif

namespace differential {
namespace {

constexpr struct {
  int level, name;
  const char* says;
} kReadable[] = {
    {SOL_SOCKET, SO_ERROR, "SO_ERROR"},
    {SOL_SOCKET, SO_ERROR, "SO_ERROR"},
    {SOL_SOCKET, SO_TYPE, "SO_TYPE"},
    {SOL_SOCKET, SO_DOMAIN, "SO_DOMAIN"},
    {SOL_SOCKET, SO_PROTOCOL, "SO_PROTOCOL"},
    {SOL_SOCKET, SO_ACCEPTCONN, "SO_ACCEPTCONN"},
    {SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE"},
    {SOL_SOCKET, SO_RCVLOWAT, "SO_RCVLOWAT"},
    {SOL_SOCKET, SO_SNDLOWAT, "SO_SNDLOWAT"},
    {SOL_SOCKET, SO_OOBINLINE, "SO_OOBINLINE"},
    {SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR"},
    {SOL_SOCKET, SO_PRIORITY, "SO_PRIORITY"},
    {IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY"},
    {IPPROTO_TCP, TCP_CORK, "TCP_CORK"},
    {IPPROTO_TCP, TCP_KEEPIDLE, "TCP_KEEPIDLE"},
    {IPPROTO_TCP, TCP_KEEPCNT, "TCP_KEEPCNT"},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT"},
    {SOL_SOCKET, 9999, "9999"},
    {IPPROTO_TCP, 9999, "TCP 9999"},
    {777, 1, "level 777"},
};

void get(Program& program, Numbers& random) {
  const auto& option = kReadable[random.below(std::size(kReadable))];
  const int fd = program.any_number(random);
  int value[4] = {-1, -1, -1, -1};
  socklen_t size = random.one_in(10) ? random.one_of<socklen_t>({0, 1, 2, 16}) : sizeof value[0];
  void* to = random.one_in(50) ? bad_pointer() : value;
  program.trace.add("getsockopt %d %s size %u%s", fd, option.says, size, to == value ? "" : " bad");
  const long done =
      program.trace.result(random.one_in(5) ? syscall(SYS_getsockopt, fd, option.level, option.name, to, &size)
                                            : getsockopt(fd, option.level, option.name, to, &size));
  if (done == 0) program.trace.add(" %d size %u", value[0], size);
}

void set_time(Program& program, Numbers& random, Handle& on) {
  const bool in = random.one_in(2), some = random.one_in(2);
  timeval limit{0, some ? 5000 : 0};
  program.trace.add("setsockopt %d %s %ld", on.fd, in ? "SO_RCVTIMEO" : "SO_SNDTIMEO",
                    static_cast<long>(limit.tv_usec));
  const long done =
      program.trace.result(setsockopt(on.fd, SOL_SOCKET, in ? SO_RCVTIMEO : SO_SNDTIMEO, &limit, sizeof limit));
  if (done == 0 && in) on.end->timed = some;
}

void set(Program& program, Numbers& random) {
  auto* on = program.any(random, Handle::Kind::socket);
  if (!on) return;
  int value = random.one_in(2);
  const auto one = [&](const char* says, int level, int name) {
    const socklen_t size = random.one_in(20) ? 1 : sizeof value;
    const void* from = random.one_in(50) ? bad_pointer() : &value;
    program.trace.add("setsockopt %d %s %d size %u%s", on->fd, says, value, size, from == &value ? "" : " bad");
    return program.trace.result(setsockopt(on->fd, level, name, from, size));
  };
  switch (random.below(10)) {
    case 0: return (void)one("SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE);
    case 1:
    case 2: {
      value = random.one_of({0, 1, 1, 2, 10, 100});
      if (one("SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT) == 0) on->end->lowat = value ? static_cast<size_t>(value) : 1;
      return;
    }
    case 3: {
      // What waits for an acknowledgement goes when it is set again.
      value = 1;
      return (void)one("TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY);
    }
    case 4: {
      const linger how{static_cast<int>(random.below(2)), random.one_in(2) ? 0 : 1};
      program.trace.add("setsockopt %d SO_LINGER %d %d", on->fd, how.l_onoff, how.l_linger);
      if (program.trace.result(setsockopt(on->fd, SOL_SOCKET, SO_LINGER, &how, sizeof how)) == 0)
        on->end->lingers = how.l_onoff && how.l_linger == 0;
      return;
    }
    case 5:
    case 6: return set_time(program, random, *on);
    case 7: return (void)one("9999", SOL_SOCKET, 9999);
    case 8: return (void)one("SO_TYPE", SOL_SOCKET, SO_TYPE);
    default: return (void)one("TCP_QUICKACK", IPPROTO_TCP, TCP_QUICKACK);
  }
}

void control(Program& program, Numbers& random) {
  const int fd = program.any_number(random);
  int value = -1;
  switch (random.below(5)) {
    case 0: {
      program.trace.add("fcntl %d F_GETFL", fd);
      program.trace.result(fcntl(fd, F_GETFL));
      return;
    }
    case 1:
      program.trace.add("fcntl %d F_GETFD", fd);
      program.trace.result(fcntl(fd, F_GETFD));
      return;
    case 2:
      program.trace.add("fcntl %d 9999", fd);
      program.trace.result(fcntl(fd, 9999, 0));
      return;
    case 3:
      program.trace.add("ioctl %d SIOCATMARK", fd);
      if (program.trace.result(ioctl(fd, SIOCATMARK, &value)) == 0) program.trace.add(" %d", value);
      return;
    default:
      program.trace.add("ioctl %d 9999", fd);
      program.trace.result(ioctl(fd, 9999, &value));
      return;
  }
}

void look(Program& program, Numbers& random) {
  auto* on = program.any(random, random.one_in(10) ? Handle::Kind::pipe_in : Handle::Kind::socket);
  if (!on) return;
  int value = -1;
  void* to = random.one_in(30) ? bad_pointer() : &value;
  program.trace.add("ioctl %d FIONREAD%s", on->fd, to == &value ? "" : " bad");
  if (program.trace.result(ioctl(on->fd, FIONREAD, to)) == 0) program.trace.add(" %d", value);
}

void block(Program& program, Numbers& random) {
  auto* on = program.any(random, Handle::Kind::socket);
  if (!on) return;
  const bool nonblocking = random.one_in(2);
  long done;
  if (random.one_in(2)) {
    int value = nonblocking;
    program.trace.add("ioctl %d FIONBIO %d", on->fd, value);
    done = program.trace.result(ioctl(on->fd, FIONBIO, &value));
  } else {
    program.trace.add("fcntl %d F_SETFL %d", on->fd, nonblocking);
    done = program.trace.result(fcntl(on->fd, F_SETFL, nonblocking ? O_NONBLOCK : 0));
  }
  if (done == 0) on->end->nonblocking = nonblocking;
}

}  // namespace

void operate_options(Program& program, Numbers& random) {
  switch (random.below(8)) {
    case 0:
    case 1: return get(program, random);
    case 2:
    case 3: return set(program, random);
    case 4: return control(program, random);
    case 5: return block(program, random);
    default: return look(program, random);
  }
}

}  // namespace differential
