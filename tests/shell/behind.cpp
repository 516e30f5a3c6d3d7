// A library that is preloaded behind librsock.so, as torsocks, libfaketime and others are. Its clock stands still, and
// of syscall(2) and of waits it serves what the program may ask for: what the library does for itself has to pass it
// by.

#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "core/base/system_call.hpp"

#define SHELL_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

[[noreturn]] void unexpected(const char* what) {
  for (const char* part : {"behind: ", what, " was called\n"})
    rsock::system_call(SYS_write, 2, part, std::strlen(part));
  std::abort();
}

int stand_still(timespec* time) {
  *time = {1'000'000'000, 0};
  return 0;
}

}  // namespace

SHELL_EXPORT int shell_behind_calls;
int shell_behind_calls = 0;

SHELL_EXPORT long syscall(long number, ...) noexcept {
  if (number != SYS_gettid) unexpected("syscall");
  ++shell_behind_calls;
  return rsock::system_call(number);
}

SHELL_EXPORT int munmap(void* at, size_t size) noexcept {
  if (!at) ++shell_behind_calls;  // the program's own, which nobody else would make
  return static_cast<int>(rsock::system_call(SYS_munmap, at, size));
}

// The program's own calls of these: none.
SHELL_EXPORT int madvise(void*, size_t, int) noexcept { unexpected("madvise"); }
SHELL_EXPORT int ftruncate(int, off_t) noexcept { unexpected("ftruncate"); }
SHELL_EXPORT int getrlimit(__rlimit_resource_t, rlimit*) noexcept { unexpected("getrlimit"); }
SHELL_EXPORT ssize_t readlink(const char*, char*, size_t) noexcept { unexpected("readlink"); }

SHELL_EXPORT int clock_gettime(clockid_t, timespec* time) noexcept { return stand_still(time); }
SHELL_EXPORT int timespec_get(timespec* time, int base) noexcept {
  stand_still(time);
  return base;
}
SHELL_EXPORT int nanosleep(const timespec*, timespec*) { unexpected("nanosleep"); }
SHELL_EXPORT int clock_nanosleep(clockid_t, int, const timespec*, timespec*) { unexpected("clock_nanosleep"); }
SHELL_EXPORT int ppoll(pollfd*, nfds_t, const timespec*, const sigset_t*) { unexpected("ppoll"); }
SHELL_EXPORT int epoll_pwait(int, epoll_event*, int, int, const sigset_t*) { unexpected("epoll_pwait"); }
SHELL_EXPORT int epoll_pwait2(int, epoll_event*, int, const timespec*, const sigset_t*) { unexpected("epoll_pwait2"); }
