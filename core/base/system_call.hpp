#pragma once
// A system call by an instruction of our own. libc's syscall(2) is a name like any other, which a library that is
// preloaded behind this one may have taken over for the program: torsocks has, and a second copy of this library.
//
// No cancellation point: a cancelled thread can never unwind out of it with one of our locks held. Any thread, signal
// handlers and children of vfork included; works before the loader has bound anything.

#include <cstdint>
#include <type_traits>

#if !defined(__x86_64__)
#error "system calls are made as on x86-64"
#endif

namespace rsock {

// Of an int that is given to a register as such, half the register is anything.
template <class Argument>
long system_call_word(Argument argument) {
  if constexpr (std::is_null_pointer_v<Argument>)
    return 0;
  else if constexpr (std::is_pointer_v<Argument>)
    return static_cast<long>(reinterpret_cast<uintptr_t>(argument));
  else
    return static_cast<long>(argument);
}

// As the kernel answers: an errno is negative. errno itself is not touched.
inline long system_call_of_words(long number, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

template <class A = long, class B = long, class C = long, class D = long, class E = long, class F = long>
long system_call(long number, A a = 0, B b = 0, C c = 0, D d = 0, E e = 0, F f = 0) {
  return system_call_of_words(number, system_call_word(a), system_call_word(b), system_call_word(c),
                              system_call_word(d), system_call_word(e), system_call_word(f));
}

constexpr bool is_error(long answer) { return answer < 0 && answer >= -4095; }

}  // namespace rsock
