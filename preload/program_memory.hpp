#pragma once
// Whether memory that the program points to may be touched. The kernel answers a bad pointer with EFAULT; so
// must we, without faulting and without a system call each time.
//
// A page that was found good is remembered for the process, so a buffer that is used again costs a comparison, until
// the program unmaps or protects it (memory.cpp). Any thread, any signal handler; errno untouched. Children of fork
// inherit what is remembered, which is still true there.
//
// That it may be touched is a guess: another thread may take it away, and who cuts a file that the program
// has mapped need not be in the process. So nothing of the program's is touched but by get() and put(), and
// by the core's copies, which recover.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace rsock::preload {

bool readable(const void* at, size_t size);
bool writable(const void* at, size_t size);

// What the program points to, copied to our memory and back. False: EFAULT.
bool get_bytes(void* to, const void* from, size_t size);
bool put_bytes(void* to, const void* from, size_t size);
template <class T>
[[nodiscard]] bool get(T& to, const void* from) {
  static_assert(std::is_trivially_copyable_v<T>);
  return get_bytes(&to, from, sizeof to);
}
template <class T>
[[nodiscard]] bool get_all(std::span<T> to, const void* from) {
  return get_bytes(to.data(), from, to.size_bytes());
}
template <class T>
[[nodiscard]] bool put(void* to, const T& from) {
  static_assert(std::is_trivially_copyable_v<T>);
  return put_bytes(to, &from, sizeof from);
}
template <class T>
[[nodiscard]] bool put_all(void* to, std::span<T> from) {
  return put_bytes(to, from.data(), from.size_bytes());
}

namespace memory {

inline constexpr unsigned kPageBits = 12;
inline constexpr size_t kRemembered = 4096;  // pages, by their low bits: 16 MiB of buffers
enum class Use { read, write };

// Before a filter of system calls: nothing is probed from now on, and whether memory is good turns out when it is
// copied.
void probe_no_more();
// The bytes from `at` on that may be touched, `size` at most, size > 0.
size_t probe(uintptr_t at, size_t size, Use use);

// Page 0 is never good, so 0 means nothing. Shared by all threads, since memory is.
inline constinit std::atomic<uintptr_t> remembered[2][kRemembered]{};

inline bool remembers(uintptr_t address, Use use) {
  const uintptr_t page = address >> kPageBits;
  return page != 0 && remembered[static_cast<size_t>(use)][page % kRemembered].load(std::memory_order_relaxed) == page;
}

// These pages are no longer what they were.
void forget(const void* at, size_t size);

inline size_t usable(const void* at, size_t size, Use use) {
  if (size == 0) return 0;
  const auto first = reinterpret_cast<uintptr_t>(at);
  const uintptr_t last = first + size - 1;
  if (last >= first && last - first < (uintptr_t{1} << kPageBits) && remembers(first, use) && remembers(last, use))
    return size;
  return probe(first, size, use);
}
inline bool good(const void* at, size_t size, Use use) { return usable(at, size, use) == size; }

// Where the kernel refuses a buffer before it knows whether it will be used.
inline constexpr uintptr_t kEndOfPrograms = (uintptr_t{1} << 47) - (uintptr_t{1} << kPageBits);
inline bool beyond_programs(const void* at, size_t size) {
  return size > kEndOfPrograms || reinterpret_cast<uintptr_t>(at) > kEndOfPrograms - size;
}

}  // namespace memory

inline bool readable(const void* at, size_t size) { return memory::good(at, size, memory::Use::read); }
inline bool writable(const void* at, size_t size) { return memory::good(at, size, memory::Use::write); }

}  // namespace rsock::preload
