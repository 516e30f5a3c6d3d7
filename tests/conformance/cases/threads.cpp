// Several threads on one socket, and many with one each.

#include <limits.h>
#include <sys/resource.h>

#include "../signals.hpp"

using namespace conformance;

namespace {

constexpr int kRecord = 16, kRecords = 2000;
char byte;

}  // namespace

TEST_CASE("threads: two writers, and each small record stays whole", "[send][write]") {
  const auto pair = connected();
  std::vector<std::unique_ptr<Caller>> writing;
  for (const char who : {'a', 'b', 'c'})
    writing.push_back(std::make_unique<Caller>([&, who] {
      const std::string record(kRecord, who);
      for (int i = 0; i < kRecords; ++i)
        if (send(pair.client, record.data(), kRecord, 0) != kRecord) return -1L;
      return 0L;
    }));
  const auto all = receive(pair.server, 3 * kRecord * kRecords);
  for (auto& writer : writing) CHECK(writer->join().value == 0);
  REQUIRE(all.size() == 3 * kRecord * kRecords);
  size_t torn = 0, counts[3] = {};
  for (size_t at = 0; at < all.size(); at += kRecord) {
    torn += all.compare(at, kRecord, std::string(kRecord, all[at])) != 0;
    ++counts[all[at] - 'a'];
  }
  CHECK(torn == 0);
  for (const auto count : counts) CHECK(count == kRecords);
}

