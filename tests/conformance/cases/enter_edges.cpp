// Edges, while a connection enters its lane or comes back to TCP: whatever the program's last call was, what
// the kernel would report is reported. One report more may come, of what is true.

#include "../child.hpp"
#include "../sets.hpp"

using namespace conformance;

namespace {

constexpr size_t kStream = 6 << 20;
constexpr int kRounds = 12;

size_t there(int fd) {
  int count = 0;
  return ioctl(fd, FIONREAD, &count) == 0 ? static_cast<size_t>(count) : 0;
}

size_t taken(int fd, char* to, size_t most) {
  const auto got = recv(fd, to, most, MSG_DONTWAIT);
  return got > 0 ? static_cast<size_t>(got) : 0;
}

// What a program does about a report, with `left` bytes still to come: the bytes that it took. Then it waits
// for the next one.
struct Reader {
  const char* name;
  size_t (*read)(int fd, char* to, size_t left);
};
constexpr Reader kReaders[] = {
    {"until there is no more",
     [](int fd, char* to, size_t left) {
       size_t done = 0;
       while (const auto got = taken(fd, to + done, std::min<size_t>(left - done, 16384))) done += got;
       return done;
     }},
    {"what FIONREAD says",
     [](int fd, char* to, size_t) {
       size_t done = 0;
       for (const auto all = there(fd); done < all;) done += taken(fd, to + done, std::min<size_t>(all - done, 20480));
       return done;
     }},
    {"once, with room for more", [](int fd, char* to, size_t left) { return taken(fd, to, left); }},
};

// What a program does until a write falls short of what it wanted: the bytes that were taken. Then it waits
// for room.
struct Writer {
  const char* name;
  size_t (*write)(int fd, std::string_view bytes);
};
constexpr Writer kWriters[] = {
    {"until EAGAIN",
     [](int fd, std::string_view bytes) {
       size_t done = 0;
       while (done < bytes.size()) {
         const auto sent =
             send(fd, bytes.data() + done, std::min<size_t>(bytes.size() - done, 65536), MSG_DONTWAIT | MSG_NOSIGNAL);
         if (sent < 0) break;
         done += static_cast<size_t>(sent);
       }
       return done;
     }},
    {"all that is left, in part",
     [](int fd, std::string_view bytes) {
       const auto sent = send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
       return sent > 0 ? static_cast<size_t>(sent) : 0;
     }},
    {"in small pieces, while poll says that there is room",
     [](int fd, std::string_view bytes) {
       size_t done = 0;
       while (done < bytes.size() && (polled(fd, POLLOUT) & POLLOUT)) {
         const auto sent =
             send(fd, bytes.data() + done, std::min<size_t>(bytes.size() - done, 4096), MSG_DONTWAIT | MSG_NOSIGNAL);
         if (sent < 0) break;
         done += static_cast<size_t>(sent);
       }
       return done;
     }},
};

const std::string& stream() {
  static const auto bytes = pattern(kStream);
  return bytes;
}

// A process of its own, which connects and answers a byte with the stream, or takes it after a byte.
struct Peer {
  Fd fd;
  pid_t child;
};
enum class Does { sends, takes };
Peer peer(const Listener& listener, Does does) {
  const auto child = child_that([&] {
    const Fd fd = stream_socket();
    char byte = 'x';
    if (connect(fd, listener.name(), listener.size) != 0) return 1;
    if (does == Does::sends) {
      if (recv(fd, &byte, 1, 0) != 1 || !put(fd, stream())) return 2;
      return recv(fd, &byte, 1, 0) == 1 ? 0 : 3;  // all came
    }
    std::string got(kStream, '\0');
    size_t done = 0;
    if (send(fd, &byte, 1, 0) != 1) return 4;
    while (done < kStream) {
      const auto more = recv(fd, got.data() + done, kStream - done, 0);
      if (more <= 0) return 5;
      done += static_cast<size_t>(more);
    }
    return got == stream() && send(fd, &byte, 1, 0) == 1 ? 0 : 6;
  });
  return {Fd(accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)), child};
}

}  // namespace

