#pragma once
// Copies from or to memory of the program, which may be no memory at all: a pointer may be wild, a file that
// was mapped may have been cut, another thread may have unmapped it. The kernel's calls answer EFAULT then,
// and so must ours, with a lock held or not.
//
// Code that touches such memory says in the section rsock_faults where it goes on after a fault (struct
// Recovery). The handlers of SIGSEGV and SIGBUS (preload/signals.cpp) look there. A thread that blocks these
// signals would be ended by its fault: it opens them while it copies. Whether it blocks them has to be asked
// once, and again only after its mask may have changed.

#include <signal.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace rsock {

inline constexpr uint64_t kFaults = uint64_t{1} << (SIGSEGV - 1) | uint64_t{1} << (SIGBUS - 1);
enum class Faults : unsigned char { unknown, handled, blocked };
extern thread_local constinit std::atomic<Faults> faults __attribute__((tls_model("initial-exec")));

// Those that the thread opens now. One that is sent meanwhile has to wait on.
extern thread_local constinit std::atomic<uint64_t> opened __attribute__((tls_model("initial-exec")));

// The thread's mask is about to change, and may block these then. To take faults for blocked is safe always.
inline void mask_changes(uint64_t blocked) {
  if (faults.load(std::memory_order_relaxed) != Faults::handled || (blocked & kFaults))
    faults.store(Faults::unknown, std::memory_order_relaxed);
}

// False if a byte could not be read or written; how much was copied before is not known. The two do not
// overlap.
extern "C" __attribute__((visibility("hidden"))) bool rsock_copy(void* to, const void* from, size_t size);
bool copy_unsure(void* to, const void* from, size_t size);
inline bool copy(void* to, const void* from, size_t size) {
  return faults.load(std::memory_order_relaxed) == Faults::handled ? rsock_copy(to, from, size)
                                                                   : copy_unsure(to, from, size);
}

// The word there, which the kernel has just written; 0 if it cannot be read any more. Where a compiler does not inline
// it, each object file has its own, and the linker keeps one: `?` lets what is said about the others go with them.
inline uint64_t word_at(const void* at) {
  uint64_t word = 0;
  asm volatile(R"(
1:movq %1, %0
2:.pushsection rsock_faults, "a?"
  .long 1b - ., 2b - ., 2b - .
  .popsection)"
               : "+r"(word)
               : "m"(*static_cast<const uint64_t*>(at)));
  return word;
}

// For the handler of a fault, with its third argument. True if it came from here: what was to be copied fails
// as soon as the handler returns.
bool recover(void* context);

}  // namespace rsock
