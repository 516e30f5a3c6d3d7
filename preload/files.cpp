// Calls that make descriptors of what is no socket of ours. They concern us only where there is no number
// left for them, since the library has some: then it gives those back, and the call is made again.

#include <cstring>
#include <string_view>

#include "preload/shell.hpp"

namespace real = rsock::real;
using namespace rsock::preload;

namespace {

// What failed has written into the name, which ends with so many characters of the program's own.
template <class Libc>
int with_name(char* name, int suffix, Libc libc) {
  constexpr std::string_view kFree = "XXXXXX";
  const int before = errno;
  const int fd = libc();
  if (!failed(fd) || errno != EMFILE || !made_room()) return fd;
  std::memcpy(name + std::strlen(name) - static_cast<size_t>(suffix) - kFree.size(), kFree.data(), kFree.size());
  errno = before;
  return libc();
}

}  // namespace

RSOCK_EXPORT int socketpair(int domain, int type, int protocol, int* ends) noexcept {
  return with_room<real::socketpair>(domain, type, protocol, ends);
}

// The variadic ones are defined by the way in which the ABI passes their arguments, see calls.def.

RSOCK_EXPORT int rsock_open(const char* path, int flags, mode_t mode) __asm__("open");
int rsock_open(const char* path, int flags, mode_t mode) { return with_room<real::open>(path, flags, mode); }
RSOCK_EXPORT __attribute__((alias("open"))) decltype(rsock_open) __open;

RSOCK_EXPORT int rsock_open64(const char* path, int flags, mode_t mode) __asm__("open64");
int rsock_open64(const char* path, int flags, mode_t mode) { return with_room<real::open64>(path, flags, mode); }
RSOCK_EXPORT __attribute__((alias("open64"))) decltype(rsock_open64) __open64;

RSOCK_EXPORT int rsock_openat(int folder, const char* path, int flags, mode_t mode) __asm__("openat");
int rsock_openat(int folder, const char* path, int flags, mode_t mode) {
  return with_room<real::openat>(folder, path, flags, mode);
}
RSOCK_EXPORT int rsock_openat64(int folder, const char* path, int flags, mode_t mode) __asm__("openat64");
int rsock_openat64(int folder, const char* path, int flags, mode_t mode) {
  return with_room<real::openat64>(folder, path, flags, mode);
}

// What fortified programs call where they give no mode: to ask for a file to be made is a mistake then, which
// ends the program.
namespace {

void demand_mode(int flags) {
  if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) __chk_fail();
}

}  // namespace

RSOCK_EXPORT int __open_2(const char* path, int flags) {
  demand_mode(flags);
  return rsock_open(path, flags, 0);
}
RSOCK_EXPORT int __open64_2(const char* path, int flags) {
  demand_mode(flags);
  return rsock_open64(path, flags, 0);
}
RSOCK_EXPORT int __openat_2(int folder, const char* path, int flags) {
  demand_mode(flags);
  return rsock_openat(folder, path, flags, 0);
}
RSOCK_EXPORT int __openat64_2(int folder, const char* path, int flags) {
  demand_mode(flags);
  return rsock_openat64(folder, path, flags, 0);
}

RSOCK_EXPORT int creat(const char* path, mode_t mode) { return with_room<real::creat>(path, mode); }
RSOCK_EXPORT int creat64(const char* path, mode_t mode) { return with_room<real::creat64>(path, mode); }

RSOCK_EXPORT int mkstemp(char* name) {
  return with_name(name, 0, [=] { return real::mkstemp(name); });
}
RSOCK_EXPORT_ALIAS(mkstemp64, mkstemp);
RSOCK_EXPORT int mkostemp(char* name, int flags) {
  return with_name(name, 0, [=] { return real::mkostemp(name, flags); });
}
RSOCK_EXPORT_ALIAS(mkostemp64, mkostemp);
RSOCK_EXPORT int mkstemps(char* name, int suffix) {
  return with_name(name, suffix, [=] { return real::mkstemps(name, suffix); });
}
RSOCK_EXPORT_ALIAS(mkstemps64, mkstemps);
RSOCK_EXPORT int mkostemps(char* name, int suffix, int flags) {
  return with_name(name, suffix, [=] { return real::mkostemps(name, suffix, flags); });
}
RSOCK_EXPORT_ALIAS(mkostemps64, mkostemps);

RSOCK_EXPORT int shm_open(const char* name, int flags, mode_t mode) {
  return with_room<real::shm_open>(name, flags, mode);
}
RSOCK_EXPORT int rsock_mq_open(const char* name, int flags, mode_t mode, mq_attr* attributes) __asm__("mq_open");
int rsock_mq_open(const char* name, int flags, mode_t mode, mq_attr* attributes) {
  return with_room<real::mq_open>(name, flags, mode, attributes);
}
RSOCK_EXPORT int posix_openpt(int flags) { return with_room<real::posix_openpt>(flags); }

RSOCK_EXPORT FILE* fopen(const char* path, const char* mode) { return with_room<real::fopen>(path, mode); }
RSOCK_EXPORT FILE* fopen64(const char* path, const char* mode) { return with_room<real::fopen64>(path, mode); }
RSOCK_EXPORT FILE* tmpfile() { return with_room<real::tmpfile>(); }
RSOCK_EXPORT FILE* tmpfile64() { return with_room<real::tmpfile64>(); }
RSOCK_EXPORT DIR* opendir(const char* path) { return with_room<real::opendir>(path); }

RSOCK_EXPORT int pipe(int* ends) noexcept { return with_room<real::pipe>(ends); }
RSOCK_EXPORT_ALIAS(__pipe, pipe);
RSOCK_EXPORT int pipe2(int* ends, int flags) noexcept { return with_room<real::pipe2>(ends, flags); }

RSOCK_EXPORT int eventfd(unsigned count, int flags) noexcept { return with_room<real::eventfd>(count, flags); }
RSOCK_EXPORT int timerfd_create(clockid_t clock, int flags) noexcept {
  return with_room<real::timerfd_create>(clock, flags);
}
RSOCK_EXPORT int signalfd(int fd, const sigset_t* mask, int flags) noexcept {
  return with_room<real::signalfd>(fd, mask, flags);
}
RSOCK_EXPORT int inotify_init() noexcept { return with_room<real::inotify_init>(); }
RSOCK_EXPORT int inotify_init1(int flags) noexcept { return with_room<real::inotify_init1>(flags); }
RSOCK_EXPORT int fanotify_init(unsigned flags, unsigned events_flags) noexcept {
  return with_room<real::fanotify_init>(flags, events_flags);
}
RSOCK_EXPORT int open_by_handle_at(int mount, file_handle* handle, int flags) {
  return with_room<real::open_by_handle_at>(mount, handle, flags);
}
RSOCK_EXPORT int memfd_create(const char* name, unsigned flags) noexcept {
  return with_room<real::memfd_create>(name, flags);
}
RSOCK_EXPORT int pidfd_open(pid_t process, unsigned flags) noexcept {
  return with_room<real::pidfd_open>(process, flags);
}
