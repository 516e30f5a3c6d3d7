#pragma once
// What every case is made of: the two ends of one TCP connection, both in this process. Plain POSIX; nothing here knows
// of the library. Where a lane is to carry the bytes (RSOCK_CONFORMANCE_LANE is set, by `run`), the connection is in it
// before the case begins: the kernel's own count of the bytes received (TCP_INFO) then stands still while bytes go to
// and fro.

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>  // not netinet/tcp.h, whose tcp_info is older
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace conformance {

using namespace std::chrono_literals;
using namespace std::string_literals;

// For what has to happen soon, and is waited for.
inline constexpr auto kPatience = 10s;

// A descriptor that is closed when its owner goes.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    close();
    fd_ = std::exchange(other.fd_, -1);
    return *this;
  }
  ~Fd() { close(); }
  operator int() const { return fd_; }
  // The number, which somebody else closes from now on.
  int release() { return std::exchange(fd_, -1); }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

enum class Family { v4, v6, mapped };  // mapped: an IPv4 connection through IPv6 sockets

struct Options {
  Family family = Family::v4;
  bool nonblocking = false;
  bool enter = true;  // wait until the lane, if there is one, carries the bytes
  // Called for each end while it has not carried a byte yet: for socket options and the like.
  std::function<void(int fd)> prepare = {};
};

// The connecting end and the accepting end, by turns as `one` and `other` in what does not depend on the role.
struct Pair {
  Fd client, server;
};

// A connection over loopback. Fails the case if it cannot be made, or does not enter the lane. Some lower numbers of
// descriptors are free.
Pair connected(const Options& options = {});
// Bytes go to and fro until the lane carries them. Does nothing more than an exchange where there is no lane.
void enter_lane(int one, int other);
// Whether a lane is to carry the bytes (of both ends).
bool in_lane_world();
// How long a lane may take to be entered. RSOCK_CONFORMANCE_ENTERING: in seconds, where something may keep it from
// that.
std::chrono::seconds entering();
// Whether the library has flows to look after: of both ends, or of one.
bool anything_selected();

// A listening socket on a free port of loopback, and its address.
struct Listener {
  Fd fd;
  sockaddr_storage address{};
  socklen_t size = 0;
  const sockaddr* name() const { return reinterpret_cast<const sockaddr*>(&address); }
};
Listener listening(Family family = Family::v4, int backlog = 16);
// A new socket of that family.
Fd stream_socket(Family family = Family::v4, int flags = 0);

// The bytes that TCP has brought to `fd`, as the kernel counts them: they stand still while a lane carries what is
// sent.
uint64_t received_by_kernel(int fd);

// Waits until exactly or at least `bytes` can be read from `fd`. In a lane bytes arrive a moment after they are sent.
void arrived(int fd, int bytes);
// Waits for any of `events` (poll), at most kPatience; what is there.
short awaited(int fd, short events);
// What poll says now, without waiting.
short polled(int fd, short events);
// True as soon as `condition` is, false after kPatience.
bool eventually(const std::function<bool()>& condition);

// Writes all of `bytes`, whatever the socket takes at a time.
void send_all(int fd, std::string_view bytes);
// Reads exactly so many bytes; fewer at the end of the stream.
std::string receive(int fd, size_t bytes);
// `size` bytes, none like its neighbours.
std::string pattern(size_t size, unsigned seed = 1);
// The bytes that a socket takes until it would block; it is left as it was, non-blocking or not.
size_t fill(int fd);

void set_nonblocking(int fd, bool on = true);
int option(int fd, int level, int name);
void set_option(int fd, int level, int name, int value);

// A pointer to a page that no access is allowed to.
void* bad_pointer();

}  // namespace conformance

// The call fails with that errno.
#define CHECK_FAILS(call, error)                                          \
  do {                                                                    \
    errno = 0;                                                            \
    CHECK((call) == -1);                                                  \
    CHECK(std::string(strerrorname_np(errno)) == strerrorname_np(error)); \
  } while (false)
