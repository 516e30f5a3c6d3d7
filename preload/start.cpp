#include "preload/start.hpp"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>

#include "config/host_reader.hpp"
#include "config/secrets.hpp"
#include "core/base/log.hpp"
#include "preload/open_descriptors.hpp"
#include "preload/passing.hpp"
#include "preload/processes.hpp"
#include "preload/shell.hpp"
#include "preload/signals.hpp"

// The name by which copies of the library know each other: the loader finds that of the first one.
RSOCK_EXPORT const char rsock_serves;
const char rsock_serves = 0;
extern "C" __attribute__((visibility("hidden"), alias("rsock_serves"))) const char own_rsock_serves;

namespace rsock::preload {
namespace {

// Setuid programs are told nothing by their environment.
const char* variable(const char* name) { return secure_getenv(name); }

const char* text_of(const char* name) {
  const char* value = variable(name);
  return value ? value : "";
}

// Where the library is preloaded twice, by two paths, the program's calls reach the first copy and go on to the second,
// which has nothing to do for them: two engines in one process would be in each other's way.
bool serves() { return dlsym(RTLD_DEFAULT, "rsock_serves") == &own_rsock_serves; }

// What the library calls for itself is libc's own, whoever else has taken it over.
Kernel libcs() {
  void* const libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  const auto bind = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(libc, name));
  };
  Kernel found;
  bind(found.epoll_pwait2, "epoll_pwait2");
  bind(found.ppoll, "ppoll");
  bind(found.clock_gettime, "clock_gettime");
  return found;
}

// All listeners: at the start those that the program before this one handed down.
void adopt_listeners() { each_open_descriptor(adopt_if_listener); }

// Where the rules are, and whose they are: as it was at the start, whatever the program does to its environment, its
// name or its folder. Leaked on purpose.
struct Origin {
  config::Source source;
  std::string program;
};
Origin* origin = nullptr;

config::Source find_rules() {
  auto source = config::find(variable);
  char folder[PATH_MAX];
  if (source.kind == config::Source::Kind::file && !source.text_or_path.starts_with('/') &&
      getcwd(folder, sizeof folder))
    source.text_or_path = std::string(folder) + "/" + source.text_or_path;
  return source;
}

config::Parsed read_at_start() {
  auto& source = origin->source;
  auto parsed = config::load(source, config::host_reader(sys::effective_user()), origin->program);
  source.must_exist = source.must_exist || std::ranges::find(parsed.files, source.text_or_path) != parsed.files.end();
  if (!config::wants_secrets(parsed.config)) return parsed;
  const auto file = rsock::read_file(parsed.config.options.secret.c_str(), config::kSecretsMost);
  config::take_secrets(parsed, source.name(), file, sys::effective_user());
  return parsed;
}

// For an operator. There was a file, or nothing would be selected and nobody would ask: that it is gone is a mistake,
// and so it is that nothing is left beside one that never was.
config::Parsed read_again() {
  const auto reader = config::host_reader(sys::effective_user());
  auto source = origin->source;
  auto parsed = config::load(source, reader, origin->program);
  if (!parsed.files.empty() || !parsed.errors.empty()) return parsed;
  source.must_exist = true;
  return config::load(source, reader, origin->program);
}

void start_with(std::string_view program) {
  origin = new Origin{find_rules(), std::string(program)};
  // In force until the process ends.
  static auto& parsed = *new config::Parsed(read_at_start());
  for (const auto& diagnostic : parsed.errors) log::error("{}", config::to_string(diagnostic));
  sockets::start(parsed.config, program, text_of("RSOCK_STATS_FILE"), {read_again, adopt_listeners});
  register_hooks();
  if (!sockets::idle()) stand_in_for_handlers();
  if (!sockets::idle() && parsed.config.rules.any_listen()) adopt_listeners();
}

// libc unwinds a cancelled thread with the unwinder that all share; our frames' own code asks the one that is linked in
// here, which has its tables once it was used.
void prepare_unwinder() {
  const auto stop = [](_Unwind_Context*, void*) { return _URC_END_OF_STACK; };
  _Unwind_Backtrace(stop, nullptr);
}

[[gnu::constructor]] void constructor() { ensure_started(); }

}  // namespace

void start() {
  static constinit std::atomic_flag claimed;
  if (claimed.test_and_set(std::memory_order_acquire)) return;
  const int saved = errno;
  real::bind_all();
  prepare_unwinder();
  // Without memory for it there is nothing to select; the program must not notice.
  if (serves()) {
    try {
      kernel = libcs();
      log::configure(text_of("RSOCK_LOG"), program_invocation_short_name);
      start_with(program_invocation_short_name);
    } catch (...) {
    }
  }
  started.store(true, std::memory_order_release);
  errno = saved;
}

}  // namespace rsock::preload
