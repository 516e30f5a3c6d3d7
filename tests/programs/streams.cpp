// Streams of known bytes in both directions over many connections, by the ways in which programs use sockets.
//
//   streams server ADDRESS PORT STYLE CONNECTIONS [FILE]
//   streams client ADDRESS PORT STYLE CONNECTIONS BYTES SEED [FILE]
//
// Each connection: the client sends 24 bytes (its number, how many bytes go each way), then both ends send that many
// bytes of a sequence that only they know, in pieces of random size, while they read the other's; each shuts down its
// sending half at its end, reads to the end of stream, and compares every byte. STYLE says how an end waits: threads
// (blocking, one thread to send and one to receive), epoll, edge, oneshot, poll, select. Until FILE is there, an end
// sends a few bytes now and then. Exit status 0 when every byte was right; bounded by an alarm.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Hello {
  uint64_t number = 0, to_server = 0, to_client = 0;
};

std::atomic<bool> failed{false}, slow{false};

void pause() { ::usleep(4000); }

void complain(uint64_t number, const char* what, int error = 0) {
  failed = true;
  std::fprintf(stderr, "streams: connection %lu: %s%s%s\n", static_cast<unsigned long>(number), what, error ? ": " : "",
               error ? std::strerror(error) : "");
}

// The byte at an offset of a direction of a connection.
uint8_t byte_at(uint64_t number, bool from_client, uint64_t offset) {
  uint64_t x = (offset >> 3) + number * 0x9e3779b97f4a7c15ull + (from_client ? 0x1234567 : 0);
  x ^= x >> 31, x *= 0xbf58476d1ce4e5b9ull, x ^= x >> 29;
  return static_cast<uint8_t>(x >> (8 * (offset & 7)));
}

// One end of one connection: what it still has to send and what it expects. Each half may be driven by a thread of its
// own.
class Stream {
 public:
  Stream(int fd, bool client, Hello hello) : fd_(fd), client_(client), hello_(hello), known_(client) {
    if (client) std::memcpy(head_, &hello_, sizeof hello_), head_left_ = sizeof hello_;
  }

  // False when there is nothing more to do or it would block; `blocked` tells which.
  bool send_some(std::minstd_rand& random, bool& blocked) {
    blocked = false;
    if (!known_ || sent_all_) return false;
    uint8_t piece[32768];
    size_t size = 0;
    if (head_left_ > 0) {
      size = head_left_;
      std::memcpy(piece, head_ + sizeof hello_ - head_left_, size);
    } else {
      const uint64_t most = slow ? 1 + random() % 8 : random() % 8 == 0 ? sizeof piece : 1 + random() % 300;
      size = static_cast<size_t>(std::min<uint64_t>(most, to_send() - sent_));
      for (size_t i = 0; i < size; ++i) piece[i] = byte_at(hello_.number, client_, sent_ + i);
    }
    if (size > 0) {
      const ssize_t done = ::send(fd_, piece, size, MSG_NOSIGNAL);
      if (done < 0 && (errno == EAGAIN || errno == EINTR)) return blocked = errno == EAGAIN, errno == EINTR;
      if (done < 0) return complain(hello_.number, "send", errno), sent_all_ = true, false;
      if (head_left_ > 0)
        head_left_ -= static_cast<size_t>(done);
      else
        sent_ += static_cast<uint64_t>(done);
    }
    if (head_left_ == 0 && sent_ == to_send()) {
      sent_all_ = true;
      if (::shutdown(fd_, SHUT_WR) != 0) complain(hello_.number, "shutdown", errno);
    }
    return !sent_all_;
  }

