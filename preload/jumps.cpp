// longjmp and its kin. A handler may jump out of a call of ours that sleeps: what the call holds is given back before.

#include <setjmp.h>
#include <ucontext.h>

#include "core/sockets/signals.hpp"
#include "preload/shell.hpp"

namespace real = rsock::real;
namespace sockets = rsock::preload::sockets;

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
  const auto* buffer = static_cast<const __jmp_buf_tag*>(it.buffer);
  if (buffer->__mask_was_saved) rsock::mask_changes(buffer->__saved_mask.__val[0]);
  libc(it.buffer, it.value);
  __builtin_unreachable();
}

// The context may lie in what is left by the jump.
__attribute__((tls_model("initial-exec"))) constinit thread_local ucontext_t kept{};

int go_to(const ucontext_t* context) {
  rsock::mask_changes(rsock::kFaults);
  return real::setcontext(context);
}

void jump_to_kept(const sockets::Jump& it) {
  const auto stack = static_cast<uintptr_t>(kept.uc_mcontext.gregs[REG_RSP]);
  if (auto* first = sockets::detour(it, reinterpret_cast<const void*>(stack))) real::longjmp(first, 1);
  (void)go_to(&kept);
  __builtin_trap();
}

}  // namespace

RSOCK_EXPORT int setcontext(const ucontext_t* context) noexcept {
  const auto stack = static_cast<uintptr_t>(context->uc_mcontext.gregs[REG_RSP]);
  auto* const first = sockets::detour({jump_to_kept, nullptr, 0}, reinterpret_cast<const void*>(stack));
  if (!first) return go_to(context);
  const auto* const floats = context->uc_mcontext.fpregs;
  kept = *context;
  if (floats) kept.__fpregs_mem = *floats;
  kept.uc_mcontext.fpregs = &kept.__fpregs_mem;
  real::longjmp(first, 1);
  __builtin_unreachable();
}

// Not by the names of libc's header, which declares them with attributes of their own.
#define RSOCK_JUMP(name, libc)                                                                      \
  RSOCK_EXPORT __attribute__((noreturn)) void rsock_##name(void* buffer, int value) __asm__(#name); \
  void rsock_##name(void* buffer, int value) { jump<libc>({jump<libc>, buffer, value}); }

RSOCK_JUMP(longjmp, real::longjmp)
RSOCK_JUMP(_longjmp, real::longjmp)
RSOCK_JUMP(siglongjmp, real::longjmp)
RSOCK_JUMP(__longjmp_chk, real::__longjmp_chk)
