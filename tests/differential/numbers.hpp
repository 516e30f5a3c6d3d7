#pragma once
// Random numbers that are the same everywhere: each operation of a program has its own, from the seed and its number
// alone, so that one operation can be left out without changing what the others draw.

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace differential {

class Numbers {
 public:
  Numbers(uint64_t seed, uint64_t number) : state_(seed * 0x9E3779B97F4A7C15u ^ (number + 1) * 0xD1B54A32D192ED03u) {
    next();
  }

  uint64_t next() {  // SplitMix64
    state_ += 0x9E3779B97F4A7C15u;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // Below `bound`, which is not 0.
  size_t below(size_t bound) { return next() % bound; }
  size_t between(size_t low, size_t high) { return low + below(high - low + 1); }
  bool one_in(size_t n) { return below(n) == 0; }
  template <class T>
  T one_of(std::initializer_list<T> choices) {
    return choices.begin()[below(choices.size())];
  }
  template <class T>
  T& one_of(std::vector<T>& choices) {
    return choices[below(choices.size())];
  }
  // Each of `bits` or not.
  unsigned some_of(std::initializer_list<unsigned> bits) {
    unsigned chosen = 0;
    for (const auto bit : bits)
      if (one_in(2)) chosen |= bit;
    return chosen;
  }

 private:
  uint64_t state_;
};

}  // namespace differential
