// Descriptors: copied, closed, used again; ends shut; and what else programs hold beside their sockets.
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "program.hpp"

namespace differential {
namespace {

// `made` is a copy of `of`; a handle that had the number is no more.
void copy_came(Program& program, Handle of, long made) {
  if (made < 0 || made == of.fd) return;
  of.fd = static_cast<int>(made);
  program.add(of);
}

void copy(Program& program, Numbers& random) {
  auto* known = program.any(random);
  if (!known || program.handles.size() > 20) return;
  const Handle of = *known;
  switch (random.below(6)) {
    case 0:
    case 1: program.trace.add("dup %d", of.fd); return copy_came(program, of, program.trace.result(dup(of.fd)));
    case 2:
    case 3: {
      const int onto = random.one_in(8)   ? -1
                       : random.one_in(4) ? 40 + static_cast<int>(random.below(4))
                                          : program.any(random)->fd;
      const bool third = random.one_in(3);
      program.trace.add("%s %d %d", third ? "dup3" : "dup2", of.fd, onto);
      return copy_came(program, of, program.trace.result(third ? dup3(of.fd, onto, O_CLOEXEC) : dup2(of.fd, onto)));
    }
    case 4: {
      const int least = static_cast<int>(random.below(50)) + 3;
      const int how = random.one_of({F_DUPFD, F_DUPFD_CLOEXEC});
      program.trace.add("fcntl %d %s %d", of.fd, how == F_DUPFD ? "F_DUPFD" : "F_DUPFD_CLOEXEC", least);
      return copy_came(program, of, program.trace.result(fcntl(of.fd, how, least)));
    }
    default:
      program.trace.add("SYS_dup %d", of.fd);
      return copy_came(program, of, program.trace.result(syscall(SYS_dup, of.fd)));
  }
}

void close_one(Program& program, Numbers& random) {
  if (random.one_in(20)) {
    program.trace.add("close %d", kNobody);
    program.trace.result(close(kNobody));
    return;
  }
  auto* known = program.any(random);
  if (!known) return;
  const int fd = known->fd;
  if (random.one_in(4)) {
    program.trace.add("SYS_close %d", fd);
    program.trace.result(syscall(SYS_close, fd));
  } else if (random.one_in(6)) {
    program.trace.add("close_range %d", fd);
    program.trace.result(close_range(static_cast<unsigned>(fd), static_cast<unsigned>(fd), 0));
  } else {
    program.trace.add("close %d", fd);
    program.trace.result(close(fd));
  }
  program.forget(fd);
}

void shut(Program& program, Numbers& random) {
  auto* known = program.any(random, random.one_in(20) ? Handle::Kind::pipe_in : Handle::Kind::socket);
  if (!known) return;
  int how = random.one_in(20) ? 7 : random.one_of({SHUT_WR, SHUT_WR, SHUT_RD, SHUT_RDWR});
  // When the end of a stream comes to one who reads no more is seen by nothing but an edge; in a lane that takes its
  // time.
  if (known->end && known->end->peer->shut_in && how != 7) how = SHUT_RD;
  program.trace.add("shutdown %d %s", known->fd,
                    how == SHUT_WR     ? "WR"
                    : how == SHUT_RD   ? "RD"
                    : how == SHUT_RDWR ? "RDWR"
                                       : "7");
  const long done =
      program.trace.result(random.one_in(4) ? syscall(SYS_shutdown, known->fd, how) : shutdown(known->fd, how));
  if (done == 0 && known->end) program.shut(*known->end, how != SHUT_WR, how != SHUT_RD);
}

void names(Program& program, Numbers& random) {
  const int fd = program.any_number(random);
  sockaddr_storage name{};
  socklen_t size = random.one_in(6) ? 4 : sizeof name;
  const bool peer = random.one_in(2);
  program.trace.add("%s %d", peer ? "getpeername" : "getsockname", fd);
  const long done =
      program.trace.result((peer ? getpeername : getsockname)(fd, reinterpret_cast<sockaddr*>(&name), &size));
  if (done == 0) program.trace.add(" family %d size %u", name.ss_family, size);
}

// What a connected socket is no good for.
void misuse(Program& program, Numbers& random) {
  const int fd = program.any_number(random);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  struct stat facts {};
  switch (random.below(8)) {
    case 0:
      name.sin_port = htons(9);
      program.trace.add("connect %d", fd);
      program.trace.result(connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof name));
      return;
    case 1:
      program.trace.add("bind %d", fd);
      program.trace.result(bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name));
      return;
    case 2:
      program.trace.add("accept %d", fd);
      program.trace.result(accept(fd, nullptr, nullptr));
      return;
    case 3:
      program.trace.add("lseek %d", fd);
      program.trace.result(lseek(fd, 0, SEEK_CUR));
      return;
    case 4:
      program.trace.add("fstat %d", fd);
      if (program.trace.result(fstat(fd, &facts)) == 0) program.trace.add(" %o", facts.st_mode & S_IFMT);
      return;
    case 5: {
      char byte;
      program.trace.add("pread %d", fd);
      program.trace.result(pread(fd, &byte, 1, 0));
      return;
    }
    case 6:
      program.trace.add("fsync %d", fd);
      program.trace.result(fsync(fd));
      return;
    default:
      program.trace.add("ftruncate %d", fd);
      program.trace.result(ftruncate(fd, 0));
      return;
  }
}

}  // namespace

