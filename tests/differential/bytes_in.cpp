// Every way of receiving.
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

#include "program.hpp"

namespace differential {
namespace {

struct Wanted {
  size_t size;
  int flags;
};

// A call that returns at once: what cannot is asked not to wait.
Wanted wanted_from(const End& end, Numbers& random) {
  Wanted wanted{random.one_in(14)  ? 0
                : random.one_in(2) ? random.between(1, 16)
                : random.one_in(2) ? random.between(1, 700)
                                   : random.between(1, 5000),
                0};
  if (random.one_in(3)) wanted.flags |= MSG_PEEK;
  if (random.one_in(5)) wanted.flags |= MSG_WAITALL;
  if (random.one_in(4)) wanted.flags |= MSG_DONTWAIT;
  if (random.one_in(60)) wanted.flags |= MSG_TRUNC;
  if (random.one_in(60)) wanted.flags |= MSG_ERRQUEUE;
  if (!end.nonblocking && !end.can_read(wanted.size, wanted.flags & MSG_WAITALL)) wanted.flags |= MSG_DONTWAIT;
  return wanted;
}

void took(Program& program, End& end, long got, const std::string& buffer, int flags) {
  if (got < 0) return;
  if (!(flags & MSG_TRUNC)) program.trace.bytes(std::string_view(buffer).substr(0, static_cast<size_t>(got)));
  if (!(flags & MSG_PEEK)) program.read(end, static_cast<size_t>(got));
}

void through_message(Program& program, const Handle& from, Wanted wanted, Numbers& random) {
  std::string buffer(wanted.size, '\0');
  const auto cut = random.between(0, wanted.size);
  iovec pieces[3] = {{buffer.data(), cut}, {nullptr, 0}, {buffer.data() + cut, wanted.size - cut}};
  alignas(16) char control[64];
  sockaddr_storage name{};
  mmsghdr whole{};
  auto& message = whole.msg_hdr;
  message = {&name, sizeof name, pieces, 3, control, sizeof control, 0x5555};
  long got;
  if (random.one_in(3)) {
    program.trace.add("recvmmsg %d %zu flags %x", from.fd, wanted.size, wanted.flags);
    const long messages = program.trace.result(recvmmsg(from.fd, &whole, 1, wanted.flags, nullptr));
    got = messages == 1 ? static_cast<long>(whole.msg_len) : -1;
    if (messages == 1) program.trace.add(" of %ld", got);
  } else {
    program.trace.add("recvmsg %d %zu flags %x", from.fd, wanted.size, wanted.flags);
    got = program.trace.result(recvmsg(from.fd, &message, wanted.flags));
  }
  if (got >= 0)
    program.trace.add(" name %u control %zu flags %x", message.msg_namelen, message.msg_controllen,
                      static_cast<unsigned>(message.msg_flags));
  took(program, *from.end, got, buffer, wanted.flags);
}

}  // namespace

void operate_bytes_in(Program& program, Numbers& random) {
  auto* from = program.any(random, Handle::Kind::socket);
  if (!from) return program.connect(random);
  auto& end = *from->end;
  const int fd = from->fd;
  auto wanted = wanted_from(end, random);
  std::string buffer(wanted.size + 1, '\0');
  buffer.resize(wanted.size);
  void* to = wanted.size > 0 && random.one_in(40) ? bad_pointer() : buffer.data();
  const char* how = to == buffer.data() ? "" : " bad";
  const bool plain_waits = !end.nonblocking && !end.can_read(wanted.size, false) && wanted.size > 0;
  switch (random.below(plain_waits ? 4 : 7)) {
    case 0:
    default: {
      program.trace.add("recv%s %d %zu flags %x", how, fd, wanted.size, static_cast<unsigned>(wanted.flags));
      return took(program, end, program.trace.result(recv(fd, to, wanted.size, wanted.flags)), buffer, wanted.flags);
    }
    case 1: {
      sockaddr_storage name{};
      socklen_t size = sizeof name;
      program.trace.add("recvfrom%s %d %zu flags %x", how, fd, wanted.size, static_cast<unsigned>(wanted.flags));
      const long got =
          program.trace.result(recvfrom(fd, to, wanted.size, wanted.flags, reinterpret_cast<sockaddr*>(&name), &size));
      if (got >= 0) program.trace.add(" name %u", size);
      return took(program, end, got, buffer, wanted.flags);
    }
    case 2: return through_message(program, *from, wanted, random);
    case 3: {
      program.trace.add("SYS_recvfrom%s %d %zu flags %x", how, fd, wanted.size, static_cast<unsigned>(wanted.flags));
      return took(program, end,
                  program.trace.result(syscall(SYS_recvfrom, fd, to, wanted.size, wanted.flags, nullptr, nullptr)),
                  buffer, wanted.flags);
    }
    case 4:
      program.trace.add("read%s %d %zu", how, fd, wanted.size);
      return took(program, end, program.trace.result(read(fd, to, wanted.size)), buffer, 0);
    case 5: {
      const auto cut = random.between(0, wanted.size);
      iovec pieces[3] = {{buffer.data(), cut}, {buffer.data(), 0}, {buffer.data() + cut, wanted.size - cut}};
      program.trace.add("readv %d %zu", fd, wanted.size);
      return took(program, end, program.trace.result(readv(fd, pieces, 3)), buffer, 0);
    }
    case 6:
      program.trace.add("SYS_read%s %d %zu", how, fd, wanted.size);
      return took(program, end, program.trace.result(syscall(SYS_read, fd, to, wanted.size)), buffer, 0);
  }
}

}  // namespace differential