  bool receive_some(std::minstd_rand& random, bool& blocked) {
    blocked = false;
    if (received_all_) return false;
    uint8_t piece[32768];
    const size_t size = !known_ ? sizeof hello_ - head_in_ : random() % 4 == 0 ? 1 + random() % 64 : sizeof piece;
    const ssize_t got = ::recv(fd_, piece, size, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return blocked = errno == EAGAIN, errno == EINTR;
    if (got < 0) return complain(hello_.number, "recv", errno), received_all_ = true, false;
    if (got == 0) {
      if (!known_ || received_ != to_receive()) complain(hello_.number, "the stream ended early");
      received_all_ = true;
      return false;
    }
    if (!known_) {
      std::memcpy(head_ + head_in_, piece, static_cast<size_t>(got));
      head_in_ += static_cast<size_t>(got);
      if (head_in_ == sizeof hello_) std::memcpy(&hello_, head_, sizeof hello_), known_ = true;
      return true;
    }
    for (ssize_t i = 0; i < got; ++i)
      if (piece[i] != byte_at(hello_.number, !client_, received_ + static_cast<uint64_t>(i))) {
        complain(hello_.number, "a wrong byte");
        received_all_ = true;
        return false;
      }
    received_ += static_cast<uint64_t>(got);
    if (received_ > to_receive()) return complain(hello_.number, "too many bytes"), received_all_ = true, false;
    return true;
  }

  bool wants_in() const { return !received_all_; }
  bool wants_out() const { return known_ && !sent_all_; }
  bool done() const { return received_all_ && (sent_all_ || !known_); }
  int fd() const { return fd_; }
  bool closed() const { return closed_; }
  void close() { closed_ = true, ::close(fd_); }

 private:
  uint64_t to_send() const { return client_ ? hello_.to_server : hello_.to_client; }
  uint64_t to_receive() const { return client_ ? hello_.to_client : hello_.to_server; }

  int fd_;
  bool closed_ = false;
  bool client_;
  Hello hello_;
  std::atomic<bool> known_;
  uint8_t head_[sizeof(Hello)]{};
  size_t head_left_ = 0, head_in_ = 0;
  uint64_t sent_ = 0, received_ = 0;
  std::atomic<bool> sent_all_{false}, received_all_{false};
};

void drive_by_threads(std::vector<Stream*> streams) {
  std::vector<std::thread> threads;
  for (auto* stream : streams)
    threads.emplace_back([stream] {
      std::minstd_rand random(static_cast<unsigned>(stream->fd()));
      bool blocked;
      while (!stream->wants_out() && stream->wants_in()) stream->receive_some(random, blocked);
      std::thread sender([stream] {
        std::minstd_rand other(static_cast<unsigned>(stream->fd() + 1000));
        bool full;
        while (stream->send_some(other, full))
          if (slow) pause();
      });
      while (stream->receive_some(random, blocked)) {
      }
      sender.join();
      stream->close();
    });
  for (auto& thread : threads) thread.join();
}

// A few turns on what is ready; the whole of it in edge-triggered style.
void serve(Stream& stream, bool in, bool out, bool to_the_end, std::minstd_rand& random) {
  bool blocked = false;
  for (int turns = 0; in && (to_the_end || turns < 4) && stream.receive_some(random, blocked); ++turns) {
  }
  for (int turns = 0; out && (to_the_end || turns < 4) && stream.send_some(random, blocked) && !slow; ++turns) {
  }
}

void drive_by_epoll(std::vector<Stream*> streams, const std::string& style) {
  const int set = ::epoll_create1(EPOLL_CLOEXEC);
  std::minstd_rand random(7);
  const uint32_t flags = style == "edge" ? EPOLLET : style == "oneshot" ? EPOLLONESHOT : 0u;
  const auto interest = [&](const Stream& stream) {
    const uint32_t out = flags == EPOLLET || stream.wants_out() ? EPOLLOUT : 0u;
    return flags | (stream.wants_in() ? EPOLLIN | EPOLLRDHUP : 0u) | out;
  };
  for (auto* stream : streams) {
    epoll_event event{};
    event.events = interest(*stream);
    event.data.ptr = stream;
    ::epoll_ctl(set, EPOLL_CTL_ADD, stream->fd(), &event);
  }
  size_t left = streams.size();
  for (bool was_slow = slow; left > 0;) {
    epoll_event events[64];
    const int count = ::epoll_wait(set, events, 64, was_slow ? 1 : 20000);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 || (count == 0 && !was_slow))
      return complain(0, count == 0 ? "nothing for 20 s" : "epoll_wait", count ? errno : 0);
    if (was_slow) {
      pause();
      was_slow = slow;
      // No edge tells of what could be sent all the time.
      for (auto* stream : streams)
        if (flags == EPOLLET && !stream->closed()) {
          serve(*stream, false, true, true, random);
          if (stream->done()) stream->close(), --left;
        }
    }
    for (int i = 0; i < count; ++i) {
      auto& stream = *static_cast<Stream*>(events[i].data.ptr);
      if (stream.closed()) continue;
      // Edge-triggered: what was learnt by reading may be what sending waited for.
      serve(stream, true, flags == EPOLLET || (events[i].events & EPOLLOUT), flags == EPOLLET, random);
      if (stream.done()) {
        stream.close();
        --left;
      } else if (flags != EPOLLET) {
        epoll_event event{};
        event.events = interest(stream);
        event.data.ptr = &stream;
        if (::epoll_ctl(set, EPOLL_CTL_MOD, stream.fd(), &event) != 0) complain(0, "EPOLL_CTL_MOD", errno);
      }
    }
  }
  ::close(set);
}

