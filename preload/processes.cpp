#include "preload/processes.hpp"

#include <alloca.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>

#include "preload/program_memory.hpp"
#include "preload/shell.hpp"
#include "preload/signals.hpp"

namespace real = rsock::real;
namespace sockets = rsock::preload::sockets;
using namespace rsock::preload;

namespace {

// ---- the end of the main thread, of which libc tells if it comes in order; before it the ends of others do not matter
struct Ending {
  ~Ending() {
    const int saved = errno;
    sockets::thread_ends(0);
    errno = saved;
  }
};

void notice_end_of_thread() { static thread_local const Ending ending; }

// ---- fork ----
// As pthread_atfork handlers they run for every function of libc that forks. They are among the first to be
// registered, so they run after the program's own before a fork, and before the program's own after it: its
// handlers may use sockets.

// A child of vfork that forks is not announced: its own memory is not its own.
thread_local constinit bool announced = false;

void before_fork() {
  announced = !sockets::in_borrowed_memory();
  if (announced) sockets::before_fork();
}
void after_in_parent() {
  if (announced) sockets::after_fork_in_parent();
}
void after_in_child() {
  if (!announced) return;
  notice_end_of_thread();
  forget_other_threads_handlers();
  sockets::after_fork_in_child();
}

// ---- exec ----

// The program may go on if exec fails: its flows are on TCP then.
template <class Exec>
int become(Exec exec) {
  if (sockets::idle()) return exec();
  int saved = errno;
  {
    Uncancellable here;
    sockets::before_exec();
  }
  {
    const Starting here;
    errno = saved;
    exec();
    saved = errno;
  }
  sockets::exec_failed();
  errno = saved;
  return -1;
}

// posix_spawn, system and popen leave this process as it is: what the new one is meant to have is its
// standard streams.
void before_spawn() {
  if (nothing_concerns_us()) return;
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (find(fd)) to_tcp(fd, rsock::Reason::shared);
}

// These give the error itself: that of an action, too, in the child, which has copies of our descriptors.
template <const auto& libc, class... Arguments>
int spawn(Arguments... arguments) {
  const int error = libc(arguments...);
  return error == EMFILE && made_room() ? libc(arguments...) : error;
}

// The arguments of execl and its kin, `first` and what follows up to a null pointer.
size_t count(const char* first, va_list list) {
  size_t n = 0;
  for (const char* each = first; each; each = va_arg(list, const char*)) ++n;
  return n;
}
// `to` has room for them and the null pointer.
void gather(const char* first, va_list& list, char** to) {
  for (const char* each = first; each; each = va_arg(list, const char*)) *to++ = const_cast<char*>(each);
  *to = nullptr;
}

// ---- filters of system calls ----

// A program that only asks whether the kernel knows filters gives a bad pointer.
void before_filter(long filter) {
  if (!readable(reinterpret_cast<const void*>(filter), sizeof(sock_fprog))) return;
  const int saved = errno;
  Uncancellable here;
  sockets::before_filter();
  memory::probe_no_more();
  errno = saved;
}

// ---- the end ----

void finish_once() {
  Uncancellable here;
  sockets::finish();
}

}  // namespace

namespace rsock::preload {

void register_hooks() {
  notice_end_of_thread();
  pthread_atfork(before_fork, after_in_parent, after_in_child);
  // Registered before main, and in no library's name: exit(3) runs it after every handler and destructor of
  // the program and its libraries, all of which may still use sockets.
  __cxa_atexit([](void*) { finish_once(); }, nullptr, nullptr);
  at_quick_exit(finish_once);
}

void before_prctl(int option, long mode, long filter) {
  if (option == PR_SET_SECCOMP && mode == SECCOMP_MODE_FILTER) before_filter(filter);
}
void before_seccomp(long operation, long filter) {
  if (operation == SECCOMP_SET_MODE_FILTER) before_filter(filter);
}

}  // namespace rsock::preload

RSOCK_EXPORT pid_t fork() noexcept { return real::fork(); }

// fork(2) without handlers.
RSOCK_EXPORT pid_t _Fork() noexcept {
  if (sockets::idle()) return real::_Fork();
  before_fork();
  const pid_t child = real::_Fork();
  child == 0 ? after_in_child() : after_in_parent();
  return child;
}

