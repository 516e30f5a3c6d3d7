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
  return bytes_of(wire::encode(told));
}

Bytes of_size(size_t size, uint8_t more = 0) {
  auto bytes = greeting_bytes();
  bytes.resize(size, more);
  return bytes;
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
    {"wrong-version", [] { return changed([](auto& told) { told.version = wire::kVersion + 6; }); }},
    {"unknown-verdict", [] { return changed([](auto& told) { told.verdict = static_cast<wire::Verdict>(9); }); }},
    // The rest of it arrives as zeros.
    {"short-greeting", [] { return of_size(8); }},
    {"no-receives", [] { return changed([](auto& told) { told.receives = 0; }); }},
    {"endless-receives", [] { return changed([](auto& told) { told.receives = UINT32_MAX; }); }},
    // In order: bytes behind the greeting are ignored.
    {"long-greeting", [] { return of_size(56, 0xee); }},
};

}  // namespace

std::vector<Act> greetings() {
  std::vector<Act> acts;
  for (const auto& each : kPrivately)
    acts.push_back({each.name, Who::either, [&each](Play& play) { play.link(each.bytes()); }});
  return acts;
}

}  // namespace hostile