void drive_by_poll(std::vector<Stream*> streams, bool by_select) {
  std::minstd_rand random(9);
  while (!streams.empty()) {
    std::vector<bool> in(streams.size()), out(streams.size());
    int count = 0;
    if (by_select) {
      fd_set reads, writes;
      FD_ZERO(&reads);
      FD_ZERO(&writes);
      int most = 0;
      for (auto* stream : streams) {
        if (stream->wants_in()) FD_SET(stream->fd(), &reads);
        if (stream->wants_out()) FD_SET(stream->fd(), &writes);
        most = std::max(most, stream->fd());
      }
      timeval limit{20, 0};
      count = ::select(most + 1, &reads, &writes, nullptr, &limit);
      for (size_t i = 0; i < streams.size() && count > 0; ++i)
        in[i] = FD_ISSET(streams[i]->fd(), &reads), out[i] = FD_ISSET(streams[i]->fd(), &writes);
    } else {
      std::vector<pollfd> fds;
      for (auto* stream : streams)
        fds.push_back({stream->fd(),
                       static_cast<short>((stream->wants_in() ? POLLIN : 0) | (stream->wants_out() ? POLLOUT : 0)), 0});
      count = ::poll(fds.data(), fds.size(), 20000);
      for (size_t i = 0; i < streams.size() && count > 0; ++i)
        in[i] = fds[i].revents & (POLLIN | POLLHUP | POLLERR), out[i] = fds[i].revents & (POLLOUT | POLLERR);
    }
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return complain(0, count == 0 ? "nothing for 20 s" : "poll or select", count ? errno : 0);
    if (slow) pause();
    for (size_t i = streams.size(); i-- > 0;) {
      serve(*streams[i], in[i], out[i], false, random);
      if (!streams[i]->done()) continue;
      streams[i]->close();
      streams.erase(streams.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
}

int connection(const char* address, const char* port, bool server, int listener) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(port)));
  inet_pton(AF_INET, address, &name.sin_addr);
  if (server) return ::accept(listener, nullptr, nullptr);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0) return fd;
  ::close(fd);
  return -1;
}

int listen_at(const char* address, const char* port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(port)));
  inet_pton(AF_INET, address, &name.sin_addr);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0 || ::listen(fd, 512) != 0) {
    std::perror("streams: listen");
    std::exit(2);
  }
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  const bool server = mode == "server";
  const int words = server ? 6 : 8;
  if ((!server && mode != "client") || argc < words || argc > words + 1)
    return std::fprintf(stderr,
                        "usage: streams server ADDRESS PORT STYLE CONNECTIONS [FILE]\n"
                        "       streams client ADDRESS PORT STYLE CONNECTIONS BYTES SEED [FILE]\n"),
           2;
  ::alarm(240);
  if (argc > words) {
    slow = true;
    std::thread([file = argv[words]] {
      while (::access(file, F_OK) != 0) ::usleep(20000);
      slow = false;
    }).detach();
  }
  const std::string style = argv[4];
  const auto count = std::strtoul(argv[5], nullptr, 10);
  const int listener = server ? listen_at(argv[2], argv[3]) : -1;
  if (server) std::puts("listening"), std::fflush(stdout);
  std::minstd_rand random(server ? 1u : static_cast<unsigned>(std::strtoul(argv[7], nullptr, 10)));
  std::vector<Stream*> streams;
  for (unsigned long i = 0; i < count; ++i) {
    const int fd = connection(argv[2], argv[3], server, listener);
    if (fd < 0) return std::perror("streams: connection"), 1;
    Hello hello;
    if (!server) {
      const auto bytes = std::strtoull(argv[6], nullptr, 10);
      hello = {i + 1, bytes / (1 + random() % 4), bytes / (1 + random() % 4)};
    }
    if (style != "threads") ::fcntl(fd, F_SETFL, O_NONBLOCK);
    streams.push_back(new Stream(fd, !server, hello));
  }
  if (style == "threads")
    drive_by_threads(streams);
  else if (style == "poll" || style == "select")
    drive_by_poll(streams, style == "select");
  else
    drive_by_epoll(streams, style);
  if (!failed) std::printf("%lu connections, every byte right\n", count);
  return failed ? 1 : 0;
}
