#include "core/base/log.hpp"

#include <fmt/format.h>

#include <array>
#include <ctime>
#include <string>

#include "core/base/kernel.hpp"
#include "core/base/lines.hpp"

namespace rsock::log {
namespace {

constexpr int kNone = -1;

struct Destination {
  Level level = Level::off;
  int file = kNone;  // else standard error
};
constinit Destination destination{};
constinit lines::StandardError standard_error{};
// Leaked on purpose: threads may log while static objects are being destroyed.
std::string* program_name = nullptr;

constexpr std::array<std::string_view, 5> kNames{"off", "error", "warn", "info", "debug"};

}  // namespace

std::optional<Level> level_named(std::string_view word) {
  if (word == "warning") return Level::warning;
  for (size_t i = 0; i < kNames.size(); ++i)
    if (word == kNames[i]) return static_cast<Level>(i);
  return {};
}

void configure(std::string_view setting, std::string_view program) {
  const auto colon = setting.find(':');
  const auto level = level_named(setting.substr(0, colon)).value_or(Level::off);
  if (level == Level::off) return;
  int file = kNone;
  if (colon == std::string_view::npos) {
    standard_error.remember();
  } else {
    const std::string path(setting.substr(colon + 1));
    auto opened = lines::open(path.c_str(), 0644);
    if (!opened) return;
    own::keep(file = opened->release());
  }
  program_name = new std::string(program);
  destination = {level, file};
}

int descriptor() { return destination.file; }

bool enabled(Level level) { return level <= destination.level; }

void write_line(Level level, fmt::string_view text, fmt::format_args arguments) {
  timespec time{};
  kernel.clock_gettime(CLOCK_REALTIME, &time);
  const auto line =
      fmt::format("rsock {}.{:06} {} {}[{}]: {}\n", time.tv_sec, time.tv_nsec / 1000,
                  kNames[static_cast<size_t>(level)], *program_name, sys::process_id(), fmt::vformat(text, arguments));
  (void)(destination.file == kNone ? standard_error.append(line) : lines::append(destination.file, line));
}

}  // namespace rsock::log
