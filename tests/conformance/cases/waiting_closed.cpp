// A descriptor is closed, or comes to name something else, while a thread waits for it. The call holds what
// it began with: nothing of it ends meanwhile, and its next event, or the time limit, makes the call look at
// the numbers again.

#include <sys/syscall.h>

#include <future>

#include "../sets.hpp"
#include "../threads.hpp"

using namespace conformance;

namespace {

enum class How { poll, ppoll, select, pselect };
constexpr How kAll[] = {How::poll, How::ppoll, How::select, How::pselect};
constexpr bool is_poll(How how) { return how == How::poll || how == How::ppoll; }

// Waits for bytes from any of them: what poll says of each, or select, as poll's IN.
std::vector<std::string> wait_by(How how, std::vector<int> fds, std::chrono::milliseconds limit) {
  std::vector<pollfd> list;
  fd_set set;
  FD_ZERO(&set);
  for (const int fd : fds) list.push_back({fd, POLLIN, 0}), FD_SET(fd, &set);
  const int end = *std::max_element(fds.begin(), fds.end()) + 1;
  const timespec precise{limit.count() / 1000, limit.count() % 1000 * 1'000'000};
  timeval time{precise.tv_sec, precise.tv_nsec / 1000};
  int count = 0;
  switch (how) {
    case How::poll: count = poll(list.data(), list.size(), static_cast<int>(limit.count())); break;
    case How::ppoll: count = ppoll(list.data(), list.size(), &precise, nullptr); break;
    case How::select: count = select(end, &set, nullptr, nullptr, &time); break;
    case How::pselect: count = pselect(end, &set, nullptr, nullptr, &precise, nullptr); break;
  }
  std::vector<std::string> said;
  for (const auto& one : list) {
    if (count < 0)
      said.push_back("error");
    else if (is_poll(how))
      said.push_back(names(static_cast<uint16_t>(one.revents)));
    else
      said.push_back(count > 0 && FD_ISSET(one.fd, &set) ? "IN" : "");
  }
  return said;
}

// A thread that waits, and sleeps by now.
class Waiting {
 public:
  Waiting(How how, std::vector<int> fds, std::chrono::milliseconds limit = kPatience) {
    result_ = std::async(std::launch::async, [=, this] {
      thread_ = static_cast<int>(syscall(SYS_gettid));
      return wait_by(how, fds, limit);
    });
    REQUIRE(falls_asleep(thread_, [] { return false; }));
  }
  bool goes_on() const { return result_.wait_for(20ms) == std::future_status::timeout; }
  std::vector<std::string> result() { return result_.get(); }

 private:
  std::atomic<int> thread_{0};
  std::future<std::vector<std::string>> result_;
};

std::string closed(How how) { return is_poll(how) ? "NVAL" : "IN"; }

}  // namespace

TEST_CASE("poll, select: closed meanwhile, and then bytes come", "[poll][ppoll][select][pselect][close]") {
  for (const auto how : kAll) {
    auto pair = connected();
    Waiting waiting(how, {pair.client});
    pair.client.close();
    CHECK(waiting.goes_on());
    char byte;
    CHECK_FAILS(recv(pair.server, &byte, 1, MSG_DONTWAIT), EAGAIN);  // nothing has ended yet
    send_all(pair.server, "x");
    CHECK(waiting.result() == std::vector{closed(how)});
    CHECK(eventually([&] { return recv(pair.server, &byte, 1, MSG_DONTWAIT) != -1 || errno != EAGAIN; }));
  }
}

TEST_CASE("poll, select: closed meanwhile, and then the other end closes", "[poll][ppoll][select][pselect][close]") {
  for (const auto how : kAll) {
    auto pair = connected();
    Waiting waiting(how, {pair.client});
    pair.client.close();
    CHECK(waiting.goes_on());
    pair.server.close();
    CHECK(waiting.result() == std::vector{closed(how)});
  }
}

TEST_CASE("poll, select: closed meanwhile, and nothing happens: told when the time is up",
          "[poll][ppoll][select][pselect][close]") {
  for (const auto how : kAll) {
    auto pair = connected();
    Waiting waiting(how, {pair.client}, 300ms);
    pair.client.close();
    CHECK(waiting.result() == std::vector{closed(how)});
    char byte;
    CHECK(recv(pair.server, &byte, 1, 0) == 0);
  }
}

TEST_CASE("poll, select: another flow comes to the number", "[poll][ppoll][select][pselect][dup2]") {
  for (const auto how : kAll)
    for (const bool bytes : {false, true}) {
      const auto pair = connected(), next = connected();
      Waiting waiting(how, {pair.client});
      REQUIRE(dup2(next.client, pair.client) == pair.client);
      if (bytes) arrive(next, "new");
      CHECK(waiting.goes_on());
      send_all(pair.server, "old");  // of what is no longer there
      if (bytes) {
        const auto said = waiting.result();
        CHECK(said == std::vector{"IN"s});
      } else {
        CHECK(waiting.goes_on());
        send_all(next.server, "new");
        // The kernel does not listen to what came later; the old one ends it, once more.
        std::this_thread::sleep_for(10ms);
        send(pair.server, "old", 3, MSG_NOSIGNAL);
        CHECK(waiting.result() == std::vector{"IN"s});
      }
    }
}

TEST_CASE("poll, select: a pipe beside a flow is closed meanwhile", "[poll][ppoll][select][pselect][close]") {
  for (const auto how : kAll) {
    const auto pair = connected();
    auto pipe = a_pipe();
    Waiting waiting(how, {pair.client, pipe.out});
    pipe.out.close();
    send_all(pair.server, "x");
    CHECK(waiting.result() == std::vector{"IN"s, closed(how)});
  }
}

TEST_CASE("select: closed before: EBADF", "[select][pselect][close]") {
  auto pair = connected();
  const int was = pair.client;
  pair.client.close();
  fd_set set;
  FD_ZERO(&set);
  FD_SET(was, &set);
  FD_SET(pair.server, &set);
  timeval time{1, 0};
  CHECK_FAILS(select(std::max<int>(was, pair.server) + 1, &set, nullptr, nullptr, &time), EBADF);
}

// To the kernel's select an end is readable and writable, and nothing exceptional.
TEST_CASE("select, pselect: who asks for exceptions alone hears of no end", "[select][pselect]") {
  for (const bool by_peer : {false, true}) {
    const auto pair = connected();
    const Pipe pipe = a_pipe();  // beside it, one of the kernel's
    shutdown(pair.client, by_peer ? SHUT_WR : SHUT_RDWR);
    if (by_peer) shutdown(pair.server, SHUT_RDWR);
    for (const bool timed_by_pselect : {false, true}) {
      fd_set reads, excepts;
      FD_ZERO(&reads);
      FD_ZERO(&excepts);
      FD_SET(pipe.out, &reads);
      FD_SET(pair.client, &excepts);
      const int count = std::max<int>(pipe.out, pair.client) + 1;
      const auto begun = std::chrono::steady_clock::now();
      timeval time{0, 120'000};
      const timespec same{0, 120'000'000};
      CHECK((timed_by_pselect ? pselect(count, &reads, nullptr, &excepts, &same, nullptr)
                              : select(count, &reads, nullptr, &excepts, &time)) == 0);
      CHECK(std::chrono::steady_clock::now() - begun >= 110ms);
      CHECK(!FD_ISSET(pair.client, &excepts));
    }
  }
}
