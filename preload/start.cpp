#include "preload/start.hpp"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <unwind.h>

#include <charconv>
#include <cstring>

#include "config/source.hpp"
#include "core/base/log.hpp"
#include "core/base/unique_fd.hpp"
#include "preload/processes.hpp"
#include "preload/shell.hpp"
#include "preload/signals.hpp"

namespace rsock::preload {
namespace {

// Setuid programs are told nothing by their environment.
const char* variable(const char* name) {
  return secure_getenv(name);
}

const char* text_of(const char* name) {
  const char* value = variable(name);
  return value ? value : "";
}

template <class Pointer>
Pointer next(real::Name name) {
  return reinterpret_cast<Pointer>(real::next_definition(name));
}

std::variant<std::string, int> read_file(const std::string& path) {
  const auto opened = sys::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
  if (!opened) return opened.error();
  const UniqueFd file(*opened);
  std::string text;
  char part[4096];
  // One more than a configuration may have is enough for parse() to refuse it.
  while (text.size() <= config::kTextLimit) {
    const auto got = sys::read(file.get(), part, sizeof part);
    if (!got) return got.error();
    if (*got == 0) break;
    text.append(part, *got);
  }
  return text;
}

// All listeners: at the start those that the program before this one handed down.
void adopt_listeners() {
  const auto opened = sys::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (!opened) return;
  const UniqueFd folder(*opened);
  alignas(dirent64) char part[4096];
  for (;;) {
    const long got =
        real::syscall(SYS_getdents64, folder.get(), reinterpret_cast<long>(part), sizeof part, 0, 0, 0);
    if (got <= 0) return;
    for (long at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const dirent64*>(part + at);
      at += entry->d_reclen;
      int fd = -1, is_listener = 0;
      std::from_chars(entry->d_name, entry->d_name + std::strlen(entry->d_name), fd);
      socklen_t size = sizeof is_listener;
      if (fd < 0 || !sys::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listener, size) || !is_listener)
        continue;
      note(fd);
      sockets::listening(fd);
    }
  }
}

// Where the rules are, and whose they are: as it was at the start, whatever the program does to its environment, its name or its
// folder. Leaked on purpose.
struct Origin {
  config::Source source;
  std::string program;
};
Origin* origin = nullptr;

config::Source find_rules() {
  auto source = config::find(variable);
  char folder[PATH_MAX];
  if (source.kind == config::Source::Kind::file && !source.text_or_path.starts_with('/') && getcwd(folder, sizeof folder))
    source.text_or_path = std::string(folder) + "/" + source.text_or_path;
  return source;
}

// For an operator. There was a file, or nothing would be selected and nobody would ask: that it is gone is a mistake.
config::Parsed read_again() {
  auto source = origin->source;
  source.must_exist = true;
  return config::load(source, read_file, origin->program);
}

void start_with(std::string_view program) {
  origin = new Origin{find_rules(), std::string(program)};
  // In force until the process ends.
  static auto& parsed = *new config::Parsed(config::load(origin->source, read_file, program));
  for (const auto& diagnostic : parsed.errors) log::error("{}", config::to_string(diagnostic));
  sockets::start(parsed.config, program, text_of("RSOCK_STATS_FILE"), {read_again, adopt_listeners});
  register_hooks();
  if (!sockets::idle()) stand_in_for_handlers();
  if (!sockets::idle() && parsed.config.rules.any_listen()) adopt_listeners();
}

// libc unwinds a cancelled thread with the unwinder that all share; our frames' own code asks the one that is linked in here, which
// has its tables once it was used.
void prepare_unwinder() {
  const auto stop = [](_Unwind_Context*, void*) { return _URC_END_OF_STACK; };
  _Unwind_Backtrace(stop, nullptr);
}

[[gnu::constructor]] void constructor() {
  ensure_started();
}

}  // namespace

void start() {
  static constinit std::atomic_flag claimed;
  if (claimed.test_and_set(std::memory_order_acquire)) return;
  const int saved = errno;
  real::bind_all();
  prepare_unwinder();
  kernel.words = next<decltype(kernel.words)>(real::Name::syscall);
  kernel.epoll_pwait2 = next<decltype(kernel.epoll_pwait2)>(real::Name::epoll_pwait2);
  kernel.ppoll = next<decltype(kernel.ppoll)>(real::Name::ppoll);
  // Without memory for it there is nothing to select; the program must not notice.
  try {
    log::configure(text_of("RSOCK_LOG"), program_invocation_short_name);
    start_with(program_invocation_short_name);
  } catch (...) {
  }
  started.store(true, std::memory_order_release);
  errno = saved;
}

}  // namespace rsock::preload
