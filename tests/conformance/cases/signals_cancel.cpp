// pthread_cancel ends a call that sleeps, runs the cleanup handlers, and leaves the socket as it was.

#include "../signals.hpp"
#include "../threads.hpp"

using namespace conformance;

namespace {

// A thread that makes one call, and is cancelled.
class Victim {
 public:
  explicit Victim(std::function<void()> call, int type = PTHREAD_CANCEL_DEFERRED, int state = PTHREAD_CANCEL_ENABLE)
      : call_(std::move(call)), type_(type), state_(state) {
    pthread_create(&thread_, nullptr, &Victim::run, this);
  }
  bool asleep() const {
    return eventually([&] { return task_ != 0; }) && sleeps();
  }
  void cancel() { pthread_cancel(thread_); }
  // Whether it was.
  bool join() {
    void* result = nullptr;
    pthread_join(thread_, &result);
    return result == PTHREAD_CANCELED;
  }
  bool cleaned_up = false, came_back = false;

 private:
  static void clean_up(void* self) { static_cast<Victim*>(self)->cleaned_up = true; }
  static void* run(void* pointer) {
    auto* self = static_cast<Victim*>(pointer);
    int before;
    pthread_setcancelstate(self->state_, &before);
    pthread_setcanceltype(self->type_, &before);
    pthread_cleanup_push(clean_up, self);
    self->task_ = gettid();
    self->call_();
    self->came_back = true;
    pthread_cleanup_pop(0);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &before);
    pthread_testcancel();
    return nullptr;
  }
  bool sleeps() const;

  std::function<void()> call_;
  int type_, state_;
  pthread_t thread_{};
  std::atomic<pid_t> task_{0};
};

bool Victim::sleeps() const {
  return falls_asleep(task_, [] { return false; });
}

void check_usable(const Pair& pair) {
  for (const auto& [from, to] : {std::pair(+pair.client, +pair.server), std::pair(+pair.server, +pair.client)}) {
    send_all(from, "still here");
    CHECK(receive(to, 10) == "still here");
  }
}

constexpr int kTypes[] = {PTHREAD_CANCEL_DEFERRED, PTHREAD_CANCEL_ASYNCHRONOUS};
char byte;

}  // namespace

TEST_CASE("pthread_cancel: in recv and its kin, no byte is lost",
          "[pthread_cancel][read][readv][recv][recvfrom][recvmsg][recvmmsg]") {
  const auto pair = connected();
  for (const int type : kTypes)
    for (const auto& reader : readers) {
      INFO(reader.name);
      Victim victim([&] { reader.call(pair.server, &byte, 1); }, type);
      REQUIRE(victim.asleep());
      victim.cancel();
      CHECK(victim.join());
      CHECK(victim.cleaned_up);
      CHECK(!victim.came_back);
      check_usable(pair);
    }
}

TEST_CASE("pthread_cancel: in send and its kin", "[pthread_cancel][write][writev][send][sendto][sendmsg][sendmmsg]") {
  static const std::string much(64 << 20, 'm');
  for (const int type : kTypes)
    for (const auto& writer : writers) {
      INFO(writer.name);
      const auto pair = connected();
      Victim victim([&] { writer.call(pair.client, much.data(), much.size()); }, type);
      REQUIRE(victim.asleep());
      victim.cancel();
      CHECK(victim.join());
      CHECK(victim.cleaned_up);
      // What was taken arrives, and what is sent after it.
      shutdown(pair.client, SHUT_WR);
      size_t bytes = 0;
      static char block[1 << 16];
      for (ssize_t got; (got = recv(pair.server, block, sizeof block, 0)) > 0;) bytes += static_cast<size_t>(got);
      CHECK(bytes > 0);
      CHECK(bytes < much.size());
      send_all(pair.server, "back");
      CHECK(receive(pair.client, 4) == "back");
    }
}