TEST_CASE("epoll_wait: edge, a reader hears of all that comes while its connection enters", "[epoll_wait][recv]") {
  const auto listener = listening();
  for (const auto& reader : kReaders)
    for (int round = 0; round < kRounds; ++round) {
      INFO(reader.name << ", round " << round);
      const auto sender = peer(listener, Does::sends);
      const EpollSet set;
      set.add(sender.fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
      send_all(sender.fd, "x");
      std::string got(kStream, '\0');
      size_t done = 0;
      while (done < kStream && !set.wait(kPatience).empty())
        done += reader.read(sender.fd, got.data() + done, kStream - done);
      REQUIRE(done == kStream);
      REQUIRE((got == stream()));
      send_all(sender.fd, "x");
      REQUIRE(status_of(sender.child) == 0);
    }
}

TEST_CASE("epoll_wait: edge, a writer hears of room while its connection enters", "[epoll_wait][send]") {
  const auto listener = listening();
  for (const auto& writer : kWriters)
    for (int round = 0; round < kRounds; ++round) {
      INFO(writer.name << ", round " << round);
      const auto taker = peer(listener, Does::takes);
      const EpollSet set;
      set.add(taker.fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
      size_t done = 0;
      for (char byte, asked = 0; done < kStream && !set.wait(kPatience).empty();) {
        asked |= recv(taker.fd, &byte, 1, 0) == 1;
        if (asked) done += writer.write(taker.fd, std::string_view(stream()).substr(done));
      }
      REQUIRE(done == kStream);
      REQUIRE(receive(taker.fd, 1) == "x");
      REQUIRE(status_of(taker.child) == 0);
    }
}

// The socket was full, and is empty again, before the connection enters: nobody has asked for the edge of
// that yet.
TEST_CASE("epoll_wait: edge, room that TCP made is reported after the connection entered", "[epoll_wait][send]") {
  const auto bytes = pattern(64 << 20);  // more than any socket takes
  for (const auto& writer : kWriters)
    for (const bool server : {true, false}) {
      INFO(writer.name << (server ? ", server" : ", client"));
      const auto pair = connected({.enter = false});
      const int from = server ? pair.server : pair.client, to = server ? pair.client : pair.server;
      const EpollSet set, around;
      around.add(set, EPOLLIN | EPOLLET);
      set.add(from, EPOLLOUT | EPOLLET);
      CHECK(set.report() == "OUT");
      CHECK(around.wait().size() <= 1);
      const auto sent = writer.write(from, bytes);
      REQUIRE(sent < bytes.size());
      REQUIRE((receive(to, sent) == std::string_view(bytes).substr(0, sent)));
      enter_lane(from, to);
      CHECK(around.next_report() == "IN");
      CHECK(set.report() == "OUT");
    }
}

TEST_CASE("epoll_wait: edge, one thread sleeps, another comes later: both hear of a connection that enters",
          "[epoll_wait][send]") {
  for (int round = 0; round < 10; ++round) {
    const auto pair = connected({.enter = false});
    const EpollSet slept_in, later;
    for (const auto* set : {&slept_in, &later}) {
      set->add(pair.client, EPOLLOUT | EPOLLET);
      CHECK(set->report() == "OUT");
    }
    const auto sent = fill(pair.client);
    std::string heard;
    std::thread sleeper([&] {
      epoll_event event{};
      if (epoll_wait(slept_in, &event, 1, 10'000) == 1) heard = names(event.events);
    });
    receive(pair.server, sent);
    enter_lane(pair.client, pair.server);
    sleeper.join();
    CHECK(heard == "OUT");
    CHECK(later.report() == "OUT");
  }
}

TEST_CASE("epoll_wait: edge, what is ready when a connection enters is reported once more at most", "[epoll_wait]") {
  const auto pair = connected({.enter = false});
  const EpollSet set, oneshot;
  set.add(pair.client, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
  oneshot.add(pair.client, EPOLLOUT | EPOLLET | EPOLLONESHOT);
  CHECK(set.report() == "OUT");
  CHECK(oneshot.report() == "OUT");
  enter_lane(pair.server, pair.client);
  const auto more = set.report();
  CHECK((more.empty() || more == "OUT"));
  CHECK(set.quiet());
  CHECK(oneshot.quiet());
}

// The cutover waits for the reader, who leaves a byte unread for ever: what comes behind that is heard of all
// the same.
TEST_CASE("epoll_wait: edge, bytes behind an unread one are heard of, wherever they come", "[epoll_wait]") {
  constexpr auto kSoon = 800ms;
  for (const bool server : {true, false}) {
    INFO((server ? "server" : "client"));
    const auto pair = connected({.enter = false});
    const int from = server ? pair.client : pair.server, to = server ? pair.server : pair.client;
    const EpollSet set;
    set.add(to, EPOLLIN | EPOLLET);
    send_all(to, "x");
    CHECK(receive(from, 1) == "x");
    send_all(from, "ab");
    CHECK(set.next_report() == "IN");
    CHECK(receive(to, 1) == "a");
    for (int i = 0; i < 60; ++i) {
      set.wait();
      send_all(from, "c");
      REQUIRE(set.report(kSoon) == "IN");
      std::this_thread::sleep_for(2ms);
    }
    set.wait();
    CHECK(receive(to, 61) == "b" + std::string(60, 'c'));
    enter_lane(from, to);
  }
}

TEST_CASE("epoll_wait: edge, a full connection that goes back to TCP tells of room", "[epoll_wait][send][tcp]") {
  for (const bool server : {true, false}) {
    const auto pair = connected();
    const int from = server ? pair.server : pair.client, to = server ? pair.client : pair.server;
    const EpollSet set, around;
    around.add(set, EPOLLIN | EPOLLET);
    set.add(from, EPOLLOUT | EPOLLET);
    CHECK(set.report() == "OUT");
    const auto sent = fill(from);
    set.wait();
    around.wait();
    REQUIRE(polled(from, POLLOUT) == 0);
    std::thread reader([&] {
      std::string all(sent, '\0');
      for (size_t done = 0; done < sent;)
        if (const auto got = recv(to, all.data() + done, sent - done, 0); got > 0) done += static_cast<size_t>(got);
    });
    REQUIRE(send(to, "!", 1, MSG_OOB) == 1);
    reader.join();
    CHECK(around.next_report() == "IN");
    CHECK(set.report() == "OUT");
  }
}

TEST_CASE("epoll_wait: edge, readers hear of all that comes while the connection goes back to TCP",
          "[epoll_wait][recv][tcp]") {
  for (const auto& reader : kReaders)
    for (int round = 0; round < 4; ++round) {
      INFO(reader.name << ", round " << round);
      const auto pair = connected({.nonblocking = true});
      const EpollSet set;
      set.add(pair.client, EPOLLIN | EPOLLRDHUP | EPOLLET);
      std::thread sender([&] { send_all(pair.server, stream()); });
      std::string got(kStream, '\0');
      size_t done = 0;
      bool gone = false;
      while (done < kStream && !set.wait(kPatience).empty()) {
        done += reader.read(pair.client, got.data() + done, kStream - done);
        if (done > kStream / 4 && !std::exchange(gone, true)) CHECK(send(pair.client, "!", 1, MSG_OOB) == 1);
      }
      sender.join();
      REQUIRE(done == kStream);
      REQUIRE((got == stream()));
    }
}