TEST_CASE("threads: two readers get every byte once", "[recv][read]") {
  const auto pair = connected();
  std::atomic<long> sum{0}, count{0};
  const auto read_all = [&] {
    unsigned char bytes[100];
    ssize_t got;
    while ((got = recv(pair.server, bytes, sizeof bytes, 0)) > 0) {
      for (ssize_t i = 0; i < got; ++i) sum += bytes[i];
      count += got;
    }
    return static_cast<long>(got);
  };
  Caller one(read_all), other(read_all);
  const auto bytes = pattern(300'000);
  send_all(pair.client, bytes);
  shutdown(pair.client, SHUT_WR);
  CHECK(one.join().value == 0);
  CHECK(other.join().value == 0);
  long expected = 0;
  for (const char each : bytes) expected += static_cast<unsigned char>(each);
  CHECK(count == static_cast<long>(bytes.size()));
  CHECK(sum == expected);
}

TEST_CASE("threads: full duplex, a reader and a writer on each end", "[send][recv]") {
  const auto pair = connected();
  const auto there = pattern(3 << 20, 1), back = pattern(3 << 20, 2);
  const auto pour = [](int fd, const std::string& bytes) {
    for (size_t done = 0; done < bytes.size();) {
      const auto sent = send(fd, bytes.data() + done, bytes.size() - done, 0);
      if (sent <= 0) return -1L;
      done += static_cast<size_t>(sent);
    }
    return 0L;
  };
  const auto drink = [](int fd, const std::string& bytes) {
    std::string got(bytes.size(), '\0');
    return recv(fd, got.data(), got.size(), MSG_WAITALL) == static_cast<ssize_t>(got.size()) && got == bytes ? 0L : -1L;
  };
  Caller a([&] { return pour(pair.client, there); }), b([&] { return drink(pair.server, there); });
  Caller c([&] { return pour(pair.server, back); }), d([&] { return drink(pair.client, back); });
  for (auto* caller : {&a, &b, &c, &d}) CHECK(caller->join().value == 0);
}

TEST_CASE("threads: shutdown by another ends a recv that sleeps", "[recv][shutdown]") {
  for (const int how : {SHUT_RD, SHUT_RDWR}) {
    const auto pair = connected();
    Caller caller([&] { return recv(pair.server, &byte, 1, 0); });
    REQUIRE(caller.asleep());
    REQUIRE(shutdown(pair.server, how) == 0);
    CHECK(caller.join().value == 0);
  }
}

TEST_CASE("threads: shutdown by another ends a send that sleeps, with what it moved", "[send][shutdown]") {
  const Action action(SIGPIPE, SIG_IGN);
  static const std::string much(64 << 20, 'm');
  const auto pair = connected();
  Caller caller([&] { return send(pair.client, much.data(), much.size(), 0); });
  REQUIRE(caller.asleep());
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  const auto outcome = caller.join();
  CHECK(outcome.value > 0);
  CHECK(outcome.value < static_cast<long>(much.size()));
}

TEST_CASE("threads: one byte wakes one reader of many, and the end wakes all", "[recv]") {
  const auto pair = connected();
  std::atomic<int> bytes{0}, ends{0};
  std::vector<std::unique_ptr<Caller>> readers_here;
  for (int i = 0; i < 4; ++i)
    readers_here.push_back(std::make_unique<Caller>([&] {
      char mine;
      for (ssize_t got; (got = recv(pair.server, &mine, 1, 0)) >= 0;)
        if (got == 1)
          ++bytes;
        else
          return static_cast<long>(++ends);
      return -1L;
    }));
  for (const auto& reader : readers_here) REQUIRE(reader->asleep());
  for (int i = 1; i <= 10; ++i) {
    send_all(pair.client, "x");
    REQUIRE(eventually([&] { return bytes == i; }));
  }
  shutdown(pair.client, SHUT_WR);
  for (const auto& reader : readers_here) CHECK(reader->join().value > 0);
  CHECK(bytes == 10);
}

TEST_CASE("threads: many, with a connection each", "[send][recv][connect][accept]") {
  constexpr int kThreads = 24;
  std::vector<Pair> pairs;
  for (int i = 0; i < kThreads; ++i) pairs.push_back(connected());
  std::vector<std::unique_ptr<Caller>> callers;
  for (const auto& pair : pairs)
    callers.push_back(std::make_unique<Caller>([&pair] {
      for (int i = 0; i < 200; ++i) {
        int got = -1;
        if (send(pair.client, &i, sizeof i, 0) != sizeof i ||
            recv(pair.server, &got, sizeof got, MSG_WAITALL) != sizeof got || got != i)
          return -1L;
      }
      return 0L;
    }));
  for (auto& caller : callers) CHECK(caller->join().value == 0);
}

TEST_CASE("threads: a byte wakes whom it is for, and not all who wait", "[recv][poll][epoll_wait]") {
  constexpr int kThreads = 8, kRounds = 300;
  enum class Way { recv, poll, epoll };
  for (const auto way : {Way::recv, Way::poll, Way::epoll}) {
    INFO("way " << static_cast<int>(way));
    std::vector<Pair> pairs;
    for (int i = 0; i < kThreads; ++i) pairs.push_back(connected());
    std::vector<std::unique_ptr<Caller>> waiting;
    for (const auto& pair : pairs)
      waiting.push_back(std::make_unique<Caller>([way, fd = static_cast<int>(pair.server)] {
        const Fd set(epoll_create1(EPOLL_CLOEXEC));
        epoll_event event{EPOLLIN, {}};
        if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0) return -1L;
        const auto sleeps = [] {
          rusage used{};
          getrusage(RUSAGE_THREAD, &used);
          return used.ru_nvcsw;
        };
        const auto before = sleeps();
        for (char each;;) {
          pollfd one{fd, POLLIN, 0};
          if (way == Way::poll) poll(&one, 1, -1);
          if (way == Way::epoll) epoll_wait(set, &event, 1, -1);
          if (recv(fd, &each, 1, 0) != 1 || send(fd, &each, 1, 0) != 1) return sleeps() - before;
        }
      }));
    for (const auto& caller : waiting) REQUIRE(caller->asleep());
    for (int i = 0; i < kRounds; ++i) {
      send_all(pairs[0].client, "x");
      REQUIRE(receive(pairs[0].client, 1) == "x");
    }
    for (const auto& pair : pairs) shutdown(pair.client, SHUT_WR);
    long others = 0;
    for (int i = 0; i < kThreads; ++i) {
      const auto slept = waiting[i]->join().value;
      REQUIRE(slept >= 0);
      if (i > 0) others += slept;
    }
    // One may be woken to wake the one, and another when that one leaves; not the seven.
    CHECK(others < 3 * kRounds);
  }
}

