#include "core/base/copy.hpp"

#include <cpuid.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>

#include <cerrno>
#include <cstdint>

#include "core/base/system_call.hpp"

#if !defined(__x86_64__)
#error "the copy that recovers from faults is written for x86-64"
#endif

// A fault in the code from `begin` up to `end` goes on at `to`. Each is an offset from where it stands.
struct Recovery {
  int32_t begin, end, to;
};

// A function of its own instructions, from which a handler may return to its end at any of them: it has no
// frame, and keeps nothing but what a caller expects to be changed. No sanitizer sees it.
//
// rdi: to, rsi: from, rdx: size. Up to 128 bytes, and at both ends of more, halves are read before either is
// written: they may overlap in the middle. A loop copies what is between the ends, to an aligned destination;
// large copies are left to the processor where it is good at them.
extern "C" {
// From the linker.
__attribute__((visibility("hidden"))) extern const Recovery __start_rsock_faults, __stop_rsock_faults;
// Of the processor: the size from which on `rep movsb` is the fastest way, and whether it has AVX. Before
// they are known, the way that any has.
__attribute__((visibility("hidden"))) size_t rsock_copy_by_string = SIZE_MAX;
__attribute__((visibility("hidden"))) bool rsock_copy_by_avx = false;
}
asm(R"(
  .pushsection .text
  .p2align 6
  .globl rsock_copy
  .hidden rsock_copy
  .type rsock_copy, @function
rsock_copy:
  .cfi_startproc
  endbr64
  movl $1, %eax
  cmpq $16, %rdx
  jb 1f
  movups (%rsi), %xmm0
  movups -16(%rsi,%rdx), %xmm1
  cmpq $32, %rdx
  ja 4f
  movups %xmm0, (%rdi)
  movups %xmm1, -16(%rdi,%rdx)
  ret
1:
  cmpl $8, %edx
  jb 2f
  movq (%rsi), %rcx
  movq -8(%rsi,%rdx), %r8
  movq %rcx, (%rdi)
  movq %r8, -8(%rdi,%rdx)
  ret
2:
  cmpl $4, %edx
  jb 3f
  movl (%rsi), %ecx
  movl -4(%rsi,%rdx), %r8d
  movl %ecx, (%rdi)
  movl %r8d, -4(%rdi,%rdx)
  ret
3:
  testl %edx, %edx
  jz 9f
  movzbl (%rsi), %ecx
  movzbl -1(%rsi,%rdx), %r8d
  cmpl $3, %edx
  jne 8f
  movzbl 1(%rsi), %r9d
  movb %r9b, 1(%rdi)
8:
  movb %cl, (%rdi)
  movb %r8b, -1(%rdi,%rdx)
9:
  ret
4:
  movups 16(%rsi), %xmm2
  movups -32(%rsi,%rdx), %xmm3
  cmpq $64, %rdx
  ja 5f
  movups %xmm0, (%rdi)
  movups %xmm2, 16(%rdi)
  movups %xmm3, -32(%rdi,%rdx)
  movups %xmm1, -16(%rdi,%rdx)
  ret
5:
  cmpq $128, %rdx
  ja 10f
  movups 32(%rsi), %xmm4
  movups 48(%rsi), %xmm5
  movups -64(%rsi,%rdx), %xmm6
  movups -48(%rsi,%rdx), %xmm7
  movups %xmm0, (%rdi)
  movups %xmm2, 16(%rdi)
  movups %xmm4, 32(%rdi)
  movups %xmm5, 48(%rdi)
  movups %xmm6, -64(%rdi,%rdx)
  movups %xmm7, -48(%rdi,%rdx)
  movups %xmm3, -32(%rdi,%rdx)
  movups %xmm1, -16(%rdi,%rdx)
  ret
10:
  cmpq rsock_copy_by_string(%rip), %rdx
  ja 30f
  cmpb $0, rsock_copy_by_avx(%rip)
  je 20f
  vmovups (%rsi), %ymm0
  vmovups -128(%rsi,%rdx), %ymm4
  vmovups -96(%rsi,%rdx), %ymm5
  vmovups -64(%rsi,%rdx), %ymm6
  vmovups -32(%rsi,%rdx), %ymm7
  leaq -128(%rdi,%rdx), %rcx
  cmpq $256, %rdx
  ja 15f
  vmovups 32(%rsi), %ymm1
  vmovups 64(%rsi), %ymm2
  vmovups 96(%rsi), %ymm3
  vmovups %ymm0, (%rdi)
  vmovups %ymm1, 32(%rdi)
  vmovups %ymm2, 64(%rdi)
  vmovups %ymm3, 96(%rdi)
  jmp 12f
15:
  movq %rdi, %r8
  orq $31, %r8
  subq %rdi, %r8
  leaq 1(%rsi,%r8), %rsi
  vmovups %ymm0, (%rdi)
  leaq 1(%rdi,%r8), %rdi
  .p2align 4
11:
  vmovups (%rsi), %ymm0
  vmovups 32(%rsi), %ymm1
  vmovups 64(%rsi), %ymm2
  vmovups 96(%rsi), %ymm3
  subq $-128, %rsi
  vmovaps %ymm0, (%rdi)
  vmovaps %ymm1, 32(%rdi)
  vmovaps %ymm2, 64(%rdi)
  vmovaps %ymm3, 96(%rdi)
  subq $-128, %rdi
  cmpq %rcx, %rdi
  jb 11b
12:
  vmovups %ymm4, (%rcx)
  vmovups %ymm5, 32(%rcx)
  vmovups %ymm6, 64(%rcx)
  vmovups %ymm7, 96(%rcx)
  vzeroupper
  ret
20:
  movups -64(%rsi,%rdx), %xmm4
  movups -48(%rsi,%rdx), %xmm5
  leaq -64(%rdi,%rdx), %rcx
  movq %rdi, %r8
  orq $15, %r8
  subq %rdi, %r8
  leaq 1(%rsi,%r8), %rsi
  movups %xmm0, (%rdi)
  leaq 1(%rdi,%r8), %rdi
  .p2align 4
21:
  movups (%rsi), %xmm0
  movups 16(%rsi), %xmm2
  movups 32(%rsi), %xmm6
  movups 48(%rsi), %xmm7
  addq $64, %rsi
  movaps %xmm0, (%rdi)
  movaps %xmm2, 16(%rdi)
  movaps %xmm6, 32(%rdi)
  movaps %xmm7, 48(%rdi)
  addq $64, %rdi
  cmpq %rcx, %rdi
  jb 21b
  movups %xmm4, (%rcx)
  movups %xmm5, 16(%rcx)
  movups %xmm3, 32(%rcx)
  movups %xmm1, 48(%rcx)
  ret
30:
  movups 32(%rsi), %xmm4
  movups 48(%rsi), %xmm5
  movups %xmm0, (%rdi)
  movups %xmm2, 16(%rdi)
  movups %xmm4, 32(%rdi)
  movups %xmm5, 48(%rdi)
  movq %rdi, %rcx
  orq $63, %rcx
  subq %rdi, %rcx
  incq %rcx
  addq %rcx, %rdi
  addq %rcx, %rsi
  subq %rcx, %rdx
  movq %rdx, %rcx
  rep movsb
  ret
40:
  xorl %eax, %eax
  ret
  .cfi_endproc
  .size rsock_copy, . - rsock_copy
  .popsection
  .pushsection rsock_faults, "a"
  .long rsock_copy - ., 40b - ., 40b - .
  .popsection
)");

