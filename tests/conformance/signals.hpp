#pragma once
// Handlers of signals, and threads that make one call while something else happens to them.

#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <memory>
#include <vector>

#include "pair.hpp"

namespace conformance {

// The action of a signal, for as long as it lives.
class Action {
 public:
  Action(int signal, void (*handler)(int), int flags = 0) : signal_(signal) {
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigaction(signal, &action, &before_);
  }
  ~Action() { sigaction(signal_, &before_, nullptr); }
  Action(const Action&) = delete;
  Action& operator=(const Action&) = delete;

 private:
  int signal_;
  struct sigaction before_ {};
};

// How often count_signal ran.
inline std::atomic<int> handled{0};
inline void count_signal(int) { ++handled; }

// A set of one signal.
inline sigset_t only(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  return set;
}

// Signals of the calling thread that are blocked while it lives.
class Blocked {
 public:
  explicit Blocked(int signal) {
    const auto set = only(signal);
    pthread_sigmask(SIG_BLOCK, &set, &before_);
  }
  ~Blocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};
inline bool is_pending(int signal) {
  sigset_t set;
  sigpending(&set);
  return sigismember(&set, signal) == 1;
}
inline bool is_blocked(int signal) {
  sigset_t set;
  pthread_sigmask(SIG_SETMASK, nullptr, &set);
  return sigismember(&set, signal) == 1;
}

// What a call gave.
struct Outcome {
  long value;
  int error;
};

// A thread that makes one call.
class Caller {
 public:
  explicit Caller(std::function<long()> call) : shared_(std::make_shared<Shared>()) {
    thread_ = std::thread([call = std::move(call), shared = shared_] {
      shared->task = gettid();
      errno = 0;
      shared->outcome.value = call();
      shared->outcome.error = errno;
      shared->done = true;
    });
  }
  ~Caller() {
    if (thread_.joinable()) thread_.join();
  }
  bool done() const { return shared_->done; }
  pthread_t thread() { return thread_.native_handle(); }
  void signal(int number) { pthread_kill(thread(), number); }
  // It sleeps, and has for a moment: not in passing.
  bool asleep() const;
  // Signals, one after the other, until `enough` or until the call is over.
  void signal_until(
      int number, const std::function<bool()>& enough = [] { return false; }) {
    eventually([&] {
      if (done() || enough()) return true;
      signal(number);
      std::this_thread::sleep_for(1ms);
      return false;
    });
  }
  Outcome join() {
    thread_.join();
    return shared_->outcome;
  }

 private:
  struct Shared {
    std::atomic<pid_t> task{0};
    std::atomic<bool> done{false};
    Outcome outcome{};
  };
  std::shared_ptr<Shared> shared_;
  std::thread thread_;
};

// The calls that read one buffer or write one, by name; they wait unless the descriptor or `flags` say otherwise.
struct Reader {
  const char* name;
  ssize_t (*call)(int fd, void* buffer, size_t size);
};
struct Writer {
  const char* name;
  ssize_t (*call)(int fd, const void* buffer, size_t size);
};
extern const std::vector<Reader> readers;
extern const std::vector<Writer> writers;

// The calls that wait for one descriptor to show `events` (those of poll), for `ms` at most; for ever if negative. How
// many do.
struct Waiter {
  const char* name;
  int (*call)(int fd, short events, int ms);
};
extern const std::vector<Waiter> waiters;

}  // namespace conformance
