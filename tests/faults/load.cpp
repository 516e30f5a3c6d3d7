// Streams of known bytes over many connections that go on until they are told to end, whatever happens below them.
//
//   load server ADDRESS PORT REPORT TICK
//   load client ADDRESS PORT REPORT TICK FLOWS SEED
//
// TICK, in ms, is how often a stream gets as much again of what time bounds: an emulated processor has hundreds of
// streams to serve. Each prints its process identifier when it begins. The client keeps FLOWS connections open, as many
// of each of four kinds, and makes a new one for each that has ended:
//
//   asking   a request of some bytes, and as many for an answer, again and again
//   bulk     both ends send what they can, up to a rate
//   halved   the client sends some and shuts its half down; the server, at the end of the stream, sends as many and
//   closes slow     the server sends what it can, and is stopped by small buffers: the client reads a little now and
//   then
//
// A connection begins with 24 bytes: its number, its kind, how many bytes it asks for. Every byte of either direction
// follows from number, direction and offset, and is compared; what is amiss is said on stderr at once. At SIGUSR1 the
// other process is about to be killed: connections that exist from then on, until SIGUSR2, may be reset or end early.
// At SIGTERM the client ends every stream in order and waits for the server's end of it; the server ends when the last
// connection has, or with status 1 when one stands still. Then each writes its report, JSON: bytes in and out;
// connections that ended in order, that ended with the other process, that were reset, and that ended early (a clean
// end where bytes were due); bytes that were lost, came again, or were wrong; the longest time, in ms, for which an
// asking connection waited for its answer; and "ended", the bytes in and out of each connection that ended in order, by
// which the runner sees that what one end sent is what the other received.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

enum class Kind : uint64_t { asking, bulk, halved, slow };
constexpr uint64_t kKinds = 4;

struct Hello {
  uint64_t number, kind, size;
};

constexpr size_t kPiece = 16 << 10;  // of a call, at most
// Of all but questions and answers; a stream that ends otherwise than in a multiple of it was cut off. No buffer has
// such a size.
constexpr uint64_t kPerTick = 4093;
constexpr size_t kSlowRead = 8 << 10;  // of a slow reader
constexpr int kSlowBuffer =
    16 << 10;  // of the kernel, at each end of a slow one: what is in it on the way back keeps the flow from its lane
constexpr int kSlowTicks = 3;                              // between two of its reads
constexpr int kAskingTicks = 1;                            // between two questions
constexpr int64_t kShortestLife = 10, kLongestLife = 120;  // in ticks
constexpr uint64_t kMostAsked = 2000, kMostHalved = 60000;
constexpr size_t kWindow = 64;        // bytes by which a place in the stream is known again
constexpr int64_t kSearch = 4 << 20;  // how far lost or repeated bytes are looked for

constexpr auto kPatience = 120000ms;        // after which a stream that was told to end stands still
constexpr auto kServersPatience = 60000ms;  // after which a server's streams stand still whose client has ended

std::chrono::milliseconds tick_time{};
int64_t ticks(std::chrono::milliseconds time) { return time / tick_time; }

volatile sig_atomic_t told_to_end = 0;
// Whether the other process may be gone: told to be awaited, and told that its successor is there.
enum { peer_lives, peer_dies, peer_is_new };
volatile sig_atomic_t peer = peer_lives;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "load: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

// The bytes of one direction of one connection from `offset` on: eight at a time, since an emulated processor has
// millions to make.
void bytes_at(uint64_t number, bool from_client, uint64_t offset, std::span<uint8_t> to) {
  for (size_t done = 0; done < to.size();) {
    uint64_t x = (offset >> 3) + number * 0x9e3779b97f4a7c15ull + (from_client ? 0x1234567 : 0);
    x ^= x >> 31, x *= 0xbf58476d1ce4e5b9ull, x ^= x >> 29;
    const auto at = offset & 7, size = std::min<uint64_t>(8 - at, to.size() - done);
    std::memcpy(to.data() + done, reinterpret_cast<const uint8_t*>(&x) + at, size);
    done += size, offset += size;
  }
}

