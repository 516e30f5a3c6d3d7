#include "trace.hpp"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>

namespace differential {

volatile int broken_pipes = 0;

void Trace::begin(int number) { add("%d ", number); }

void Trace::add(const char* format, ...) {
  char piece[512];
  va_list arguments;
  va_start(arguments, format);
  const int size = std::vsnprintf(piece, sizeof piece, format, arguments);
  va_end(arguments);
  text_.append(piece, static_cast<size_t>(size) < sizeof piece ? static_cast<size_t>(size) : sizeof piece - 1);
}

void Trace::end() {
  text_ += '\n';
  if (eager) flush();
}

long Trace::result(long value) {
  const int error = errno;
  if (value < 0)
    add(" = %s", strerrorname_np(error));
  else
    add(" = %ld", value);
  if (broken_pipes) add(" SIGPIPE*%d", broken_pipes);
  broken_pipes = 0;
  errno = error;
  return value;
}

void Trace::bytes(std::string_view data) {
  add(" <");
  for (size_t i = 0; i < data.size() && i < 4; ++i) add("%02x", static_cast<unsigned char>(data[i]));
  if (data.size() > 4) add("..%08x", hash_of(data));
  add(">");
}

void Trace::flush() {
  for (std::string_view left = text_; !left.empty();) {
    const auto written = ::write(STDOUT_FILENO, left.data(), left.size());
    if (written <= 0) break;
    left.remove_prefix(static_cast<size_t>(written));
  }
  text_.clear();
}

std::string events_named(uint32_t events) {
  static constexpr struct {
    uint32_t bit;
    const char* name;
  } kNames[] = {{EPOLLIN, "IN"},         {EPOLLPRI, "PRI"},         {EPOLLOUT, "OUT"},
                {EPOLLERR, "ERR"},       {EPOLLHUP, "HUP"},         {POLLNVAL, "NVAL"},
                {EPOLLRDNORM, "RDNORM"}, {EPOLLRDBAND, "RDBAND"},   {EPOLLWRNORM, "WRNORM"},
                {EPOLLWRBAND, "WRBAND"}, {EPOLLRDHUP, "RDHUP"},     {EPOLLEXCLUSIVE, "EXCLUSIVE"},
                {EPOLLWAKEUP, "WAKEUP"}, {EPOLLONESHOT, "ONESHOT"}, {EPOLLET, "ET"}};
  std::string text;
  for (const auto& known : kNames)
    if (events & known.bit) {
      if (!text.empty()) text += '|';
      text += known.name;
      events &= ~known.bit;
    }
  if (events) text += "|" + std::to_string(events);
  return text.empty() ? "0" : text;
}

uint32_t hash_of(std::string_view data) {  // FNV-1a
  uint32_t hash = 2166136261u;
  for (const unsigned char byte : data) hash = (hash ^ byte) * 16777619u;
  return hash;
}

}  // namespace differential
