#include "core/base/log.hpp"

#include <fcntl.h>

#include <array>
#include <ctime>
#include <string>

#include "core/base/kernel.hpp"
#include "core/base/own.hpp"

namespace rsock::log {
namespace {

struct Destination {
  Level level = Level::off;
  int fd = 2;
};
constinit Destination destination{};
// Leaked on purpose: threads may log while static objects are being destroyed.
std::string* program_name = nullptr;

constexpr std::array<std::string_view, 5> kNames{"off", "error", "warn", "info", "debug"};

}  // namespace

void configure(std::string_view setting, std::string_view program) {
  const auto colon = setting.find(':');
  const auto name = setting.substr(0, colon);
  Level level = Level::off;
  for (size_t i = 0; i < kNames.size(); ++i)
    if (name == kNames[i] || (name == "warning" && kNames[i] == "warn")) level = static_cast<Level>(i);
  if (level == Level::off) return;
  int fd = 2;
  if (colon != std::string_view::npos) {
    const std::string path(setting.substr(colon + 1));
    const auto file = sys::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (!file) return;
    fd = sys::move_high(*file);
    own::keep(fd);
  }
  program_name = new std::string(program);
  destination = {level, fd};
}

int descriptor() { return destination.fd; }

bool enabled(Level level) { return level <= destination.level; }

void write_line(Level level, std::string_view text) {
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  const auto line = fmt::format("rsock {}.{:06} {} {}[{}]: {}\n", time.tv_sec, time.tv_nsec / 1000,
                                kNames[static_cast<size_t>(level)], *program_name, sys::process_id(), text);
  (void)sys::write(destination.fd, line.data(), line.size());
}

}  // namespace rsock::log