namespace rsock {
namespace {

// Slower by far. Not every sandbox allows it.
bool copy_by_kernel(void* to, const void* from, size_t size) {
  const iovec one{to, size}, other{const_cast<void*>(from), size};
  const long self = system_call(SYS_getpid), wanted = static_cast<long>(size);
  const long got = system_call(SYS_process_vm_readv, self, &one, 1, &other, 1, 0);
  if (got == -EPERM || got == -ENOSYS) return rsock_copy(to, from, size);
  // Of special memory, say of a device, the kernel copies the near end only.
  return got == wanted || system_call(SYS_process_vm_writev, self, &other, 1, &one, 1, 0) == wanted;
}

// One that is pending already is for whoever takes it, which may be another thread.
bool copy_opened(void* to, const void* from, size_t size) {
  uint64_t pending = 0, mask = 0;
  system_call(SYS_rt_sigpending, &pending, sizeof pending);
  if (pending & kFaults) return copy_by_kernel(to, from, size);
  opened.store(kFaults, std::memory_order_relaxed);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  system_call(SYS_rt_sigprocmask, SIG_UNBLOCK, &kFaults, &mask, sizeof mask);
  const bool copied = rsock_copy(to, from, size);
  system_call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, sizeof mask);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  opened.store(0, std::memory_order_relaxed);
  return copied;
}

uintptr_t place(const int32_t& offset) {
  return reinterpret_cast<uintptr_t>(&offset) + static_cast<uintptr_t>(intptr_t{offset});
}

// As glibc's memcpy chooses.
[[gnu::constructor]] void know_processor() {
  constexpr size_t kByString = 2048;
  constexpr unsigned kFastString = 1u << 9;  // ERMS, in ebx of leaf 7
  unsigned a, b, c, d;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & kFastString)) rsock_copy_by_string = kByString;
  __builtin_cpu_init();
  rsock_copy_by_avx = __builtin_cpu_supports("avx");
}

}  // namespace

thread_local constinit std::atomic<Faults> faults{Faults::unknown};
thread_local constinit std::atomic<uint64_t> opened{0};

bool copy_unsure(void* to, const void* from, size_t size) {
  if (faults.load(std::memory_order_relaxed) == Faults::unknown) {
    uint64_t mask = 0;
    system_call(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &mask, sizeof mask);
    faults.store(mask & kFaults ? Faults::blocked : Faults::handled, std::memory_order_relaxed);
  }
  if (faults.load(std::memory_order_relaxed) == Faults::handled) return rsock_copy(to, from, size);
  return copy_opened(to, from, size);
}

bool recover(void* context) {
  auto& at = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP];
  for (const auto* each = &__start_rsock_faults; each != &__stop_rsock_faults; ++each) {
    const auto code = static_cast<uintptr_t>(at);
    if (code < place(each->begin) || code >= place(each->end)) continue;
    at = static_cast<greg_t>(place(each->to));
    return true;
  }
  return false;
}

}  // namespace rsock
