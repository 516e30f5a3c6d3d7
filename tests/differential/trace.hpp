#pragma once
// What a program did and saw: one line for each operation. Two worlds are compared by it, so nothing is in it that the
// kernel does not decide alone.

#include <poll.h>
#include <sys/epoll.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace differential {

class Trace {
 public:
  // Begins the line of operation `number`.
  void begin(int number);
  // Adds to the line, in printf's manner.
  [[gnu::format(printf, 2, 3)]] void add(const char* format, ...);
  // Ends the line; it is written out at the end of the program, or when it would be lost.
  void end();
  // The result of a call: its value, or the name of its errno; and SIGPIPE, if it came since.
  long result(long value);
  void bytes(std::string_view data);
  void flush();
  // Write lines at once: for programs that may crash.
  bool eager = false;

 private:
  std::string text_;
};

// Of poll and epoll, by name, and in that order.
std::string events_named(uint32_t events);
uint32_t hash_of(std::string_view data);

// How often SIGPIPE came.
extern volatile int broken_pipes;

}  // namespace differential
