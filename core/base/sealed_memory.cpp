#include "core/base/sealed_memory.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace rsock {

Result<SealedMemory> SealedMemory::map(int descriptor, size_t size, int flags) {
  const auto base = (flags & MAP_POPULATE) ? sys::map(size, MAP_SHARED | flags, descriptor)
                                           : sys::map_unlocked(size, MAP_SHARED | flags, descriptor);
  if (!base) return Errno{base.error()};
  (void)sys::advise(*base, size, MADV_DONTFORK);
  (void)sys::advise(*base, size, MADV_DONTDUMP);
  SealedMemory made;
  made.base_ = static_cast<std::byte*>(*base);
  made.size_ = size;
  return made;
}

Result<SealedMemory> SealedMemory::make(const char* name, size_t size, UniqueFd& descriptor) {
  // Beyond its limit on files a process is killed, not refused.
  rlimit limit{};
  if (kernel.syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, nullptr, &limit) != 0 || limit.rlim_cur < size)
    return Errno{ENOMEM};
  auto made = out_of_the_way([&] { return sys::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING); });
  if (!made) return Errno{made.error()};
  descriptor = std::move(*made);
  if (kernel.syscall(SYS_ftruncate, descriptor.get(), size) != 0) return Errno{errno};
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  if (const auto sealed = sys::fcntl(descriptor.get(), F_ADD_SEALS, kSeals); !sealed) return Errno{sealed.error()};
  return map(descriptor.get(), size, MAP_NORESERVE);
}

// A file with these seals and of this kind is a memfd without huge pages: its pages cannot be taken away, and
// cannot be lacking as long as there is memory at all. The seals are asked for first: a file system of the
// other's may never answer anything else.
Result<SealedMemory> SealedMemory::open(int descriptor, size_t least, size_t most, Pages pages) {
  if (!sys::is_sealed(descriptor)) return Errno{EPROTO};
  struct statfs kind {};
  struct stat facts {};
  if (const auto told = sys::file_system_of(descriptor, kind); !told) return Errno{told.error()};
  if (const auto told = sys::stat_of(descriptor, facts); !told) return Errno{told.error()};
  const auto size = static_cast<size_t>(facts.st_size);
  if (kind.f_type != TMPFS_MAGIC) return Errno{EPROTO};
  if (!S_ISREG(facts.st_mode) || size < least || size > most || size % kPage != 0) return Errno{EPROTO};
  return map(descriptor, size, pages == Pages::at_once ? MAP_POPULATE : MAP_NORESERVE);
}

}  // namespace rsock
