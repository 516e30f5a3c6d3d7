// A configuration: never a crash, and the invariants that config.hpp promises.

#include "config/config.hpp"

#include <cstdlib>
#include <string>

using namespace rsock::config;

namespace {

void must(bool holds) {
  if (!holds) std::abort();
}

bool printable_line(const std::string& text) { return !text.empty() && text.find('\n') == std::string::npos; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto mine = parse(text, "fuzz.toml", "redis-server");
  const auto all = parse_for_every_program(text, "fuzz.toml");
  must(mine.errors.size() == all.errors.size());
  must(mine.config.rules.all().size() <= all.config.rules.all().size());
  must(mine.config.options.ring_min <= mine.config.options.ring_max);
  if (!mine.errors.empty()) must(all.config.rules.all().empty());
  for (const auto& error : all.errors) must(printable_line(to_string(error)));
  for (const auto& rule : all.config.rules.all()) must(printable_line(to_string(rule)));
  return 0;
}
