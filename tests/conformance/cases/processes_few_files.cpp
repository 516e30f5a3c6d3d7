// A process that may write no files, as OpenSSH's unprivileged child: beyond RLIMIT_FSIZE a write to a file is a
// SIGXFSZ. What it did not write itself is no reason for one.

#include <sys/resource.h>

#include "../child.hpp"

using namespace conformance;

namespace {

void no_files(rlim_t bytes = 0) {
  const rlimit limit{bytes, bytes};
  setrlimit(RLIMIT_FSIZE, &limit);
}

}  // namespace

TEST_CASE("exit: of a process that may write no files", "[exit]") {
  auto peer = peer_that([](int fd) {
    no_files();
    return put(fd, "hello") ? 7 : 1;
  });
  CHECK(receive(peer.fd, 5) == "hello");
  CHECK(receive(peer.fd, 1).empty());
  CHECK(status_of(peer.child) == 7);
}

TEST_CASE("exit: of a process that may write few bytes to a file", "[exit]") {
  for (const rlim_t bytes : {1, 100, 700}) {
    auto peer = peer_that([=](int fd) {
      no_files(bytes);
      return put(fd, "hello") ? 7 : 1;
    });
    CHECK(receive(peer.fd, 5) == "hello");
    CHECK(status_of(peer.child) == 7);
  }
}

TEST_CASE("connections are made, used and ended by a process that may write no files", "[connect][exit][no-lane]") {
  const auto listener = listening();
  const pid_t child = child_that([&] {
    no_files();
    signal(SIGXFSZ, [](int) { _exit(9); });
    const auto fd = stream_socket();
    if (connect(fd, listener.name(), listener.size) != 0) return 1;
    for (int i = 0; i < 20; ++i)
      if (!put(fd, "x") || take(fd, 1) != "x") return 2;
    return 7;
  });
  const Fd fd(accept(listener.fd, nullptr, nullptr));
  for (std::string heard = take(fd, 1); !heard.empty(); heard = take(fd, 1)) put(fd, heard);
  CHECK(status_of(child) == 7);
}
