// The plain rules of writing: what is taken, what it says about ends that are gone, and what goes where.

#include <signal.h>
#include <sys/mman.h>

#include "../pair.hpp"
#include "../ways.hpp"

using namespace conformance;

namespace {

volatile sig_atomic_t pipes = 0;

// Counts SIGPIPE while it lives.
struct Counted {
  Counted() {
    pipes = 0;
    signal(SIGPIPE, [](int) { pipes = pipes + 1; });
  }
  ~Counted() { signal(SIGPIPE, SIG_DFL); }
};

}  // namespace

TEST_CASE("every way to write: all is taken, and comes", EVERY_WAY_OUT) {
  const auto pair = connected();
  for (const auto& way : ways_out())
    for (const auto& [from, to] : {std::pair(+pair.client, +pair.server), std::pair(+pair.server, +pair.client)}) {
      INFO(way.name);
      CHECK(way.give(from, "hello", 5) == 5);
      CHECK(receive(to, 5) == "hello");
    }
}

TEST_CASE("every way to write: in the order written, whichever way", EVERY_WAY_OUT) {
  const auto pair = connected();
  std::string text;
  for (int round = 0; round < 20; ++round)
    for (const auto& way : ways_out()) {
      text += static_cast<char>('a' + text.size() % 26);
      REQUIRE(way.give(pair.client, &text.back(), 1) == 1);
    }
  CHECK(receive(pair.server, text.size()) == text);
}

TEST_CASE("every way to write: nothing is written, and nothing comes", EVERY_WAY_OUT) {
  const auto pair = connected();
  for (const auto& way : ways_out()) {
    INFO(way.name);
    CHECK(way.give(pair.client, "x", 0) == 0);
    CHECK(way.give(pair.client, nullptr, 0) == 0);
  }
  CHECK(polled(pair.server, POLLIN) == 0);
}

TEST_CASE("every way to write: the buffer may be used again at once", EVERY_WAY_OUT) {
  const auto pair = connected();
  for (const auto& way : ways_out()) {
    INFO(way.name);
    auto buffer = pattern(3000);
    const auto before = buffer;
    REQUIRE(way.give(pair.client, buffer.data(), buffer.size()) == 3000);
    buffer.assign(3000, '!');
    CHECK(receive(pair.server, 3000) == before);
  }
}

TEST_CASE("every way to write: from memory that can only be read", EVERY_WAY_OUT) {
  const auto pair = connected();
  void* page = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(page != MAP_FAILED);
  for (const auto& way : ways_out()) {
    INFO(way.name);
    CHECK(way.give(pair.client, page, 4096) == 4096);
    CHECK(receive(pair.server, 4096) == std::string(4096, '\0'));
  }
}

TEST_CASE("every way to write: EPIPE and SIGPIPE after shutdown, also of nothing", EVERY_WAY_OUT) {
  const Counted counted;
  const auto pair = connected();
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  int expected = 0;
  for (const auto& way : ways_out())
    for (const size_t size : {1, 0}) {
      INFO(way.name << " of " << size);
      if (size == 0 && !way.like_send) {
        CHECK(way.give(pair.client, "x", size) == 0);
      } else {
        CHECK_FAILS(way.give(pair.client, "x", size), EPIPE);
        ++expected;
      }
      CHECK(pipes == expected);
    }
}

TEST_CASE("send: MSG_NOSIGNAL makes it EPIPE alone", "[send][sendto][sendmsg][sendmmsg]") {
  const Counted counted;
  const auto pair = connected();
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  iovec one{const_cast<char*>("x"), 1};
  mmsghdr message{};
  message.msg_hdr.msg_iov = &one;
  message.msg_hdr.msg_iovlen = 1;
  CHECK_FAILS(send(pair.client, "x", 1, MSG_NOSIGNAL), EPIPE);
  CHECK_FAILS(sendto(pair.client, "x", 1, MSG_NOSIGNAL, nullptr, 0), EPIPE);
  CHECK_FAILS(sendmsg(pair.client, &message.msg_hdr, MSG_NOSIGNAL), EPIPE);
  CHECK_FAILS(sendmmsg(pair.client, &message, 1, MSG_NOSIGNAL), EPIPE);
  CHECK(pipes == 0);
}

TEST_CASE("write: an ignored SIGPIPE leaves EPIPE", EVERY_WAY_OUT) {
  signal(SIGPIPE, SIG_IGN);
  const auto pair = connected();
  REQUIRE(shutdown(pair.server, SHUT_WR) == 0);
  for (const auto& way : ways_out()) {
    INFO(way.name);
    CHECK_FAILS(way.give(pair.server, "x", 1), EPIPE);
  }
  signal(SIGPIPE, SIG_DFL);
}

