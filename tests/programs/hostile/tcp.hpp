#pragma once
// The TCP connection; it counts, as the cutover wants it.

#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <string>

#include "core/base/endpoint.hpp"

namespace hostile {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kPatience = 5s;  // for what a well-behaved process does

class Tcp {
 public:
  explicit Tcp(int fd) : fd_(fd) {}
  Tcp(const Tcp&) = delete;
  ~Tcp() { close(); }

  void close();
  rsock::Endpoint local() const { return end(getsockname); }
  rsock::Endpoint remote() const { return end(getpeername); }

  template <class Encoded>
  void send(const Encoded& bytes) {
    if (::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) sent_ += bytes.size();
  }
  // Whatever comes until `enough`, the end, or the time is up.
  std::string receive(const std::function<bool(const std::string&)>& enough, std::chrono::milliseconds patience);
  // What became of the connection: "works" if a PING is answered, else "over" or "silent".
  const char* probe();
  uint64_t sent() const { return sent_; }
  uint64_t got() const { return got_; }

 private:
  rsock::Endpoint end(decltype(getsockname)* of) const;

  int fd_;
  uint64_t sent_ = 0, got_ = 0;
  bool over_ = false;
};

}  // namespace hostile
