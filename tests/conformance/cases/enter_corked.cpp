// Connections that enter their lane, or go back to TCP, while the program holds small packets back: by
// TCP_CORK, by MSG_MORE, or because it leaves TCP_NODELAY off. A stream does not stop for that.

#include <algorithm>
#include <vector>

#include "../pair.hpp"

using namespace conformance;

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRounds = 9;
// Less than the 200 ms for which the kernel holds back what is corked, and more than a busy machine takes in
// most of the rounds.
constexpr auto kNoTime = 120ms;

// Of most of them.
bool short_ones(std::vector<Clock::duration> times) {
  std::nth_element(times.begin(), times.begin() + kRounds / 2, times.end());
  UNSCOPED_INFO("most take up to " << std::chrono::duration_cast<std::chrono::milliseconds>(times[kRounds / 2]).count()
                                   << " ms");
  return times[kRounds / 2] < kNoTime;
}

// The longest time in which nothing comes of so many bytes.
Clock::duration longest_pause(int fd, size_t bytes) {
  std::string room(65536, '\0');
  Clock::duration longest{};
  auto last = Clock::now();
  for (size_t done = 0; done < bytes;) {
    const auto got = recv(fd, room.data(), room.size(), 0);
    REQUIRE(got > 0);
    done += static_cast<size_t>(got);
    longest = std::max(longest, Clock::now() - last);
    last = Clock::now();
  }
  return longest;
}

}  // namespace

TEST_CASE("send: a stream goes on while its connection enters, however it is held back", "[send][setsockopt]") {
  constexpr size_t kStream = 4 << 20, kAtATime = 50'000;
  const auto bytes = pattern(kStream);
  for (const bool server : {true, false})
    for (const bool corks : {true, false}) {
      INFO((server ? "server" : "client") << (corks ? ", TCP_CORK" : ", MSG_MORE"));
      std::vector<Clock::duration> pauses;
      for (int round = 0; round < kRounds; ++round) {
        const auto pair = connected({.enter = false});
        const int from = server ? pair.server : pair.client, to = server ? pair.client : pair.server;
        if (corks) set_option(from, IPPROTO_TCP, TCP_CORK, 1);
        send_all(to, "x");
        CHECK(receive(from, 1) == "x");
        std::thread sender([&] {
          for (size_t done = 0; done < kStream;) {
            const auto size = std::min(kStream - done, kAtATime);
            const auto sent =
                send(from, bytes.data() + done, size, MSG_NOSIGNAL | (corks || done + size == kStream ? 0 : MSG_MORE));
            if (sent <= 0) break;
            done += static_cast<size_t>(sent);
          }
          if (corks) set_option(from, IPPROTO_TCP, TCP_CORK, 0);
        });
        pauses.push_back(longest_pause(to, kStream));
        sender.join();
        CHECK(option(from, IPPROTO_TCP, TCP_NODELAY) == 0);
        CHECK(option(from, IPPROTO_TCP, TCP_CORK) == 0);
      }
      CHECK(short_ones(pauses));
    }
}

TEST_CASE("send: a corked connection goes back to TCP at once", "[send][setsockopt][tcp]") {
  for (const bool server : {true, false}) {
    INFO((server ? "server" : "client"));
    std::vector<Clock::duration> times;
    for (int round = 0; round < kRounds; ++round) {
      const auto pair = connected();
      const int corked = server ? pair.server : pair.client, other = server ? pair.client : pair.server;
      set_option(corked, IPPROTO_TCP, TCP_CORK, 1);
      const auto begun = Clock::now();
      REQUIRE(send(other, "!", 1, MSG_OOB) == 1);
      times.push_back(Clock::now() - begun);
      CHECK(option(corked, IPPROTO_TCP, TCP_NODELAY) == 0);
      CHECK(option(corked, IPPROTO_TCP, TCP_CORK) == 1);
    }
    CHECK(short_ones(times));
  }
}

TEST_CASE("send: a few bytes that MSG_MORE holds when their connection enters come with those that follow", "[send]") {
  std::vector<Clock::duration> times;
  for (int round = 0; round < kRounds; ++round) {
    const auto pair = connected({.enter = false});
    // For a while the peer answers bytes that MSG_MORE sent, each behind some that did not.
    Clock::duration longest{};
    for (int i = 0; i < 40; ++i) {
      const auto begun = Clock::now();
      REQUIRE(send(pair.client, "held", 4, MSG_MORE) == 4);
      std::this_thread::sleep_for(500us);
      REQUIRE(send(pair.client, " back", 5, 0) == 5);
      REQUIRE(receive(pair.server, 9) == "held back");
      REQUIRE(send(pair.server, "x", 1, 0) == 1);
      REQUIRE(receive(pair.client, 1) == "x");
      longest = std::max(longest, Clock::now() - begun);
    }
    times.push_back(longest);
  }
  CHECK(short_ones(times));
}
