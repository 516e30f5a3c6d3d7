// longjmp and its kin. A handler may jump out of a call of ours that sleeps: what the call holds is given back before.

#include <setjmp.h>

#include "core/sockets/signals.hpp"
#include "preload/shell.hpp"

namespace real = rsock::real;
namespace sockets = rsock::sockets;

namespace {

// The stack pointer in libc's buffer, which scrambles it with a number of the process; nullptr where that is not known.
const void* stack_pointer(const void* buffer) {
#if defined(__x86_64__)
  constexpr int kStackPointer = 6, kRotation = 17;
  const auto scrambled = static_cast<const uintptr_t*>(buffer)[kStackPointer];
  uintptr_t guard;
  asm("mov %%fs:0x30, %0" : "=r"(guard));
  return reinterpret_cast<const void*>((scrambled >> kRotation | scrambled << (64 - kRotation)) ^ guard);
#else
  (void)buffer;
  return nullptr;
#endif
}

template <auto& libc>
[[noreturn]] void jump(const sockets::Jump& it) {
  // Calls may lie within one another: a handler that interrupted one sleeps in another.
  if (auto* first = sockets::detour(it, stack_pointer(it.buffer))) real::longjmp(first, 1);
  libc(it.buffer, it.value);
  __builtin_unreachable();
}

}  // namespace

// Not by the names of libc's header, which declares them with attributes of their own.
#define RSOCK_JUMP(name, libc) \
  RSOCK_EXPORT __attribute__((noreturn)) void rsock_##name(void* buffer, int value) __asm__(#name); \
  void rsock_##name(void* buffer, int value) { jump<libc>({jump<libc>, buffer, value}); }

RSOCK_JUMP(longjmp, real::longjmp)
RSOCK_JUMP(_longjmp, real::longjmp)
RSOCK_JUMP(siglongjmp, real::longjmp)
RSOCK_JUMP(__longjmp_chk, real::__longjmp_chk)
