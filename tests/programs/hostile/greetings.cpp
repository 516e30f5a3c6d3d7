#include "tests/programs/hostile/acts.hpp"

namespace hostile {
namespace {

struct Privately {
  const char* name;
  Bytes (*bytes)();
};

Bytes changed(void (*change)(wire::Greeting&)) {
  auto told = greeting();
  change(told);
  return first_bytes(told);
}

Bytes cut(size_t size) {
  auto bytes = greeting_bytes();
  bytes.resize(size);
  return bytes;
}

// In order: what is behind it is ignored.
void long_greeting(Play& play) {
  play.behind = Bytes(13, 0xee);
  play.link(greeting_bytes());
}

const Privately kPrivately[] = {
    {"garbage-greeting", [] { return random_bytes(56); }},
    {"no-greeting", [] { return Bytes{}; }},
    {"wrong-magic",
     [] {
       auto bytes = greeting_bytes();
       bytes[0] ^= 1;
       return bytes;
     }},
    {"wrong-version", [] { return changed([](auto& told) { told.version = told.oldest = wire::kVersion + 6; }); }},
    {"unknown-verdict", [] { return changed([](auto& told) { told.verdict = static_cast<wire::Verdict>(9); }); }},
    // The rest of it arrives as zeros.
    {"short-greeting", [] { return cut(8); }},
    // Its key arrives as zeros, as a point of small order would.
    {"keyless-greeting", [] { return cut(wire::kGreetingSize + 1); }},
    {"no-receives", [] { return changed([](auto& told) { told.receives = 0; }); }},
    {"endless-receives", [] { return changed([](auto& told) { told.receives = UINT32_MAX; }); }},
};

}  // namespace

std::vector<Act> greetings() {
  std::vector<Act> acts;
  for (const auto& each : kPrivately)
    acts.push_back({each.name, Who::either, [&each](Play& play) { play.link(each.bytes()); }});
  acts.push_back({"long-greeting", Who::either, long_greeting});
  return acts;
}

}  // namespace hostile
