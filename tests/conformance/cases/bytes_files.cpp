// Bytes between sockets, files and pipes, and the calls that write to a descriptor for the program.

#include <aio.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

#include <thread>

#include "../pair.hpp"
#include "../ways.hpp"

using namespace conformance;

namespace {

Fd file_of(std::string_view bytes) {
  Fd file(memfd_create("file", MFD_CLOEXEC));
  REQUIRE(file >= 0);
  for (size_t at = 0; at < bytes.size();) {
    const auto written = write(file, bytes.data() + at, bytes.size() - at);
    REQUIRE(written > 0);
    at += static_cast<size_t>(written);
  }
  REQUIRE(lseek(file, 0, SEEK_SET) == 0);
  return file;
}

struct Pipe {
  Fd out, in;
  Pipe() {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    out = Fd(ends[0]);
    in = Fd(ends[1]);
  }
};

int print(int fd, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int result = vdprintf(fd, format, arguments);
  va_end(arguments);
  return result;
}

}  // namespace

TEST_CASE("sendfile: the file from its position on, which moves", "[sendfile][sendfile64]") {
  const auto pair = connected();
  const auto file = file_of("0123456789");
  CHECK(sendfile(pair.client, file, nullptr, 4) == 4);
  CHECK(lseek(file, 0, SEEK_CUR) == 4);
  CHECK(sendfile64(pair.client, file, nullptr, 3) == 3);
  CHECK(lseek(file, 0, SEEK_CUR) == 7);
  CHECK(syscall(SYS_sendfile, +pair.client, +file, nullptr, 1) == 1);
  CHECK(receive(pair.server, 8) == "01234567");
}

TEST_CASE("sendfile: from an offset, which moves, while the position stays", "[sendfile][sendfile64]") {
  const auto pair = connected();
  const auto file = file_of("0123456789");
  off_t offset = 2;
  CHECK(sendfile(pair.client, file, &offset, 4) == 4);
  CHECK(offset == 6);
  off64_t offset64 = offset;
  CHECK(sendfile64(pair.client, file, &offset64, 2) == 2);
  CHECK(offset64 == 8);
  CHECK(lseek(file, 0, SEEK_CUR) == 0);
  CHECK(receive(pair.server, 6) == "234567");
}

TEST_CASE("sendfile: ends with the file", "[sendfile]") {
  const auto pair = connected();
  const auto file = file_of("0123456789");
  off_t offset = 7;
  CHECK(sendfile(pair.client, file, &offset, 100) == 3);
  CHECK(sendfile(pair.client, file, &offset, 100) == 0);
  CHECK(offset == 10);
  offset = 1000;
  CHECK(sendfile(pair.client, file, &offset, 100) == 0);
  CHECK(sendfile(pair.client, file, nullptr, 0) == 0);
  CHECK(receive(pair.server, 3) == "789");
}

TEST_CASE("sendfile: more than any ring holds", "[sendfile]") {
  const auto pair = connected();
  const auto text = pattern((5 << 20) + 7);
  const auto file = file_of(text);
  std::string got;
  std::thread reader([&] { got = receive(pair.server, text.size()); });
  off_t offset = 0;
  while (offset < static_cast<off_t>(text.size())) REQUIRE(sendfile(pair.client, file, &offset, text.size()) > 0);
  reader.join();
  CHECK(got == text);
}

TEST_CASE("sendfile: non-blocking, it takes what fits, and says where it ended", "[sendfile]") {
  const auto pair = connected({.nonblocking = true});
  const auto text = pattern(16 << 20);
  const auto file = file_of(text);
  const auto sent = sendfile(pair.client, file, nullptr, text.size());
  REQUIRE(sent > 0);
  CHECK(sent < static_cast<ssize_t>(text.size()));
  CHECK(lseek(file, 0, SEEK_CUR) == sent);
  size_t total = static_cast<size_t>(sent);
  ssize_t more;
  while ((more = sendfile(pair.client, file, nullptr, text.size())) > 0) total += static_cast<size_t>(more);
  CHECK(errno == EAGAIN);
  CHECK(lseek(file, 0, SEEK_CUR) == static_cast<off_t>(total));
  CHECK(receive(pair.server, total) == text.substr(0, total));
}