RSOCK_EXPORT int execve(const char* path, char* const* arguments, char* const* environment) noexcept {
  return become([&] { return real::execve(path, arguments, environment); });
}
RSOCK_EXPORT int execv(const char* path, char* const* arguments) noexcept {
  return become([&] { return real::execv(path, arguments); });
}
RSOCK_EXPORT int execvp(const char* file, char* const* arguments) noexcept {
  return become([&] { return real::execvp(file, arguments); });
}
RSOCK_EXPORT int execvpe(const char* file, char* const* arguments, char* const* environment) noexcept {
  return become([&] { return real::execvpe(file, arguments, environment); });
}
RSOCK_EXPORT int fexecve(int fd, char* const* arguments, char* const* environment) noexcept {
  return become([&] { return real::fexecve(fd, arguments, environment); });
}
RSOCK_EXPORT int execveat(int folder, const char* path, char* const* arguments, char* const* environment,
                          int flags) noexcept {
  return become([&] { return real::execveat(folder, path, arguments, environment, flags); });
}

// The parent ends inside libc, where nobody sees it: what it has goes to TCP first.
RSOCK_EXPORT int daemon(int stay, int keep) noexcept {
  if (sockets::idle()) return real::daemon(stay, keep);
  {
    Uncancellable here;
    sockets::before_daemon();
  }
  const int result = real::daemon(stay, keep);
  const int saved = errno;
  if (result == 0) sockets::became_daemon();
  errno = saved;
  return result;
}

// libc cannot be handed a list on: it becomes an array, as in libc.
RSOCK_EXPORT int execl(const char* path, const char* first, ...) noexcept {
  va_list list;
  va_start(list, first);
  const size_t n = count(first, list);
  va_end(list);
  auto** arguments = static_cast<char**>(alloca((n + 1) * sizeof(char*)));
  va_start(list, first);
  gather(first, list, arguments);
  va_end(list);
  return become([&] { return real::execv(path, arguments); });
}
RSOCK_EXPORT int execlp(const char* file, const char* first, ...) noexcept {
  va_list list;
  va_start(list, first);
  const size_t n = count(first, list);
  va_end(list);
  auto** arguments = static_cast<char**>(alloca((n + 1) * sizeof(char*)));
  va_start(list, first);
  gather(first, list, arguments);
  va_end(list);
  return become([&] { return real::execvp(file, arguments); });
}
// The environment follows the null pointer.
RSOCK_EXPORT int execle(const char* path, const char* first, ...) noexcept {
  va_list list;
  va_start(list, first);
  const size_t n = count(first, list);
  va_end(list);
  auto** arguments = static_cast<char**>(alloca((n + 1) * sizeof(char*)));
  va_start(list, first);
  gather(first, list, arguments);
  char* const* environment = va_arg(list, char* const*);
  va_end(list);
  return become([&] { return real::execve(path, arguments, environment); });
}

RSOCK_EXPORT int posix_spawn(pid_t* child, const char* path, const posix_spawn_file_actions_t* actions,
                             const posix_spawnattr_t* attributes, char* const* arguments, char* const* environment) {
  before_spawn();
  const Starting here;
  return spawn<real::posix_spawn>(child, path, actions, attributes, arguments, environment);
}
RSOCK_EXPORT int posix_spawnp(pid_t* child, const char* file, const posix_spawn_file_actions_t* actions,
                              const posix_spawnattr_t* attributes, char* const* arguments, char* const* environment) {
  before_spawn();
  const Starting here;
  return spawn<real::posix_spawnp>(child, file, actions, attributes, arguments, environment);
}
// Here the program says that the new one shall have the descriptor; the child's own dup2 is inside libc.
RSOCK_EXPORT int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t* actions, int fd, int to) noexcept {
  if (find(fd)) to_tcp(fd, rsock::Reason::shared);
  return real::posix_spawn_file_actions_adddup2(actions, fd, to);
}
RSOCK_EXPORT int system(const char* command) {
  before_spawn();
  const Starting here;
  return real::system(command);
}
RSOCK_EXPORT FILE* popen(const char* command, const char* mode) {
  before_spawn();
  const Starting here;
  return with_room<real::popen>(command, mode);
}

RSOCK_EXPORT int rsock_prctl(int option, long a, long b, long c, long d) __asm__("prctl");
int rsock_prctl(int option, long a, long b, long c, long d) {
  before_prctl(option, a, b);
  return real::prctl(option, a, b, c, d);
}

RSOCK_EXPORT void _exit(int status) {
  if (started.load(std::memory_order_acquire)) finish_once();
  real::_exit(status);
  __builtin_unreachable();
}
RSOCK_EXPORT void _Exit(int status) noexcept {
  if (started.load(std::memory_order_acquire)) finish_once();
  real::_Exit(status);
  __builtin_unreachable();
}
