// Amounts: every size, every cut, both directions, and what happens when the peer does not read.

#include <signal.h>
#include <sys/wait.h>

#include <mutex>

#include "../pair.hpp"
#include "../ways.hpp"

using namespace conformance;

namespace {

// Sends and receives at once in one thread, over non-blocking ends; what came.
std::string through(int from, int to, const std::string& text, size_t out, size_t in) {
  std::string got;
  std::string buffer(in, '\0');
  size_t sent = 0;
  while (got.size() < text.size()) {
    if (sent < text.size()) {
      const auto n = write(from, text.data() + sent, std::min(out, text.size() - sent));
      if (n > 0) sent += static_cast<size_t>(n);
      if (n < 0) REQUIRE(errno == EAGAIN);
    }
    const auto n = read(to, buffer.data(), buffer.size());
    if (n > 0) got.append(buffer, 0, static_cast<size_t>(n));
    if (n < 0) REQUIRE(errno == EAGAIN);
  }
  return got;
}

}  // namespace

TEST_CASE("write, read: every size up to 300, and those around powers of two", "[write][read]") {
  const auto pair = connected({.nonblocking = true});
  std::vector<size_t> sizes;
  for (size_t size = 1; size <= 300; ++size) sizes.push_back(size);
  for (size_t power = 512; power <= (2 << 20); power *= 2)
    for (const size_t size : {power - 1, power, power + 1}) sizes.push_back(size);
  for (const size_t size : sizes) {
    const auto text = pattern(size, static_cast<unsigned>(size));
    if (through(pair.client, pair.server, text, size, size) != text) FAIL("of " << size << " bytes");
  }
}

TEST_CASE("write, read: small pieces in, large ones out, and the other way round", "[write][read]") {
  const auto pair = connected({.nonblocking = true});
  for (const auto& [out, in] :
       {std::pair<size_t, size_t>(7, 100'000), {100'000, 7}, {1, 4096}, {4096, 13}, {65'537, 65'535}}) {
    INFO(out << " out, " << in << " in");
    // Some times round the first ring; not so many calls that an emulated processor takes a minute for them.
    const auto text = pattern(std::min(out, in) < 16 ? 60'000 : 300'000);
    CHECK(through(pair.server, pair.client, text, out, in) == text);
  }
}

