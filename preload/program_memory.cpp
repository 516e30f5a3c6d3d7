#include "preload/program_memory.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>

#include <cerrno>

#include "core/base/copy.hpp"
#include "core/base/system_call.hpp"

namespace rsock::preload {

bool get_bytes(void* to, const void* from, size_t size) {
  if (!readable(from, size)) return false;
  if (copy(to, from, size)) return true;
  memory::forget(from, size);
  return false;
}

bool put_bytes(void* to, const void* from, size_t size) {
  if (!writable(to, size)) return false;
  if (copy(to, from, size)) return true;
  memory::forget(to, size);
  return false;
}

}  // namespace rsock::preload

namespace rsock::preload::memory {
namespace {

// Both let the kernel touch the word at `address` in a call that changes nothing. Only EFAULT is a verdict: a
// sandbox may forbid the calls.
bool can_read(uintptr_t address) {
  constexpr long kNoSuchHow = -1;  // looked at after the set was read
  constexpr long kSetSize = 8;
  return system_call(SYS_rt_sigprocmask, kNoSuchHow, address & ~uintptr_t{7}, nullptr, kSetSize) != -EFAULT;
}
bool can_write(uintptr_t address) {
  static constinit uint32_t nobody_waits = 0;
  // Adds 0 atomically, then would wake waiters of a word that holds 0x7ff: none, or one for nothing.
  constexpr long kAddZero = FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0x7ff);
  return system_call(SYS_futex, &nobody_waits, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, nullptr, address & ~uintptr_t{3},
                     kAddZero) != -EFAULT;
}

constinit std::atomic<bool> blind{false};

bool good_page(uintptr_t address, Use use) {
  if (remembers(address, use)) return true;
  const bool good = use == Use::read ? can_read(address) : can_write(address);
  const uintptr_t page = address >> kPageBits;
  if (good) remembered[static_cast<size_t>(use)][page % kRemembered].store(page, std::memory_order_relaxed);
  return good;
}

}  // namespace

void forget(const void* at, size_t size) {
  const auto first = reinterpret_cast<uintptr_t>(at) >> kPageBits;
  const auto count = (size >> kPageBits) + 2;  // it may begin and end within pages
  for (auto& table : remembered)
    for (size_t i = 0; i < kRemembered && i < count; ++i) {
      auto& slot = table[(first + i) % kRemembered];
      const auto page = slot.load(std::memory_order_relaxed);
      if (page >= first && page - first < count) slot.store(0, std::memory_order_relaxed);
    }
}

void probe_no_more() { blind.store(true, std::memory_order_relaxed); }

size_t probe(uintptr_t at, size_t size, Use use) {
  if (blind.load(std::memory_order_relaxed)) return size;
  constexpr uintptr_t kPage = uintptr_t{1} << kPageBits;
  size_t done = 0;
  while (done < size) {
    if (at + done < kPage || at + done >= kEndOfPrograms || !good_page(at + done, use)) break;
    done += kPage - (at + done) % kPage;
  }
  return done < size ? done : size;
}

}  // namespace rsock::preload::memory
