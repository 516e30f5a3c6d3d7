// Every way of sending, and of sending what is none of it.
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

#include "program.hpp"

namespace differential {
namespace {

// A buffer in pieces, some of them empty.
std::vector<iovec> pieces_of(std::string& data, Numbers& random) {
  std::vector<iovec> pieces;
  size_t at = 0;
  for (size_t left = random.below(4); left > 0; --left) {
    const auto size = random.one_in(3) ? 0 : random.between(0, data.size() - at);
    pieces.push_back({data.data() + at, size});
    at += size;
  }
  pieces.push_back({data.data() + at, data.size() - at});
  return pieces;
}

size_t size_for(const End& end, Numbers& random) {
  const auto room = end.peer->unread < kUnread ? kUnread - end.peer->unread : 1;
  const auto size = random.one_in(12)  ? 0
                    : random.one_in(2) ? random.between(1, 16)
                    : random.one_in(2) ? random.between(1, 600)
                                       : random.between(1, 3000);
  return std::min<size_t>(size, room);
}

int flags_for(Numbers& random) {
  if (random.one_in(2)) return 0;
  return static_cast<int>(random.some_of({MSG_DONTWAIT, MSG_NOSIGNAL})) | (random.one_in(10) ? MSG_EOR : 0);
}

// One call; what it sent.
long send_once(Program& program, Handle& to, Numbers& random, int more) {
  auto& end = *to.end;
  auto data = content(end, size_for(end, random));
  const int fd = to.fd;
  const auto size = data.size();
  const int flags = flags_for(random) | more;
  void* from = size > 0 && random.one_in(40) ? bad_pointer() : data.data();
  const auto* how = from == data.data() ? "" : " bad";
  // Those that take no flags cannot say that more will come.
  switch (random.below(more ? 5 : 10)) {
    case 0:
      program.trace.add("send%s %d %zu flags %x", how, fd, size, flags);
      return program.trace.result(send(fd, from, size, flags));
    case 1: {
      sockaddr_in other{};
      other.sin_family = AF_INET;
      other.sin_port = htons(9);
      program.trace.add("sendto%s %d %zu flags %x", how, fd, size, flags);
      return program.trace.result(sendto(fd, from, size, flags, reinterpret_cast<sockaddr*>(&other), sizeof other));
    }
    case 2: {
      auto pieces = pieces_of(data, random);
      msghdr message{};
      message.msg_iov = random.one_in(40) ? static_cast<iovec*>(bad_pointer()) : pieces.data();
      message.msg_iovlen = pieces.size();
      program.trace.add("sendmsg%s %d %zu in %zu flags %x", message.msg_iov == pieces.data() ? "" : " bad", fd, size,
                        pieces.size(), flags);
      return program.trace.result(sendmsg(fd, &message, flags));
    }
    case 3: {
      program.trace.add("SYS_sendto%s %d %zu flags %x", how, fd, size, flags);
      return program.trace.result(syscall(SYS_sendto, fd, from, size, flags, nullptr, 0));
    }
    case 4: {
      auto pieces = pieces_of(data, random);
      // A peer that was closed, or shut both ways, answers the first of two messages by a reset, which the second may
      // meet or not.
      const auto second = end.peer->answers_by_reset() ? 0 : pieces.size() / 2;
      mmsghdr both[2] = {};
      both[0].msg_hdr.msg_iov = pieces.data();
      both[0].msg_hdr.msg_iovlen = second;
      both[1].msg_hdr.msg_iov = pieces.data() + second;
      both[1].msg_hdr.msg_iovlen = pieces.size() - second;
      program.trace.add("sendmmsg %d %zu flags %x", fd, size, flags);
      const long done = program.trace.result(sendmmsg(fd, both, 2, flags));
      long sum = 0;
      for (long i = 0; i < done; ++i) program.trace.add(" %u", both[i].msg_len), sum += both[i].msg_len;
      return sum;
    }
    case 5:
    case 6: program.trace.add("write%s %d %zu", how, fd, size); return program.trace.result(write(fd, from, size));
    case 7: {
      auto pieces = pieces_of(data, random);
      program.trace.add("writev %d %zu in %zu", fd, size, pieces.size());
      return program.trace.result(writev(fd, pieces.data(), static_cast<int>(pieces.size())));
    }
    case 8:
      program.trace.add("SYS_write%s %d %zu", how, fd, size);
      return program.trace.result(syscall(SYS_write, fd, from, size));
    default: {
      auto pieces = pieces_of(data, random);
      program.trace.add("pwritev2 %d %zu in %zu", fd, size, pieces.size());
      return program.trace.result(pwritev2(fd, pieces.data(), static_cast<int>(pieces.size()), -1, 0));
    }
  }
}

void count(Program& program, Handle& from, long sent) {
  program.sent(*from.end, sent > 0 ? static_cast<size_t>(sent) : 0);
}

// Bytes that wait for what follows them; nobody looks at them before it has come.
void send_with_more(Program& program, Handle& to, Numbers& random) {
  const int on = 1, off = 0;
  const bool cork = random.one_in(2);
  if (cork) setsockopt(to.fd, IPPROTO_TCP, 3 /* TCP_CORK */, &on, sizeof on);
  for (auto left = random.between(1, 3); left > 0; --left) {
    count(program, to, send_once(program, to, random, cork ? 0 : MSG_MORE));
    program.trace.add(", ");
  }
  if (cork) {
    program.trace.add("uncork");
    program.trace.result(setsockopt(to.fd, IPPROTO_TCP, 3 /* TCP_CORK */, &off, sizeof off));
  } else {
    const char last = content(*to.end, 1)[0];
    program.trace.add("send %d 1", to.fd);
    count(program, to, program.trace.result(send(to.fd, &last, 1, 0)));
  }
}

}  // namespace

void operate_bytes_out(Program& program, Numbers& random) {
  auto* to = program.any(random, Handle::Kind::socket);
  if (!to) return program.connect(random);
  if (program.spoil(random)) {
    program.trace.add("send %d 0", to->fd);
    program.trace.result(in_lane_world() ? 1 : 0);
    return;
  }
  // Bytes that are held back meet a peer that takes none when they are let go, which no lane imitates.
  if (random.one_in(12) && !to->end->peer->answers_by_reset()) return send_with_more(program, *to, random);
  count(program, *to, send_once(program, *to, random, 0));
}

// sendfile, splice, and calls that sockets do not serve.
void operate_files(Program& program, Numbers& random) {
  auto* to = program.any(random, Handle::Kind::socket);
  if (!to) return program.connect(random);
  auto& end = *to->end;
  const auto data = content(end, std::max<size_t>(1, size_for(end, random)));
  const int file = memfd_create("file", MFD_CLOEXEC);
  write(file, data.data(), data.size());
  lseek(file, 0, SEEK_SET);
  off_t offset = 0;
  switch (random.below(5)) {
    case 0: {
      const bool told = random.one_in(2), beyond = random.one_in(3);
      program.trace.add("sendfile %d %zu", to->fd, data.size());
      count(program, *to,
            program.trace.result(sendfile(to->fd, file, told ? &offset : nullptr, data.size() + (beyond ? 100 : 0))));
      program.trace.add(" at %ld %ld", static_cast<long>(offset), static_cast<long>(lseek(file, 0, SEEK_CUR)));
      break;
    }
    case 1: {
      int pipe_ends[2];
      pipe2(pipe_ends, O_NONBLOCK | O_CLOEXEC);
      const auto most = std::min<size_t>(data.size(), 500);
      write(pipe_ends[1], data.data(), most);
      program.trace.add("splice to %d %zu", to->fd, most);
      count(program, *to,
            program.trace.result(splice(pipe_ends[0], nullptr, to->fd, nullptr, most, SPLICE_F_NONBLOCK)));
      close(pipe_ends[0]);
      close(pipe_ends[1]);
      break;
    }
    case 2: {
      int pipe_ends[2];
      pipe2(pipe_ends, O_NONBLOCK | O_CLOEXEC);
      const auto most = random.between(1, 500);
      if (!end.can_read(1, false)) {
        program.trace.add("nothing to splice");
      } else {
        program.trace.add("splice from %d %zu", to->fd, most);
        const long got = program.trace.result(splice(to->fd, nullptr, pipe_ends[1], nullptr, most, SPLICE_F_NONBLOCK));
        if (got > 0) {
          std::string taken(static_cast<size_t>(got), '\0');
          read(pipe_ends[0], taken.data(), taken.size());
          program.trace.bytes(taken);
          program.read(end, taken.size());
        }
      }
      close(pipe_ends[0]);
      close(pipe_ends[1]);
      break;
    }
    case 3:
      program.trace.add("copy_file_range %d", to->fd);
      program.trace.result(copy_file_range(file, nullptr, to->fd, nullptr, 10, 0));
      break;
    default:
      program.trace.add("pwrite %d", to->fd);
      program.trace.result(pwrite(to->fd, data.data(), 1, 0));
      break;
  }
  close(file);
}

// Urgent data: rarely, since it takes the flow back to TCP.
void operate_urgent(Program& program, Numbers& random) {
  auto* to = program.any(random, Handle::Kind::socket);
  if (!to) return program.connect(random);
  char byte = 'u';
  if (random.one_in(2)) {
    program.trace.add("recv urgent %d", to->fd);
    program.trace.result(recv(to->fd, &byte, 1, MSG_OOB | MSG_DONTWAIT));
    return;
  }
  program.trace.add("send urgent %d", to->fd);
  const long sent = program.trace.result(send(to->fd, &byte, 1, MSG_OOB));
  count(program, *to, sent);
  if (sent > 0) to->end->peer->urgent = true;
  program.arm_again(to->end->connection);
}

}  // namespace differential