TEST_CASE("sendfile: its errors", "[sendfile][sendfile64]") {
  const auto pair = connected();
  const auto file = file_of("0123456789");
  Pipe pipe;
  off_t negative = -1;
  CHECK_FAILS(sendfile(pair.client, -1, nullptr, 5), EBADF);
  CHECK_FAILS(sendfile(-1, file, nullptr, 5), EBADF);
  CHECK_FAILS(sendfile(pair.client, file, &negative, 5), EINVAL);
  CHECK_FAILS(sendfile(pair.client, pair.server, nullptr, 5), EINVAL);
  CHECK_FAILS(sendfile(file, pair.server, nullptr, 5), EINVAL);
  CHECK_FAILS(sendfile(pair.client, pipe.out, nullptr, 5), EINVAL);
  off_t offset = 0;
  CHECK_FAILS(sendfile(pair.client, pipe.out, &offset, 5), ESPIPE);
  const Fd written(open("/dev/null", O_WRONLY | O_CLOEXEC));
  CHECK_FAILS(sendfile(pair.client, written, nullptr, 5), EBADF);
  CHECK(polled(pair.server, POLLIN) == 0);
}

TEST_CASE("sendfile: EPIPE and SIGPIPE after shutdown, and the file stays where it was", "[sendfile]") {
  static volatile sig_atomic_t pipes = 0;
  signal(SIGPIPE, [](int) { pipes = pipes + 1; });
  const auto pair = connected();
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  const auto file = file_of("0123456789");
  CHECK_FAILS(sendfile(pair.client, file, nullptr, 5), EPIPE);
  CHECK(pipes == 1);
  CHECK(lseek(file, 0, SEEK_CUR) == 0);
  signal(SIGPIPE, SIG_DFL);
}

TEST_CASE("splice: from a pipe to the socket", "[splice]") {
  const auto pair = connected();
  Pipe pipe;
  REQUIRE(write(pipe.in, "through a pipe", 14) == 14);
  CHECK(splice(pipe.out, nullptr, pair.client, nullptr, 100, 0) == 14);
  CHECK(receive(pair.server, 14) == "through a pipe");
  CHECK_FAILS(splice(pipe.out, nullptr, pair.client, nullptr, 100, SPLICE_F_NONBLOCK), EAGAIN);
}

TEST_CASE("splice: from the socket to a pipe, also what came before", "[splice]") {
  const auto pair = connected();
  Pipe pipe;
  send_all(pair.server, "through a pipe");
  arrived(pair.client, 14);
  CHECK(splice(pair.client, nullptr, pipe.in, nullptr, 100, 0) == 14);
  char buffer[100];
  CHECK(read(pipe.out, buffer, sizeof buffer) == 14);
  CHECK(std::string_view(buffer, 14) == "through a pipe");
  set_nonblocking(pair.client);
  CHECK_FAILS(splice(pair.client, nullptr, pipe.in, nullptr, 100, SPLICE_F_NONBLOCK), EAGAIN);
  set_nonblocking(pair.client, false);
  REQUIRE(shutdown(pair.server, SHUT_WR) == 0);
  CHECK(splice(pair.client, nullptr, pipe.in, nullptr, 100, 0) == 0);
}

