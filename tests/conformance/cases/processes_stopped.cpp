// A call that no lane serves, while the peer's process is stopped. In a lane its flow cannot come back to TCP, and is
// reset in the end: what the peer has got by then is right, and in order.

#include <aio.h>
#include <signal.h>

#include "../child.hpp"

using namespace conformance;

namespace {

constexpr size_t kBefore = 1000;

// What comes until the end of the stream, or a reset.
std::string all_of(int fd, bool& reset) {
  std::string got;
  char part[10000];
  ssize_t n;
  while ((n = read(fd, part, sizeof part)) > 0) got.append(part, static_cast<size_t>(n));
  reset = n < 0 && errno == ECONNRESET;
  return got;
}

void nothing_overtakes(void (*call)(int fd)) {
  const auto before = pattern(kBefore);
  auto peer = peer_that([&](int fd) {
    for (char byte; read(fd, &byte, 1) == 1 && byte == '.';)
      if (!put(fd, ".")) return 1;
    raise(SIGSTOP);
    bool reset = false;
    const auto got = all_of(fd, reset);
    const auto all = before + "second, third";
    return (reset ? before.starts_with(got) : got == all) ? 0 : 1;
  });
  REQUIRE(enters_lane(peer.fd));
  send_all(peer.fd, "!");
  int status = 0;
  REQUIRE(waitpid(peer.child, &status, WUNTRACED) == peer.child);
  send_all(peer.fd, before);
  const auto waker = child_that([&] {
    std::this_thread::sleep_for(2500ms);
    return kill(peer.child, SIGCONT);
  });
  signal(SIGPIPE, SIG_IGN);
  call(peer.fd);
  (void)!write(peer.fd, "third", 5);
  peer.fd.close();
  CHECK(status_of(peer.child) == 0);
  CHECK(status_of(waker) == 0);
}

}  // namespace

TEST_CASE("dprintf: to a peer that is stopped", "[dprintf][tcp]") {
  nothing_overtakes([](int fd) { dprintf(fd, "second, "); });
}
TEST_CASE("aio_write: to a peer that is stopped", "[aio_write][tcp]") {
  nothing_overtakes([](int fd) {
    static aiocb control{};
    control.aio_fildes = fd;
    control.aio_buf = const_cast<char*>("second, ");
    control.aio_nbytes = 8;
    if (aio_write(&control) != 0) return;
    eventually([] { return aio_error(&control) != EINPROGRESS; });
    (void)!aio_return(&control);
  });
}
TEST_CASE("system: with a standard output whose peer is stopped", "[system][tcp]") {
  nothing_overtakes([](int fd) {
    const int output = dup(1);
    dup2(fd, 1);
    (void)!system("printf 'second, '");
    dup2(output, 1);
    close(output);
  });
}
