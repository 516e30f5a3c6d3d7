#include "tests/fabric/device/chance.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>

namespace fabric {

struct Chance::Name {
  const char* word;
  double usual;
  const char* meaning;
};

// In the order of Kind.
const Chance::Name Chance::kNames[] = {
    {"refuse", 0.02, "what is asked for is refused, with ENOMEM or EPERM"},
    {"slow", 0.2, "what is made or destroyed takes 10 ms"},
    {"late", 0.2, "completions come up to 5 ms after what they tell of, and then together"},
    {"break", 0.001, "a queue pair breaks at a work request"},
    {"receive", 0.0005, "a receive fails"},
    {"silent", 0.0005, "nothing passes for up to 1.5 s, of which a queue pair bears one"},
    {"delay", 0.05, "a work request is up to 3 ms under way"},
    {"port", 0.01, "news of another port, which is down or up again"},
    {"fatal", 0.0005, "the device is at an end"},
    {"clean", 0.5, "a queue pair that is destroyed takes its completions with it"},
    {"inline", 1, "work requests carry 0, 48 or 96 bytes at most, not 256"},
};

std::string Chance::kinds() {
  std::string text;
  for (const auto& name : kNames)
    text += std::string("  ") + name.word + std::string(10 - std::string(name.word).size(), ' ') + name.meaning + "\n";
  return text;
}

bool Chance::set(const std::string& word) {
  const auto end = word.find('=');
  const auto name = word.substr(0, end);
  const char* value = end == std::string::npos ? nullptr : word.c_str() + end + 1;
  if (name == "seed" && value) return dice_.seed(std::strtoull(value, nullptr, 10)), true;
  for (size_t at = 0; at < std::size(kNames); ++at)
    if (name == kNames[at].word) return shares_[at] = value ? std::strtod(value, nullptr) : kNames[at].usual, true;
  return false;
}

// A kind that is off rolls no dice.
bool Chance::happens(Kind kind) {
  const auto share = shares_[static_cast<size_t>(kind)];
  return share > 0 && static_cast<double>(dice_() >> 11) * 0x1p-53 < share;
}

int Chance::refusal() { return die(2) == 0 ? ENOMEM : EPERM; }

uint32_t Chance::largest_inline() {
  constexpr std::array<uint32_t, 3> kSizes{0, 48, 96};
  return happens(Kind::inlining) ? kSizes[die(kSizes.size())] : 256;
}

}  // namespace fabric