void operate_descriptors(Program& program, Numbers& random) {
  if (program.handles.size() > 22) return close_one(program, random);
  switch (random.below(12)) {
    case 0:
    case 1:
    case 2: return copy(program, random);
    case 3:
    case 4:
    case 5: return close_one(program, random);
    case 6:
    case 7: return shut(program, random);
    case 8: return names(program, random);
    case 9:
      if (program.connections < 6) return program.connect(random);
      return names(program, random);
    default: return misuse(program, random);
  }
}

// Pipes and eventfds, which wait in the same sets.
void operate_neighbours(Program& program, Numbers& random) {
  auto* reader = program.any(random, Handle::Kind::pipe_in);
  auto* writer = program.any(random, Handle::Kind::pipe_out);
  auto* event = program.any(random, Handle::Kind::event);
  char bytes[64] = {};
  uint64_t count = 1;
  switch (random.below(5)) {
    case 0:
      if (reader && writer) break;
      [[fallthrough]];
    default:
      if (!reader && !writer) {
        int ends[2];
        program.trace.add("pipe2");
        program.trace.result(pipe2(ends, O_NONBLOCK));
        program.trace.add(" %d %d", ends[0], ends[1]);
        program.add({Handle::Kind::pipe_in, ends[0]});
        program.add({Handle::Kind::pipe_out, ends[1]});
        return;
      }
      if (!event) {
        program.trace.add("eventfd");
        program.add({Handle::Kind::event, static_cast<int>(program.trace.result(eventfd(0, EFD_NONBLOCK)))});
        return;
      }
      break;
  }
  switch (random.below(4)) {
    case 0:
      if (!reader) return;
      program.trace.add("read pipe %d", reader->fd);
      program.trace.result(read(reader->fd, bytes, random.between(1, sizeof bytes)));
      return;
    case 1:
      if (!writer) return;
      program.trace.add("write pipe %d", writer->fd);
      program.trace.result(write(writer->fd, bytes, random.between(1, sizeof bytes)));
      return;
    case 2:
      if (!event) return;
      program.trace.add("write event %d", event->fd);
      program.trace.result(write(event->fd, &count, sizeof count));
      return;
    default:
      if (!event) return;
      program.trace.add("read event %d", event->fd);
      if (program.trace.result(read(event->fd, &count, sizeof count)) > 0)
        program.trace.add(" %llu", static_cast<unsigned long long>(count));
      return;
  }
}

// A child that closes what it got, and ends.
void operate_processes(Program& program, Numbers& random) {
  const int fd = program.any_number(random);
  program.trace.add("fork, close %d", fd);
  program.trace.flush();
  const int child = fork();
  if (child == 0) {
    const int closed = close(fd);
    _exit(closed == 0 ? 0 : errno);
  }
  int status = -1;
  waitpid(child, &status, 0);
  program.trace.add(" status %x", status);
}

}  // namespace differential
