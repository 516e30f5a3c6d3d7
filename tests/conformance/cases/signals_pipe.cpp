// SIGPIPE and SIGIO.

#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/wait.h>

#include "../signals.hpp"

using namespace conformance;

namespace {

std::atomic<pid_t> handling_thread{0};
siginfo_t pipe_siginfo;
void note_thread(int, siginfo_t* siginfo, void*) {
  handling_thread = gettid();
  pipe_siginfo = *siginfo;
  ++handled;
}

// One whose own writing end is shut: each write gives EPIPE.
Pair shut() {
  auto pair = connected();
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  return pair;
}

}  // namespace

TEST_CASE("SIGPIPE: EPIPE and the signal, from send and its kin", "[write][writev][send][sendto][sendmsg][sendmmsg]") {
  const Action action(SIGPIPE, count_signal);
  const auto pair = shut();
  for (const auto& writer : writers) {
    INFO(writer.name);
    handled = 0;
    CHECK_FAILS(writer.call(pair.client, "x", 1), EPIPE);
    CHECK(handled == 1);
  }
}

TEST_CASE("SIGPIPE: EPIPE and the signal, from sendfile", "[sendfile]") {
  const Action action(SIGPIPE, count_signal);
  const auto pair = shut();
  const Fd file(memfd_create("bytes", MFD_CLOEXEC));
  REQUIRE(write(file, "bytes", 5) == 5);
  off_t offset = 0;
  handled = 0;
  CHECK_FAILS(sendfile(pair.client, file, &offset, 5), EPIPE);
  CHECK(handled == 1);
  CHECK(offset == 0);
}

TEST_CASE("SIGPIPE: none with MSG_NOSIGNAL", "[send][sendto][sendmsg][sendmmsg]") {
  const Action action(SIGPIPE, count_signal);
  const auto pair = shut();
  handled = 0;
  CHECK_FAILS(send(pair.client, "x", 1, MSG_NOSIGNAL), EPIPE);
  CHECK_FAILS(sendto(pair.client, "x", 1, MSG_NOSIGNAL, nullptr, 0), EPIPE);
  char bytes[] = "x";
  iovec part{bytes, 1};
  mmsghdr message{};
  message.msg_hdr.msg_iov = &part, message.msg_hdr.msg_iovlen = 1;
  CHECK_FAILS(sendmsg(pair.client, &message.msg_hdr, MSG_NOSIGNAL), EPIPE);
  CHECK_FAILS(sendmmsg(pair.client, &message, 1, MSG_NOSIGNAL), EPIPE);
  CHECK(handled == 0);
}

TEST_CASE("SIGPIPE: ignored, only EPIPE is left", "[send]") {
  const Action action(SIGPIPE, SIG_IGN);
  const auto pair = shut();
  CHECK_FAILS(send(pair.client, "x", 1, 0), EPIPE);
  CHECK_FAILS(write(pair.client, "x", 1), EPIPE);
}

TEST_CASE("SIGPIPE: blocked, it is pending for the thread that wrote", "[send]") {
  const Action action(SIGPIPE, count_signal);
  const auto pair = shut();
  handled = 0;
  bool pending_there = false, pending_here = true;
  Caller caller([&] {
    const Blocked blocked(SIGPIPE);
    const auto sent = send(pair.client, "x", 1, 0);
    const int error = errno;
    pending_there = is_pending(SIGPIPE);
    std::thread([&] { pending_here = is_pending(SIGPIPE); }).join();
    errno = error;
    return sent;
  });
  CHECK(caller.join().error == EPIPE);
  CHECK(pending_there);
  CHECK(!pending_here);
  CHECK(handled == 1);
}

TEST_CASE("SIGPIPE: goes to the thread that wrote, before the call returns", "[send]") {
  struct sigaction action {};
  action.sa_sigaction = note_thread;
  action.sa_flags = SA_SIGINFO;
  REQUIRE(sigaction(SIGPIPE, &action, nullptr) == 0);
  const auto pair = shut();
  handled = 0;
  int handled_then = 0;
  pid_t wrote = 0;
  Caller caller([&] {
    wrote = gettid();
    const auto sent = send(pair.client, "x", 1, 0);
    const int error = errno;
    handled_then = handled;
    errno = error;
    return sent;
  });
  CHECK(caller.join().error == EPIPE);
  CHECK(handled_then == 1);
  CHECK(handling_thread == wrote);
  CHECK(pipe_siginfo.si_signo == SIGPIPE);
  CHECK(pipe_siginfo.si_code == SI_USER);
  CHECK(pipe_siginfo.si_pid == getpid());
}

TEST_CASE("SIGPIPE: a write of nothing raises none", "[send][write]") {
  const Action action(SIGPIPE, count_signal);
  const auto pair = connected();
  handled = 0;
  CHECK(send(pair.client, "", 0, 0) == 0);
  CHECK(handled == 0);
}

TEST_CASE("SIGPIPE: ends a process that has no action for it", "[send]") {
  const pid_t child = fork();
  if (child == 0) {
    try {
      const auto pair = shut();
      send(pair.client, "x", 1, 0);
    } catch (...) {
    }
    _exit(99);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGPIPE);
  const auto pair = connected();  // and here a lane was used
}

TEST_CASE("SIGPIPE: after the peer has gone", "[send]") {
  const Action action(SIGPIPE, count_signal);
  auto pair = connected();
  pair.server.close();
  REQUIRE(awaited(pair.client, POLLIN | POLLRDHUP) != 0);
  handled = 0;
  CHECK(eventually([&] { return send(pair.client, "x", 1, 0) == -1 && errno == EPIPE; }));
  CHECK(handled == 1);
}

TEST_CASE("SIGIO: O_ASYNC tells the owner that bytes came", "[fcntl][tcp]") {
  const Action action(SIGIO, count_signal);
  const auto pair = connected();
  REQUIRE(fcntl(pair.server, F_SETOWN, getpid()) == 0);
  CHECK(fcntl(pair.server, F_GETOWN) == getpid());
  REQUIRE(fcntl(pair.server, F_SETFL, fcntl(pair.server, F_GETFL) | O_ASYNC) == 0);
  handled = 0;
  send_all(pair.client, "x");
  CHECK(eventually([] { return handled >= 1; }));
  CHECK(receive(pair.server, 1) == "x");
}

TEST_CASE("SIGIO: a signal of one's own choice, with the descriptor in it", "[fcntl][tcp]") {
  struct sigaction action {};
  action.sa_sigaction = note_thread;
  action.sa_flags = SA_SIGINFO;
  REQUIRE(sigaction(SIGRTMIN + 1, &action, nullptr) == 0);
  const auto pair = connected();
  REQUIRE(fcntl(pair.server, F_SETOWN, getpid()) == 0);
  REQUIRE(fcntl(pair.server, F_SETSIG, SIGRTMIN + 1) == 0);
  REQUIRE(fcntl(pair.server, F_SETFL, fcntl(pair.server, F_GETFL) | O_ASYNC) == 0);
  handled = 0;
  send_all(pair.client, "x");
  CHECK(eventually([] { return handled >= 1; }));
  CHECK(pipe_siginfo.si_fd == pair.server);
}
