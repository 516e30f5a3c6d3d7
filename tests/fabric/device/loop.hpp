#pragma once
// The device's only thread: it waits for descriptors and for times. What is to be done is done one after the
// other.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "tests/fabric/device/descriptor.hpp"

namespace fabric {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;
using Duration = Clock::duration;
using std::chrono::milliseconds;

class Loop {
 public:
  using Do = std::function<void()>;

  Loop();
  // `ready` is called whenever there is something to read, until unwatch().
  void watch(int fd, Do ready);
  void unwatch(int fd) noexcept;
  // Once, at that time or soon afterwards; the latter as soon as what is being done is done.
  void after(Duration pause, Do what);
  void soon(Do what) { after(Duration::zero(), std::move(what)); }
  [[noreturn]] void run();

 private:
  int wait_ms() const;
  void do_what_is_due();

  Descriptor epoll_;
  std::map<int, std::shared_ptr<Do>> watched_;
  std::multimap<Time, Do> due_;
};

}  // namespace fabric
