// Options that a lane sets in the kernel for what it does itself, while connections enter their lane and go
// back to TCP: what the program hears is what it made them.

#include <mutex>
#include <thread>

#include "../child.hpp"
#include "../pair.hpp"

using namespace conformance;

namespace {

// Connections that enter with a stream, and that urgent data takes back to TCP, corked. They last for a
// moment only: the link is there before.
void enter_and_go_back(const std::function<void(const Pair&)>& begins, const std::function<void(int fd)>& has_sent,
                       const std::function<void()>& ends) {
  const auto bytes = pattern(200'000);
  const auto in_its_lane = connected();
  exchange(in_its_lane.client, in_its_lane.server);
  for (int round = 0; round < 20; ++round) {
    const auto pair = connected({.enter = false});
    begins(pair);
    std::thread sender([&] {
      for (int i = 0; i < 4; ++i) {
        send_all(pair.server, bytes);
        has_sent(pair.server);
      }
      set_option(pair.server, IPPROTO_TCP, TCP_CORK, 0);
    });
    receive(pair.client, 4 * bytes.size());
    sender.join();
    set_option(pair.server, IPPROTO_TCP, TCP_CORK, 1);
    REQUIRE(send(pair.client, "!", 1, MSG_OOB) == 1);
    ends();
  }
}

// A thread that looks after an option of one descriptor, again and again.
class Asker {
 public:
  // `once` says whether all was well with this descriptor.
  explicit Asker(std::function<bool(int fd)> once) : once_(std::move(once)), thread_([this] { ask(); }) {}

  void ask_of(int fd) {
    const std::lock_guard guard(lock_);
    asked_ = fd;
  }

  bool was_well() {
    {
      const std::lock_guard guard(lock_);
      over_ = true;
    }
    thread_.join();
    return well_;
  }

 private:
  void ask() {
    for (;;) {
      const std::lock_guard guard(lock_);
      if (over_) return;
      if (asked_ >= 0) well_ &= once_(asked_);
    }
  }

  std::function<bool(int)> once_;
  std::mutex lock_;
  int asked_ = -1;
  bool over_ = false, well_ = true;
  std::thread thread_;
};

}  // namespace

TEST_CASE("getsockopt: TCP_NODELAY is what the program made it, while connections enter and go back",
          "[getsockopt][setsockopt][tcp]") {
  for (const int value : {0, 1}) {
    Asker asker([&](int fd) {
      int answer = -1;
      socklen_t size = sizeof answer;
      return getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &answer, &size) == 0 && answer == value;
    });
    int round = 0;
    enter_and_go_back(
        [&](const Pair& pair) {
          for (const int fd : {+pair.client, +pair.server}) {
            set_option(fd, IPPROTO_TCP, TCP_CORK, 1);
            set_option(fd, IPPROTO_TCP, TCP_NODELAY, value);
          }
          asker.ask_of(round++ % 2 ? pair.client : pair.server);
        },
        [&](int fd) { set_option(fd, IPPROTO_TCP, TCP_NODELAY, value); }, [&] { asker.ask_of(-1); });
    CHECK(asker.was_well());
  }
}

TEST_CASE("setsockopt: SO_RCVLOWAT is what the program made it, while connections enter and go back",
          "[getsockopt][setsockopt][tcp]") {
  int value = 1;
  Asker asker([&](int fd) {
    value = value % 50 + 1;
    int answer = -1;
    socklen_t size = sizeof answer;
    return setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &answer, &size) == 0 && answer == value;
  });
  enter_and_go_back([&](const Pair& pair) { asker.ask_of(pair.server); }, [](int) {}, [&] { asker.ask_of(-1); });
  CHECK(asker.was_well());
}