TEST_CASE("pthread_cancel: in poll and its kin",
          "[pthread_cancel][poll][ppoll][select][pselect][epoll_wait][epoll_pwait][epoll_pwait2]") {
  const auto pair = connected();
  for (const int type : kTypes)
    for (const auto& waiter : waiters)
      for (const int ms : {-1, 30'000}) {
        INFO(waiter.name);
        Victim victim([&] { waiter.call(pair.server, POLLIN, ms); }, type);
        REQUIRE(victim.asleep());
        victim.cancel();
        CHECK(victim.join());
        CHECK(victim.cleaned_up);
      }
  check_usable(pair);
}

TEST_CASE("pthread_cancel: one of several that wait for the same; the others go on",
          "[pthread_cancel][recv][epoll_wait]") {
  const auto pair = connected();
  const Fd set(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, pair.server, &event) == 0);
  Victim reads([&] { recv(pair.server, &byte, 1, 0); });
  Victim waits([&] {
    epoll_event got;
    epoll_wait(set, &got, 1, -1);
  });
  REQUIRE(reads.asleep());
  REQUIRE(waits.asleep());
  Caller other_reads([&] { return recv(pair.server, &byte, 1, MSG_PEEK); });
  Caller other_waits([&] {
    epoll_event got;
    return epoll_wait(set, &got, 1, -1);
  });
  REQUIRE(other_reads.asleep());
  REQUIRE(other_waits.asleep());
  reads.cancel();
  waits.cancel();
  CHECK(reads.join());
  CHECK(waits.join());
  send_all(pair.client, "x");
  CHECK(other_reads.join().value == 1);
  CHECK(other_waits.join().value == 1);
  CHECK(receive(pair.server, 1) == "x");
}

TEST_CASE("pthread_cancel: where it is disabled the call goes on", "[pthread_cancel][recv]") {
  const auto pair = connected();
  for (const int type : kTypes) {
    Victim victim([&] { recv(pair.server, &byte, 1, 0); }, type, PTHREAD_CANCEL_DISABLE);
    REQUIRE(victim.asleep());
    victim.cancel();
    REQUIRE(victim.asleep());
    send_all(pair.client, "x");
    CHECK(victim.join());
    CHECK(victim.came_back);
  }
  check_usable(pair);
}

TEST_CASE("pthread_cancel: one that is pending ends a call that would not wait",
          "[pthread_cancel][recv][send][poll][epoll_wait]") {
  const auto pair = connected();
  send_all(pair.client, "there");
  arrived(pair.server, 5);
  const std::vector<std::function<void()>> calls{
      [&] { recv(pair.server, &byte, 1, 0); }, [&] { send(pair.server, "x", 1, 0); },
      [&] { waiters[0].call(pair.server, POLLIN, 0); }, [&] { waiters[4].call(pair.server, POLLIN, 0); }};
  for (const auto& call : calls) {
    Victim victim([&] {
      pthread_cancel(pthread_self());
      call();
    });
    CHECK(victim.join());
    CHECK(!victim.came_back);
  }
  CHECK(receive(pair.server, 5) == "there");
  CHECK(polled(pair.client, POLLIN) == 0);
}

TEST_CASE("pthread_cancel: shutdown, setsockopt and syscall are no cancellation points",
          "[pthread_cancel][shutdown][syscall]") {
  const auto pair = connected();
  Victim victim([&] {
    pthread_cancel(pthread_self());
    shutdown(pair.server, SHUT_WR);
    set_option(pair.server, SOL_SOCKET, SO_KEEPALIVE, 1);
  });
  CHECK(victim.join());
  CHECK(victim.came_back);
  CHECK(receive(pair.client, 1).empty());
}

TEST_CASE("pthread_cancel: in accept and connect", "[pthread_cancel][accept][connect][no-lane]") {
  const auto listener = listening(Family::v4, 0);
  for (const int type : kTypes) {
    Victim accepts([&] { accept(listener.fd, nullptr, nullptr); }, type);
    REQUIRE(accepts.asleep());
    accepts.cancel();
    CHECK(accepts.join());
  }
  const auto first = stream_socket(), second = stream_socket(), third = stream_socket();
  REQUIRE(connect(first, listener.name(), listener.size) == 0);
  set_nonblocking(second);
  connect(second, listener.name(), listener.size);
  Victim connects([&] { connect(third, listener.name(), listener.size); });
  REQUIRE(connects.asleep());
  connects.cancel();
  CHECK(connects.join());
}