TEST_CASE("threads: a socket is used in the destructor of a thread's own data", "[send][pthread_exit]") {
  const auto pair = connected();
  static int fd;
  fd = pair.client;
  struct Last {
    ~Last() { (void)send(fd, "last", 4, 0); }
    int used = 1;
  };
  std::thread([] {
    static thread_local Last last;
    last.used = 2;
    (void)send(fd, "first", 5, 0);
  }).join();
  pthread_key_t key;
  pthread_key_create(&key, [](void*) { (void)send(fd, "key", 3, 0); });
  pthread_t thread;
  pthread_create(
      &thread, nullptr,
      [](void* k) -> void* {
        pthread_setspecific(*static_cast<pthread_key_t*>(k), k);
        pthread_exit(nullptr);
      },
      &key);
  pthread_join(thread, nullptr);
  CHECK(receive(pair.server, 12) == "firstlastkey");
}

TEST_CASE("threads: with the least of stacks", "[send][recv][poll][epoll_wait][select]") {
  const auto pair = connected();
  static const Pair* both;
  static int failed;
  static std::atomic<bool> waiting;
  both = &pair, failed = 0, waiting = false;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  REQUIRE(pthread_attr_setstacksize(&attributes, static_cast<size_t>(PTHREAD_STACK_MIN)) == 0);
  pthread_t thread;
  REQUIRE(pthread_create(
              &thread, &attributes,
              [](void*) -> void* {
                char got;
                for (const auto& waiter : waiters) {
                  failed += waiter.call(both->server, POLLIN, 1) != 0;
                  failed += send(both->client, "x", 1, 0) != 1;
                  failed += waiter.call(both->server, POLLIN, -1) != 1;
                  failed += recv(both->server, &got, 1, 0) != 1;
                }
                waiting = true;
                failed += recv(both->server, &got, 1, 0) != 1;
                return nullptr;
              },
              nullptr) == 0);
  CHECK(eventually([] { return +waiting; }));
  send_all(pair.client, "x");
  pthread_join(thread, nullptr);
  CHECK(failed == 0);
}

TEST_CASE("errno: stays what it was where a call succeeds",
          "[send][recv][poll][epoll_wait][epoll_ctl][getsockopt][ioctl][shutdown][close]") {
  auto pair = connected();
  const Fd set(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  errno = 4711;
  int wrong = 0;
  const auto keeps = [&](bool succeeded) { wrong += !succeeded || errno != 4711; };
  keeps(send(pair.client, "xy", 2, 0) == 2);
  pollfd one{pair.server, POLLIN, 0};
  keeps(poll(&one, 1, -1) == 1);
  keeps(poll(&one, 1, 0) == 1);
  keeps(recv(pair.server, &byte, 1, 0) == 1);
  keeps(read(pair.server, &byte, 1) == 1);
  one.revents = 0;
  keeps(poll(&one, 1, 2) == 0);
  keeps(epoll_ctl(set, EPOLL_CTL_ADD, pair.server, &event) == 0);
  keeps(epoll_wait(set, &event, 1, 2) == 0);
  keeps(write(pair.client, "x", 1) == 1);
  keeps(epoll_wait(set, &event, 1, -1) == 1);
  int value = 0;
  socklen_t size = sizeof value;
  keeps(getsockopt(pair.server, SOL_SOCKET, SO_ERROR, &value, &size) == 0);
  keeps(ioctl(pair.server, FIONREAD, &value) == 0);
  keeps(shutdown(pair.client, SHUT_WR) == 0);
  keeps(close(pair.client.release()) == 0);
  CHECK(wrong == 0);
}
