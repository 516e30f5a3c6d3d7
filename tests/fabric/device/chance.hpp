#pragma once
// What goes wrong, at random. A device without any of this is perfect: it does everything at once.

#include <cstdint>
#include <random>
#include <string>

#include "tests/fabric/device/loop.hpp"

namespace fabric {

class Chance {
 public:
  // Words as `name` or `name=share`, the share of the occasions on which it happens; `seed=number`. See
  // kinds(). False if a word means nothing.
  bool set(const std::string& word);
  static std::string kinds();

  bool refuses() { return happens(Kind::refuse); }
  int refusal();  // an errno
  Duration slowness() { return happens(Kind::slow) ? milliseconds(10) : Duration::zero(); }
  Duration lateness() { return happens(Kind::late) ? std::chrono::microseconds(die(5000)) : Duration::zero(); }
  bool breaks() { return happens(Kind::breaks); }
  bool receive_fails() { return happens(Kind::receive); }
  Duration silence() { return happens(Kind::silent) ? milliseconds(die(1500)) : Duration::zero(); }
  Duration delay() { return happens(Kind::delay) ? std::chrono::microseconds(die(3000)) : Duration::zero(); }
  bool tells_of_port() { return happens(Kind::port); }
  bool dies() { return happens(Kind::fatal); }
  // A queue pair that is destroyed takes its completions with it, as some devices do, or leaves them where
  // they are.
  bool cleans() { return happens(Kind::clean); }
  // Bytes that work requests may carry themselves.
  uint32_t largest_inline();

 private:
  enum class Kind { refuse, slow, late, breaks, receive, silent, delay, port, fatal, clean, inlining, count };
  struct Name;
  static const Name kNames[static_cast<size_t>(Kind::count)];
  bool happens(Kind kind);
  uint32_t die(uint32_t sides) { return static_cast<uint32_t>(dice_() % sides); }

  std::mt19937_64 dice_{1};
  double shares_[static_cast<size_t>(Kind::count)]{};
};

}  // namespace fabric
