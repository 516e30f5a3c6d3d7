// io_uring: a ring is refused where flows may be in lanes, as by a kernel that has none, or takes all flows to TCP (the
// option io_uring). liburing enters the kernel by instructions of its own, so those of its functions that make a ring
// are taken over; they give -errno.
//
// liburing may be there for one library alone, which dlopen brought: then no search in link order finds it.

#include "preload/io_uring.hpp"

#include <dlfcn.h>
#include <sys/syscall.h>

#include "preload/shell.hpp"

namespace sockets = rsock::preload::sockets;

namespace rsock::preload {

bool may_make_ring() {
  ensure_started();
  if (sockets::idle()) return true;
  const int saved = errno;
  Uncancellable here;
  const bool may = sockets::before_ring();
  errno = saved;
  return may;
}

namespace {

void* liburings(const char* name) {
  void* found = dlsym(RTLD_NEXT, name);
  for (const char* library : {"liburing.so.2", "liburing-ffi.so.2", "liburing.so.1"}) {
    if (found) break;
    void* const handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
    if (!handle) continue;
    found = dlsym(handle, name);
    dlclose(handle);
  }
  return found;
}

// A program that calls what is not there only asks whether it is.
template <class... Arguments>
int make_ring(const char* name, Arguments... arguments) {
  if (!may_make_ring()) return -ENOSYS;
  const int saved = errno;
  const auto next = reinterpret_cast<int (*)(Arguments...)>(liburings(name));
  errno = saved;
  if (!next) return -ENOSYS;
  const int result = next(arguments...);
  return result == -EMFILE && made_room() ? next(arguments...) : result;
}

}  // namespace
}  // namespace rsock::preload

using rsock::preload::make_ring;

RSOCK_EXPORT int io_uring_setup(unsigned entries, void* parameters) {
  return make_ring("io_uring_setup", entries, parameters);
}
RSOCK_EXPORT int io_uring_queue_init(unsigned entries, void* ring, unsigned flags) {
  return make_ring("io_uring_queue_init", entries, ring, flags);
}
RSOCK_EXPORT int io_uring_queue_init_params(unsigned entries, void* ring, void* parameters) {
  return make_ring("io_uring_queue_init_params", entries, ring, parameters);
}
RSOCK_EXPORT int io_uring_queue_init_mem(unsigned entries, void* ring, void* parameters, void* memory, size_t size) {
  return make_ring("io_uring_queue_init_mem", entries, ring, parameters, memory, size);
}