TEST_CASE("splice: much of it, both ways, by number too", "[splice][syscall]") {
  const auto pair = connected();
  Pipe pipe;
  const auto text = pattern(1 << 20);
  std::thread writer([&] {
    for (size_t at = 0; at < text.size();)
      at += static_cast<size_t>(std::max<ssize_t>(0, write(pair.client, text.data() + at, text.size() - at)));
    shutdown(pair.client, SHUT_WR);
  });
  std::string got;
  for (;;) {
    const auto moved = syscall(SYS_splice, +pair.server, nullptr, +pipe.in, nullptr, 30'000, 0);
    if (moved <= 0) break;
    std::string part(static_cast<size_t>(moved), '\0');
    if (read(pipe.out, part.data(), part.size()) != moved) break;
    got += part;
  }
  writer.join();
  CHECK(got == text);
}

TEST_CASE("splice: while it waits for room in the pipe, the bytes are anybody's", "[splice]") {
  const auto pair = connected();
  Pipe pipe;
  std::string filling(static_cast<size_t>(fcntl(pipe.in, F_GETPIPE_SZ)), '.');
  REQUIRE(write(pipe.in, filling.data(), filling.size()) == static_cast<ssize_t>(filling.size()));
  send_all(pair.server, "first");
  arrived(pair.client, 5);
  ssize_t moved = 0;
  std::thread waits([&] { moved = splice(pair.client, nullptr, pipe.in, nullptr, 100, 0); });
  std::this_thread::sleep_for(100ms);  // a splice that begins later finds the same
  CHECK(receive(pair.client, 5) == "first");
  send_all(pair.server, "second");
  arrived(pair.client, 6);
  CHECK(read(pipe.out, filling.data(), filling.size()) == static_cast<ssize_t>(filling.size()));
  waits.join();
  CHECK(moved == 6);
  char buffer[100];
  CHECK(read(pipe.out, buffer, sizeof buffer) == 6);
  CHECK(std::string_view(buffer, 6) == "second");
  set_nonblocking(pair.client);
  CHECK_FAILS(recv(pair.client, buffer, sizeof buffer, 0), EAGAIN);
}

TEST_CASE("splice: its errors", "[splice]") {
  const auto pair = connected();
  Pipe pipe;
  off64_t offset = 0;
  CHECK_FAILS(splice(pair.client, nullptr, pair.server, nullptr, 5, 0), EINVAL);
  CHECK_FAILS(splice(pair.client, &offset, pipe.in, nullptr, 5, 0), EINVAL);
  CHECK_FAILS(splice(pipe.out, nullptr, pair.client, &offset, 5, 0), EINVAL);
  CHECK_FAILS(splice(pair.client, nullptr, -1, nullptr, 5, 0), EBADF);
}

TEST_CASE("tee, vmsplice, copy_file_range: not for sockets", "[tee][vmsplice][copy_file_range][syscall]") {
  const auto pair = connected();
  Pipe pipe;
  const auto file = file_of("0123456789");
  REQUIRE(write(pipe.in, "x", 1) == 1);
  iovec part{const_cast<char*>("x"), 1};
  CHECK_FAILS(tee(pipe.out, pair.client, 1, 0), EINVAL);
  CHECK_FAILS(tee(pair.client, pipe.in, 1, 0), EINVAL);
  CHECK_FAILS(vmsplice(pair.client, &part, 1, 0), EBADF);
  CHECK_FAILS(copy_file_range(file, nullptr, pair.client, nullptr, 5, 0), EINVAL);
  CHECK_FAILS(copy_file_range(pair.client, nullptr, file, nullptr, 5, 0), EINVAL);
  CHECK_FAILS(syscall(SYS_tee, +pipe.out, +pair.client, 1, 0), EINVAL);
  CHECK_FAILS(syscall(SYS_vmsplice, +pair.client, &part, 1, 0), EBADF);
  CHECK_FAILS(syscall(SYS_copy_file_range, +file, nullptr, +pair.client, nullptr, 5, 0), EINVAL);
  CHECK_FAILS(syscall(SYS_pread64, +pair.client, nullptr, 1, 0), ESPIPE);
  CHECK(polled(pair.server, POLLIN) == 0);
}

TEST_CASE("dprintf: what is printed comes, after what was sent", "[dprintf][vdprintf][tcp]") {
  const auto pair = connected();
  send_all(pair.client, "first ");
  CHECK(dprintf(pair.client, "%s %d ", "second", 2) == 9);
  CHECK(print(pair.client, "%s", "third") == 5);
  CHECK(__dprintf_chk(pair.client, 1, " %x", 255) == 3);
  CHECK(receive(pair.server, 23) == "first second 2 third ff");
}

TEST_CASE("aio: bytes both ways, in order with the others",
          "[aio_read][aio_write][lio_listio][aio_read64][aio_write64][lio_listio64][tcp]") {
  const auto pair = connected();
  const auto result = [](aiocb& control) {
    const aiocb* list[] = {&control};
    while (aio_error(&control) == EINPROGRESS) aio_suspend(list, 1, nullptr);
    return aio_return(&control);
  };
  const auto result64 = [](aiocb64& control) {
    const aiocb64* list[] = {&control};
    while (aio_error64(&control) == EINPROGRESS) aio_suspend64(list, 1, nullptr);
    return aio_return64(&control);
  };
  const auto request = [](auto control, int fd, void* buffer, size_t size) {
    control.aio_fildes = fd;
    control.aio_buf = buffer;
    control.aio_nbytes = size;
    control.aio_lio_opcode = LIO_WRITE;
    return control;
  };
  char text[] = "aio", buffer[10];
  send_all(pair.client, "before ");
  auto out = request(aiocb{}, pair.client, text, 3);
  REQUIRE(aio_write(&out) == 0);
  CHECK(result(out) == 3);
  auto out64 = request(aiocb64{}, pair.client, text, 3);
  REQUIRE(aio_write64(&out64) == 0);
  CHECK(result64(out64) == 3);
  CHECK(receive(pair.server, 13) == "before aioaio");

  send_all(pair.server, "answer");
  arrived(pair.client, 6);
  auto in = request(aiocb{}, pair.client, buffer, 2);
  REQUIRE(aio_read(&in) == 0);
  CHECK(result(in) == 2);
  auto in64 = request(aiocb64{}, pair.client, buffer + 2, 8);
  REQUIRE(aio_read64(&in64) == 0);
  CHECK(result64(in64) == 4);
  CHECK(std::string_view(buffer, 6) == "answer");

  aiocb* list[] = {&out};
  REQUIRE(lio_listio(LIO_WAIT, list, 1, nullptr) == 0);
  aiocb64* list64[] = {&out64};
  REQUIRE(lio_listio64(LIO_WAIT, list64, 1, nullptr) == 0);
  CHECK(receive(pair.server, 6) == "aioaio");
}