TEST_CASE("write, read: byte by byte, both", "[write][read]") {
  const auto pair = connected({.nonblocking = true});
  const auto text = pattern(20'000);
  CHECK(through(pair.client, pair.server, text, 1, 1) == text);
}

TEST_CASE("write, read: many megabytes", "[write][read]") {
  const auto pair = connected({.nonblocking = true});
  const auto text = pattern(24 << 20);
  CHECK(through(pair.client, pair.server, text, 1 << 20, 1 << 18) == text);
}

TEST_CASE("write, read: both directions at once, in one thread", "[write][read]") {
  const auto pair = connected({.nonblocking = true});
  const std::string texts[] = {pattern(3 << 20, 1), pattern(3 << 20, 2)};
  const int ends[] = {pair.client, pair.server};
  size_t sent[2] = {};
  std::string got[2], buffer(50'000, '\0');
  while (got[0].size() < texts[1].size() || got[1].size() < texts[0].size())
    for (const int i : {0, 1}) {
      if (sent[i] < texts[i].size())
        if (const auto n =
                write(ends[i], texts[i].data() + sent[i], std::min<size_t>(70'000, texts[i].size() - sent[i]));
            n > 0)
          sent[i] += static_cast<size_t>(n);
      if (const auto n = read(ends[i], buffer.data(), buffer.size()); n > 0)
        got[i].append(buffer, 0, static_cast<size_t>(n));
    }
  CHECK(got[0] == texts[1]);
  CHECK(got[1] == texts[0]);
}

TEST_CASE("send: a large blocking one returns when all of it is taken", EVERY_WAY_OUT) {
  const auto pair = connected();
  const auto text = pattern(3 << 20);
  for (const auto& way : ways_out()) {
    INFO(way.name);
    ssize_t sent = 0;
    std::thread writer([&] { sent = way.give(pair.client, text.data(), text.size()); });
    const auto got = receive(pair.server, text.size());
    writer.join();
    CHECK(sent == static_cast<ssize_t>(text.size()));
    CHECK(got == text);
  }
}

TEST_CASE("send: blocking, over IPv6 and IPv4-mapped addresses", "[send][recv]") {
  for (const auto family : {Family::v4, Family::v6, Family::mapped}) {
    const auto pair = connected({.family = family});
    const auto text = pattern(1 << 20);
    std::thread writer([&] { send(pair.server, text.data(), text.size(), 0); });
    const auto got = receive(pair.client, text.size());
    writer.join();
    CHECK(got == text);
  }
}

TEST_CASE("send: SO_SNDTIMEO ends it with what was taken, then with EAGAIN", "[send]") {
  const auto pair = connected();
  const timeval limit{0, 20'000};
  REQUIRE(setsockopt(pair.client, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
  const auto text = pattern(32 << 20);
  const auto sent = send(pair.client, text.data(), text.size(), 0);
  REQUIRE(sent > 0);
  CHECK(sent < static_cast<ssize_t>(text.size()));
  // What the peer has taken in meanwhile may have made room.
  size_t total = static_cast<size_t>(sent);
  for (ssize_t more; (more = send(pair.client, text.data() + total, text.size() - total, 0)) > 0;)
    total += static_cast<size_t>(more);
  CHECK(errno == EAGAIN);
  CHECK(receive(pair.server, total) == text.substr(0, total));
}

TEST_CASE("write: non-blocking, it takes what fits, then EAGAIN, then goes on once the peer has read", EVERY_WAY_OUT) {
  for (const auto& way : ways_out()) {
    INFO(way.name);
    const auto pair = connected({.nonblocking = true});
    const auto text = pattern(32 << 20);
    size_t total = 0;
    // A ring may have to grow first.
    pollfd room{pair.client, POLLOUT, 0};
    const auto patience = [&] { return total < 64 << 10 ? 10'000 : 50; };
    for (ssize_t n;
         (n = way.give(pair.client, text.data() + total, text.size() - total)) > 0 || poll(&room, 1, patience()) == 1;)
      if (n > 0) total += static_cast<size_t>(n);
    CHECK(errno == EAGAIN);
    CHECK(total >= 64 << 10);
    CHECK(receive(pair.server, total) == text.substr(0, total));
    CHECK(awaited(pair.client, POLLOUT) == POLLOUT);
    CHECK(way.give(pair.client, text.data() + total, 10'000) == 10'000);
    CHECK(receive(pair.server, 10'000) == text.substr(total, 10'000));
  }
}

TEST_CASE("write: blocking, 900 KiB are taken although nobody reads yet", "[write][send]") {
  const auto pair = connected();
  const auto text = pattern(900 << 10);
  CHECK(write(pair.client, text.data(), text.size()) == 900 << 10);
  CHECK(write(pair.server, text.data(), text.size()) == 900 << 10);
  CHECK(receive(pair.server, text.size()) == text);
  CHECK(receive(pair.client, text.size()) == text);
}

TEST_CASE("read: many readers and writers of one socket lose no byte", "[read][write]") {
  const auto pair = connected();
  constexpr size_t kThreads = 4, kEach = 100'000;
  std::vector<std::thread> threads;
  for (size_t i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] {
      const std::string mine(kEach, static_cast<char>('a' + i));
      for (size_t at = 0; at < kEach; at += 1000) (void)!write(pair.client, mine.data() + at, 1000);
    });
  size_t counts[256] = {};
  std::mutex lock;
  for (size_t i = 0; i < kThreads; ++i)
    threads.emplace_back([&] {
      char buffer[700];
      for (ssize_t n; (n = read(pair.server, buffer, sizeof buffer)) > 0;) {
        const std::lock_guard held(lock);
        for (ssize_t at = 0; at < n; ++at) ++counts[static_cast<unsigned char>(buffer[at])];
      }
    });
  for (size_t i = 0; i < kThreads; ++i) threads[i].join();
  shutdown(pair.client, SHUT_WR);
  for (size_t i = kThreads; i < threads.size(); ++i) threads[i].join();
  for (size_t i = 0; i < kThreads; ++i) CHECK(counts['a' + i] == kEach);
}

TEST_CASE("__read_chk and kin: more than the object holds ends the program",
          "[no-statistics][tcp][read][recv][recvfrom]") {
  const auto pair = connected();
  for (int way = 0; way < 3; ++way) {
    const pid_t child = fork();
    if (child == 0) {
      (void)freopen("/dev/null", "w", stderr);
      char buffer[4];
      if (way == 0) (void)!__read_chk(pair.server, buffer, 5, 4);
      if (way == 1) (void)!__recv_chk(pair.server, buffer, 5, 4, 0);
      if (way == 2) (void)!__recvfrom_chk(pair.server, buffer, 5, 4, 0, nullptr, nullptr);
      _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGABRT);
  }
}
