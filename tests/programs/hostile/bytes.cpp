#include "tests/programs/hostile/bytes.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

namespace hostile {
namespace {

std::mt19937_64 random_numbers{20240229};

}  // namespace

uint64_t random_number() { return random_numbers(); }

Bytes random_bytes(size_t size) {
  Bytes bytes(size);
  std::generate(bytes.begin(), bytes.end(), [] { return static_cast<uint8_t>(random_number()); });
  return bytes;
}

bool plain(std::span<const uint8_t> bytes) {
  return std::none_of(bytes.begin(), bytes.end(),
                      [](uint8_t byte) { return byte <= ' ' || byte == '"' || byte == '\''; });
}

void die(const char* what) {
  std::fprintf(stderr, "hostile: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

}  // namespace hostile