void set_buffer(int fd, int which) {
  if (::setsockopt(fd, SOL_SOCKET, which, &kSlowBuffer, sizeof kSlowBuffer) != 0) die("a buffer's size");
}

struct Report {
  uint64_t bytes_in = 0, bytes_out = 0, in_order = 0, excused = 0, resets = 0, early = 0, lost = 0, repeated = 0,
           wrong = 0;
  int64_t longest_wait_ms = 0;
  std::string ended;

  void write(const char* path) const {
    auto* file = std::fopen(path, "w");
    if (!file) die(path);
    std::fprintf(file,
                 "{\"bytes_in\":%lu,\"bytes_out\":%lu,\"in_order\":%lu,\"excused\":%lu,\"resets\":%lu,\"early\":%lu,"
                 "\"lost\":%lu,"
                 "\"repeated\":%lu,\"wrong\":%lu,\"longest_wait_ms\":%ld,\"ended\":{%s}}\n",
                 bytes_in, bytes_out, in_order, excused, resets, early, lost, repeated, wrong, longest_wait_ms,
                 ended.c_str());
    std::fclose(file);
  }
};
Report report;

// One end of one connection.
class Stream {
 public:
  // `life`, in ticks: then the client ends it. A server never does.
  Stream(int fd, bool client, Hello hello, int64_t life)
      : fd_(fd), client_(client), life_(life), hello_(hello), known_(client) {}
  ~Stream() { ::close(fd_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  bool over() const { return over_; }
  Kind kind() const { return static_cast<Kind>(hello_.kind % kKinds); }
  int fd() const { return fd_; }
  void say_that_it_stands() const { say("stands still"); }
  // The process at its other end is killed: it may end as it will.
  void excuse() { excused_ = true; }

  // All that can be done now; `tick`: as much again of what is bounded by time.
  void advance(bool tick) {
    if (over_) return;
    if (tick) allowance_ = kPerTick, ++ticks_;
    if (tick && client_ && ticks_ == life_ + ticks(kPatience)) say("stands still");
    if (client_ && (told_to_end || ticks_ >= life_)) stopping_ = true;
    while (!over_ && (receive() || transmit())) {
    }
  }

 private:
  bool ending() const { return client_ ? stopping_ : end_in_; }
  uint64_t rest_of_piece() const { return (kPerTick - out_ % kPerTick) % kPerTick; }
  // Bytes of this end that may be sent now, behind what was.
  uint64_t may_send() const {
    switch (kind()) {
      case Kind::asking:
        if (!client_) return in_ - out_;
        if (out_ % hello_.size != 0) return hello_.size - out_ % hello_.size;
        return in_ == out_ && !stopping_ && ticks_ >= next_question_ ? hello_.size : 0;
      case Kind::bulk: return ending() ? rest_of_piece() : allowance_;
      case Kind::halved: return client_ || end_in_ ? std::min(hello_.size - out_, allowance_) : 0;
      case Kind::slow: return client_ ? 0 : ending() ? rest_of_piece() : allowance_;
    }
    return 0;
  }
  // Whether this end has said all that it ever will.
  bool said_all() const {
    if (hello_left_ > 0) return false;
    switch (kind()) {
      case Kind::asking: return client_ ? stopping_ && in_ == out_ : end_in_ && in_ == out_;
      case Kind::halved: return (client_ || end_in_) && out_ == hello_.size;
      case Kind::bulk:
      case Kind::slow: return ending() && rest_of_piece() == 0;
    }
    return true;
  }

  bool transmit() {
    if (!known_ || shut_) return false;
    uint8_t piece[kPiece];
    size_t size = 0;
    if (hello_left_ > 0 && client_) {
      std::memcpy(piece, reinterpret_cast<const uint8_t*>(&hello_) + sizeof hello_ - hello_left_, size = hello_left_);
    } else {
      hello_left_ = 0;
      size = static_cast<size_t>(std::min<uint64_t>(may_send(), sizeof piece));
      bytes_at(hello_.number, client_, out_, {piece, size});
    }
    if (size == 0) {
      if (!said_all()) return false;
      shut_ = true;
      if (::shutdown(fd_, SHUT_WR) != 0) return failed(errno);
      return finish_if_done();
    }
    const auto sent = ::send(fd_, piece, size, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR ? false : failed(errno);
    if (hello_left_ > 0) return hello_left_ -= static_cast<size_t>(sent), true;
    if (client_ && kind() == Kind::asking && out_ == in_) asked_ = Clock::now(), next_question_ = ticks_ + kAskingTicks;
    out_ += static_cast<uint64_t>(sent);
    allowance_ -= std::min(allowance_, static_cast<uint64_t>(sent));
    report.bytes_out += static_cast<uint64_t>(sent);
    return true;
  }

  bool receive() {
    if (end_in_) return false;
    uint8_t piece[kPiece];
    auto most = sizeof piece;
    if (client_ && kind() == Kind::slow && !stopping_) {
      if (ticks_ < next_read_) return false;
      most = kSlowRead;
      next_read_ = ticks_ + kSlowTicks;
    }
    if (!known_) most = sizeof hello_ - head_;
    const auto got = ::recv(fd_, piece, most, 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR ? false : failed(errno);
    if (got == 0) return end_in_ = true, ended();
    if (!known_) {
      std::memcpy(reinterpret_cast<uint8_t*>(&hello_) + head_, piece, static_cast<size_t>(got));
      head_ += static_cast<size_t>(got);
      known_ = head_ == sizeof hello_;
      if (known_ && kind() == Kind::slow) set_buffer(fd_, SO_SNDBUF);
      return true;
    }
    return compare({piece, static_cast<size_t>(got)});
  }

  bool compare(std::span<const uint8_t> bytes) {
    uint8_t due[kPiece];
    bytes_at(hello_.number, !client_, in_, {due, bytes.size()});
    const auto differs = static_cast<size_t>(std::mismatch(bytes.begin(), bytes.end(), due).first - bytes.begin());
    if (differs < bytes.size()) return astray(bytes.subspan(differs), in_ + differs);
    in_ += bytes.size();
    report.bytes_in += bytes.size();
    if (client_ && kind() == Kind::asking && in_ == out_)
      report.longest_wait_ms = std::max<int64_t>(report.longest_wait_ms, (Clock::now() - asked_) / 1ms);
    return true;
  }

  // The stream goes on at another place than it should: whether bytes were lost or came again shows where.
  bool astray(std::span<const uint8_t> bytes, uint64_t at) {
    const auto known = std::min(bytes.size(), kWindow);
    const auto fits = [&](uint64_t place) {
      uint8_t due[kWindow];
      bytes_at(hello_.number, !client_, place, {due, known});
      return std::memcmp(bytes.data(), due, known) == 0;
    };
    int64_t off = 0;
    for (int64_t distance = 1; off == 0 && known >= 8 && distance <= kSearch; ++distance) {
      if (fits(at + static_cast<uint64_t>(distance))) off = distance;
      if (static_cast<uint64_t>(distance) <= at && fits(at - static_cast<uint64_t>(distance))) off = -distance;
    }
    std::fprintf(stderr, "load: connection %lu, %s: at %lu comes what belongs at %ld\n", hello_.number,
                 client_ ? "from the server" : "from the client", at, off ? static_cast<int64_t>(at) + off : -1);
    (off > 0   ? report.lost
     : off < 0 ? report.repeated
               : report.wrong) += off ? static_cast<uint64_t>(std::abs(off)) : bytes.size();
    over_ = true;
    return false;
  }

  // The peer has ended its stream.
  bool ended() {
    const bool cut = (kind() == Kind::bulk || kind() == Kind::slow) && in_ % kPerTick != 0;
    const bool due =
        !known_ || cut ||
        (client_ ? (kind() == Kind::halved ? in_ != hello_.size : !stopping_ || in_ < out_ * (kind() == Kind::asking))
                 : kind() == Kind::halved && in_ != hello_.size);
    if (due) return amiss(report.early, "ended early");
    return finish_if_done() || true;
  }

  bool finish_if_done() {
    if (!shut_ || !end_in_) return true;
    over_ = true;
    ++report.in_order;
    if (!excused_ || !client_)
      report.ended += (report.ended.empty() ? "\"" : ",\"") + std::to_string(hello_.number) + "\":[" +
                      std::to_string(in_) + "," + std::to_string(out_) + "]";
    return false;
  }

  bool failed(int error) {
    // ENOTCONN: shutdown(2) of a connection that was reset.
    if (error != ECONNRESET && error != EPIPE && error != ETIMEDOUT && error != EHOSTUNREACH && error != ENOTCONN) {
      errno = error;
      die("a connection");
    }
    return amiss(report.resets, "was reset");
  }

  // It ends as no kernel would have ended it, unless the other process was killed.
  bool amiss(uint64_t& counter, const char* how) {
    ++(excused_ || peer != peer_lives ? report.excused : counter);
    if (!excused_ && peer == peer_lives) say(how);
    over_ = true;
    return false;
  }
  void say(const char* what) const {
    std::fprintf(stderr, "load: connection %lu %s, kind %lu, port %d, with %lu bytes in%s and %lu out%s\n",
                 hello_.number, what, hello_.kind, port(), in_, end_in_ ? " and the end" : "", out_,
                 shut_ ? " and the end" : "");
  }
  int port() const {
    sockaddr_in name{};
    socklen_t size = sizeof name;
    (void)(client_ ? ::getsockname : ::getpeername)(fd_, reinterpret_cast<sockaddr*>(&name), &size);
    return ntohs(name.sin_port);
  }

  const int fd_;
  const bool client_;
  const int64_t life_;
  Hello hello_;
  bool known_, over_ = false, shut_ = false, end_in_ = false, stopping_ = false, excused_ = false;
  size_t hello_left_ = sizeof(Hello), head_ = 0;
  uint64_t in_ = 0, out_ = 0;
  uint64_t allowance_ = kPerTick;
  int64_t ticks_ = 0, next_read_ = 0, next_question_ = 0;
  Clock::time_point asked_{};
};

void set_nonblocking(int fd) {
  if (::fcntl(fd, F_SETFL, O_NONBLOCK) != 0) die("O_NONBLOCK");
}

// The streams of one end, and what they wait in. Edge triggered: every stream is advanced until nothing more can be
// done.
class Streams {
 public:
  explicit Streams(bool client) : client_(client), set_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (set_ < 0) die("epoll_create1");
  }
  void watch(int fd, uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    if (::epoll_ctl(set_, EPOLL_CTL_ADD, fd, &event) != 0) die("epoll_ctl");
  }
  void add(int fd, Hello hello, int64_t life) {
    set_nonblocking(fd);
    watch(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    auto& stream = all_[fd] = std::make_unique<Stream>(fd, client_, hello, life);
    stream->advance(true);
  }
  size_t count() const { return all_.size(); }
  void say_that_they_stand() const {
    for (const auto& [fd, stream] : all_) stream->say_that_it_stands();
  }
  uint64_t rarest_kind() const {
    std::array<size_t, kKinds> counts{};
    for (const auto& [fd, stream] : all_) ++counts[static_cast<size_t>(stream->kind())];
    return static_cast<uint64_t>(std::min_element(counts.begin(), counts.end()) - counts.begin());
  }
  // One turn; true if `listener` has somebody.
  bool turn(int listener) {
    epoll_event events[64];
    const auto until_tick = std::chrono::ceil<std::chrono::milliseconds>(next_tick_ - Clock::now()).count();
    const int found = ::epoll_wait(set_, events, 64, static_cast<int>(std::max<int64_t>(until_tick, 0)));
    if (found < 0 && errno != EINTR) die("epoll_wait");
    if (peer != peer_lives) excuse_all();
    bool came = false;
    for (int i = 0; i < found; ++i) {
      if (events[i].data.fd == listener) came = true;
      if (const auto at = all_.find(events[i].data.fd); at != all_.end()) at->second->advance(false);
    }
    if (Clock::now() >= next_tick_) {
      next_tick_ = Clock::now() + tick_time;
      for (auto& [fd, stream] : all_) stream->advance(true);
    }
    std::erase_if(all_, [](const auto& each) { return each.second->over(); });
    return came;
  }

 private:
  // Those that exist now. If the new process is there already, later ones are as any.
  void excuse_all() {
    if (peer == peer_is_new) peer = peer_lives;
    for (auto& [fd, stream] : all_) stream->excuse();
    if (client_) report.ended.clear();  // the server that is killed will not say what it knows of them
  }

  const bool client_;
  int set_;
  std::map<int, std::unique_ptr<Stream>> all_;
  Clock::time_point next_tick_ = Clock::now();
};

void serve(const sockaddr_in& name) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(listener, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 || ::listen(listener, 1024) != 0)
    die("listen");
  set_nonblocking(listener);
  std::printf("listening %d\n", getpid());
  std::fflush(stdout);
  Streams streams(false);
  streams.watch(listener, EPOLLIN);
  auto deadline = Clock::time_point::max();
  while (!told_to_end || streams.count() > 0) {
    if (streams.turn(listener))
      for (int fd; (fd = ::accept(listener, nullptr, nullptr)) >= 0;) streams.add(fd, {}, 0);
    if (told_to_end) deadline = std::min(deadline, Clock::now() + kServersPatience);
    if (Clock::now() >= deadline) streams.say_that_they_stand(), std::exit(1);
  }
}

int connected(const sockaddr_in& name, Kind kind) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  if (kind == Kind::slow) set_buffer(fd, SO_RCVBUF);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0) return fd;
  // ENETUNREACH: the card is down.
  if (errno != ECONNREFUSED && errno != ETIMEDOUT && errno != EHOSTUNREACH && errno != ENETUNREACH &&
      errno != ECONNRESET)
    die("connect");
  ::close(fd);
  return -1;
}

void play(const sockaddr_in& name, size_t flows, unsigned seed) {
  std::mt19937_64 random(seed);
  Streams streams(true);
  uint64_t number = uint64_t{seed} << 32;
  std::printf("playing %d\n", getpid());
  std::fflush(stdout);
  while (!told_to_end || streams.count() > 0) {
    while (!told_to_end && streams.count() < flows) {
      const auto kind = streams.rarest_kind();
      const int fd = connected(name, static_cast<Kind>(kind));
      if (fd < 0) break;  // the server is not there now; at the next tick
      const auto most = kind == static_cast<uint64_t>(Kind::halved) ? kMostHalved : kMostAsked;
      const auto life = kShortestLife + static_cast<int64_t>(random() % (kLongestLife - kShortestLife));
      streams.add(fd, {++number, kind, 1 + random() % most}, life);
    }
    streams.turn(-1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  const std::string_view role = argc > 1 ? argv[1] : "";
  const bool server = role == "server" && argc == 6, client = role == "client" && argc == 8;
  if ((!server && !client) || inet_pton(AF_INET, argv[2], &name.sin_addr) != 1)
    return std::fprintf(stderr,
                        "usage: load server ADDRESS PORT REPORT TICK | client ADDRESS PORT REPORT TICK FLOWS SEED\n"),
           2;
  name.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[3])));
  tick_time = std::chrono::milliseconds(std::max(1, std::atoi(argv[5])));
  ::alarm(3600);
  struct sigaction action {};
  // A connect(2) that a signal ended would leave a connection that the server takes, and nobody uses.
  action.sa_flags = SA_RESTART;
  action.sa_handler = [](int) { told_to_end = 1; };
  ::sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = [](int) { peer = peer_dies; };
  ::sigaction(SIGUSR1, &action, nullptr);
  action.sa_handler = [](int) { peer = peer_is_new; };
  ::sigaction(SIGUSR2, &action, nullptr);
  if (server)
    serve(name);
  else
    play(name, std::strtoul(argv[6], nullptr, 10), static_cast<unsigned>(std::strtoul(argv[7], nullptr, 10)));
  report.write(argv[4]);
}
