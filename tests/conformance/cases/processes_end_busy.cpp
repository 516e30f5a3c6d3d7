// A process ends while other threads of it use its connections: they end with it, and see nothing of it.

#include <stdlib.h>
#include <sys/syscall.h>

#include "../child.hpp"

using namespace conformance;

namespace {

// In threads that never sleep for long, both ends being this process's: one writes, one reads, one waits. Each says so
// if a call tells it that the other end has gone.
void use(int one, int other, int witness) {
  const auto unless = [witness](const char* who, auto goes_on) {
    std::thread([=] {
      while (goes_on()) continue;
      (void)!write(witness, who, 1);
      for (;;) pause();
    }).detach();
  };
  for (const auto& [from, to] : {std::pair(one, other), std::pair(other, one)}) {
    unless("w", [=, from = from] { return send(from, "w", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 || errno == EAGAIN; });
    unless("r", [=, to = to] {
      char bytes[100];
      const auto got = recv(to, bytes, sizeof bytes, MSG_DONTWAIT);
      return got > 0 || (got == -1 && errno == EAGAIN);
    });
    unless("p", [=, to = to] {
      pollfd waits{to, POLLRDHUP, 0};
      return poll(&waits, 1, 1) == 0;
    });
  }
}

void nobody_sees(void (*end)(), int status) {
  for (int times = 0; times < 10; ++times) {
    const Signal witness;
    const auto child = child_that([&] {
      const auto pair = connected();
      use(pair.client, pair.server, witness.out);
      std::this_thread::sleep_for(20ms);
      end();
      return 2;
    });
    CHECK(status_of(child) == status);
    pollfd told{witness.in, POLLIN, 0};
    CHECK(poll(&told, 1, 0) == 0);
  }
}

}  // namespace

TEST_CASE("exit: threads that use the connection see nothing of it", "[exit]") {
  nobody_sees([] { exit(7); }, 7);
}
TEST_CASE("_exit: threads that use the connection see nothing of it", "[exit]") {
  nobody_sees([] { _exit(7); }, 7);
}
TEST_CASE("quick_exit: threads that use the connection see nothing of it", "[quick_exit]") {
  nobody_sees([] { quick_exit(7); }, 7);
}
TEST_CASE("exit_group: threads that use the connection see nothing of it", "[exit][syscall]") {
  nobody_sees([] { syscall(SYS_exit_group, 7); }, 7);
}
TEST_CASE("SIGTERM: threads that use the connection see nothing of it", "[signal]") {
  nobody_sees([] { raise(SIGTERM); }, kLost + SIGTERM);
}
