// Memory that the program takes away or protects is no longer known to be good. Until the library has started the
// kernel is called directly: allocators call these before the next definitions can be looked for.
//
// A thread that uses memory which another takes away meanwhile is on its own, as everywhere.

#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "core/base/system_call.hpp"
#include "preload/program_memory.hpp"
#include "preload/shell.hpp"

namespace real = rsock::real;
using namespace rsock::preload;

namespace {

bool may_pass_on() { return started.load(std::memory_order_acquire); }

template <class... Arguments>
long in_kernel(long number, Arguments... arguments) {
  const long answer = rsock::system_call(number, arguments...);
  return rsock::is_error(answer) ? fail(static_cast<int>(-answer)) : answer;
}

void* pointer(long value) { return reinterpret_cast<void*>(value); }

}  // namespace

RSOCK_EXPORT int munmap(void* at, size_t size) noexcept {
  const int result = may_pass_on() ? real::munmap(at, size) : static_cast<int>(in_kernel(SYS_munmap, at, size));
  memory::forget(at, size);
  return result;
}

RSOCK_EXPORT int mprotect(void* at, size_t size, int protection) noexcept {
  const int result = may_pass_on() ? real::mprotect(at, size, protection)
                                   : static_cast<int>(in_kernel(SYS_mprotect, at, size, protection));
  memory::forget(at, size);
  return result;
}

RSOCK_EXPORT void* mremap(void* at, size_t size, size_t new_size, int flags, ...) noexcept {
  va_list arguments;
  va_start(arguments, flags);
  void* new_at = va_arg(arguments, void*);
  va_end(arguments);
  void* result = may_pass_on() ? real::mremap(at, size, new_size, flags, new_at)
                               : pointer(in_kernel(SYS_mremap, at, size, new_size, flags, new_at));
  memory::forget(at, size);
  if (flags & MREMAP_FIXED) memory::forget(new_at, new_size);
  return result;
}

RSOCK_EXPORT void* mmap(void* at, size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  void* result = may_pass_on() ? real::mmap(at, size, protection, flags, fd, offset)
                               : pointer(in_kernel(SYS_mmap, at, size, protection, flags, fd, offset));
  if (flags & MAP_FIXED) memory::forget(at, size);
  return result;
}
RSOCK_EXPORT_ALIAS(mmap64, mmap);