TEST_CASE("write: SIGPIPE goes to the thread that wrote", "[write]") {
  const Counted counted;
  const auto pair = connected();
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  sigset_t pipe, before;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  REQUIRE(pthread_sigmask(SIG_BLOCK, &pipe, &before) == 0);
  bool pending = false;
  std::thread([&] {
    write(pair.client, "x", 1);
    sigset_t now;
    sigpending(&now);
    pending = sigismember(&now, SIGPIPE);
  }).join();
  sigset_t here;
  sigpending(&here);
  CHECK(pending);
  CHECK_FALSE(sigismember(&here, SIGPIPE));
  REQUIRE(pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
  CHECK(pipes == 0);
}

TEST_CASE("every way to write: EBADF, ENOTSOCK, and EPIPE or ENOTCONN before connect", "[no-lane]" EVERY_WAY_OUT) {
  signal(SIGPIPE, SIG_IGN);
  const auto fd = stream_socket();
  for (const auto& way : ways_out()) {
    INFO(way.name);
    CHECK_FAILS(way.give(-1, "x", 1), EBADF);
    CHECK_FAILS(way.give(1'000'000, "x", 1), EBADF);
    CHECK_FAILS(way.give(fd, "x", 1), EPIPE);
  }
  const Fd memory(memfd_create("no socket", MFD_CLOEXEC));
  CHECK_FAILS(send(memory, "x", 1, 0), ENOTSOCK);
  CHECK_FAILS(sendto(memory, "x", 1, 0, nullptr, 0), ENOTSOCK);
  signal(SIGPIPE, SIG_DFL);
}

TEST_CASE("pwrite and its kin: ESPIPE, and nothing is sent",
          "[pwrite][pwrite64][pwritev][pwritev64][pwritev2][pwritev64v2]") {
  const auto pair = connected();
  const iovec one{const_cast<char*>("x"), 1};
  CHECK_FAILS(pwrite(pair.client, "x", 1, 0), ESPIPE);
  CHECK_FAILS(pwrite64(pair.client, "x", 1, 0), ESPIPE);
  CHECK_FAILS(pwritev(pair.client, &one, 1, 0), ESPIPE);
  CHECK_FAILS(pwritev64(pair.client, &one, 1, 0), ESPIPE);
  CHECK_FAILS(pwritev2(pair.client, &one, 1, 0, 0), ESPIPE);
  CHECK_FAILS(pwritev64v2(pair.client, &one, 1, 7, 0), ESPIPE);
  CHECK_FAILS(pwrite(pair.client, "x", 1, -1), EINVAL);
  CHECK_FAILS(pwritev2(pair.client, &one, 1, -2, 0), EINVAL);
  send_all(pair.client, "end");
  CHECK(receive(pair.server, 3) == "end");
  CHECK(polled(pair.server, POLLIN) == 0);
}

TEST_CASE("sendto: the address of a connected socket is ignored, unless it is bad", "[sendto]") {
  const auto pair = connected();
  sockaddr_in elsewhere{};
  elsewhere.sin_family = AF_INET;
  elsewhere.sin_port = htons(9);
  const auto* name = reinterpret_cast<sockaddr*>(&elsewhere);
  CHECK(sendto(pair.client, "a", 1, 0, name, sizeof elsewhere) == 1);
  CHECK(sendto(pair.client, "b", 1, 0, name, 3) == 1);
  CHECK(sendto(pair.client, "c", 1, 0, name, 0) == 1);
  CHECK_FAILS(sendto(pair.client, "d", 1, 0, name, sizeof(sockaddr_storage) + 1), EINVAL);
  CHECK_FAILS(sendto(pair.client, "d", 1, 0, name, static_cast<socklen_t>(-1)), EINVAL);
  CHECK_FAILS(sendto(pair.client, "d", 1, 0, static_cast<sockaddr*>(bad_pointer()), sizeof elsewhere), EFAULT);
  CHECK(receive(pair.server, 3) == "abc");
}

TEST_CASE("send: flags that mean little for TCP are let pass", "[send]") {
  const auto pair = connected();
  for (const int flag : {MSG_DONTROUTE, MSG_CONFIRM, MSG_EOR, MSG_FIN, MSG_SYN, MSG_RST, MSG_PEEK, MSG_WAITALL,
                         MSG_TRUNC, MSG_ERRQUEUE}) {
    INFO("flag " << flag);
    CHECK(send(pair.client, "x", 1, flag) == 1);
    CHECK(receive(pair.server, 1) == "x");
  }
}

TEST_CASE("send: MSG_MORE holds nothing back for good", "[send][sendmsg]") {
  const auto pair = connected();
  CHECK(send(pair.client, "one ", 4, MSG_MORE) == 4);
  CHECK(send(pair.client, "two ", 4, MSG_MORE) == 4);
  CHECK(send(pair.client, "three", 5, 0) == 5);
  CHECK(receive(pair.server, 13) == "one two three");
  CHECK(send(pair.client, "alone", 5, MSG_MORE) == 5);
  CHECK(receive(pair.server, 5) == "alone");  // after 200 ms at the latest
}

TEST_CASE("send: what MSG_MORE held goes before the end of the stream", "[send]") {
  const auto pair = connected();
  CHECK(send(pair.client, "held", 4, MSG_MORE) == 4);
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  CHECK(receive(pair.server, 100) == "held");
}

TEST_CASE("send: MSG_MORE of more than a ring", "[send]") {
  const auto pair = connected();
  const auto text = pattern(3 << 20);
  std::string got;
  std::thread reader([&] { got = receive(pair.server, text.size()); });
  for (size_t at = 0; at < text.size(); at += 10'000) {
    const auto size = std::min<size_t>(10'000, text.size() - at);
    REQUIRE(send(pair.client, text.data() + at, size, at + size < text.size() ? MSG_MORE : 0) ==
            static_cast<ssize_t>(size));
  }
  reader.join();
  CHECK(got == text);
}

TEST_CASE("send: MSG_DONTWAIT gives EAGAIN when nothing more fits, on a blocking socket", "[send][sendto][sendmsg]") {
  const auto pair = connected();
  fill(pair.client);
  iovec one{const_cast<char*>("x"), 1};
  msghdr message{};
  message.msg_iov = &one;
  message.msg_iovlen = 1;
  CHECK_FAILS(send(pair.client, "x", 1, MSG_DONTWAIT), EAGAIN);
  CHECK_FAILS(sendto(pair.client, "x", 1, MSG_DONTWAIT, nullptr, 0), EAGAIN);
  CHECK_FAILS(sendmsg(pair.client, &message, MSG_DONTWAIT), EAGAIN);
}
