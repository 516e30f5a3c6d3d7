// Memory that the program takes away or protects is no longer known to be good. The kernel is called directly: allocators call
// these before the next definitions can be looked for.
//
// A thread that uses memory which another takes away meanwhile is on its own, as everywhere.

#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "preload/program_memory.hpp"
#include "preload/shell.hpp"

using namespace rsock::preload;

namespace {

#if !defined(__x86_64__)
#error "system calls are made as on x86-64"
#endif

long in_kernel(long number, long a, long b, long c = 0, long d = 0, long e = 0, long f = 0) {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  if (result >= 0 || result < -4095) return result;
  return fail(static_cast<int>(-result));
}

long address(const void* at) {
  return static_cast<long>(reinterpret_cast<uintptr_t>(at));
}
void* pointer(long value) {
  return reinterpret_cast<void*>(value);
}

}  // namespace

RSOCK_EXPORT int munmap(void* at, size_t size) noexcept {
  const auto result = in_kernel(SYS_munmap, address(at), static_cast<long>(size));
  memory::forget(at, size);
  return static_cast<int>(result);
}

RSOCK_EXPORT int mprotect(void* at, size_t size, int protection) noexcept {
  const auto result = in_kernel(SYS_mprotect, address(at), static_cast<long>(size), protection);
  memory::forget(at, size);
  return static_cast<int>(result);
}

RSOCK_EXPORT void* mremap(void* at, size_t size, size_t new_size, int flags, ...) noexcept {
  va_list arguments;
  va_start(arguments, flags);
  void* new_at = va_arg(arguments, void*);
  va_end(arguments);
  const auto result = in_kernel(SYS_mremap, address(at), static_cast<long>(size), static_cast<long>(new_size), flags, address(new_at));
  memory::forget(at, size);
  if (flags & MREMAP_FIXED) memory::forget(new_at, new_size);
  return pointer(result);
}

RSOCK_EXPORT void* mmap(void* at, size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  const auto result = in_kernel(SYS_mmap, address(at), static_cast<long>(size), protection, flags, fd, offset);
  if (flags & MAP_FIXED) memory::forget(at, size);
  return pointer(result);
}
RSOCK_EXPORT_ALIAS(mmap64, mmap);
