#include "core/fabric/shm/segment.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

namespace rsock::fabric::shm {
namespace {

constexpr int kSealed = F_SEAL_SHRINK | F_SEAL_GROW;

}  // namespace

Segment::Segment(Segment&& other) noexcept
    : base_(std::exchange(other.base_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Segment& Segment::operator=(Segment&& other) noexcept {
  std::swap(base_, other.base_);
  std::swap(size_, other.size_);
  return *this;
}

Segment::~Segment() {
  if (base_) sys::unmap(base_, size_);
}

Result<Segment> Segment::map(int descriptor, size_t size) {
  const auto base = sys::map(size, MAP_SHARED | MAP_NORESERVE, descriptor);
  if (!base) return Errno{base.error()};
  (void)sys::advise(*base, size, MADV_DONTFORK);
  (void)sys::advise(*base, size, MADV_DONTDUMP);
  Segment made;
  made.base_ = static_cast<std::byte*>(*base);
  made.size_ = size;
  return made;
}

Result<Segment> Segment::make(size_t rings, UniqueFd& descriptor) {
  const auto size = kRings + rings;
  // Beyond its limit on files a process is killed, not refused.
  rlimit limit{};
  if (kernel.syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, nullptr, &limit) != 0 || limit.rlim_cur < size) return Errno{ENOMEM};
  const long made = kernel.syscall(SYS_memfd_create, "rsock", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (made < 0) return Errno{errno};
  descriptor = UniqueFd(static_cast<int>(made));
  if (kernel.syscall(SYS_ftruncate, descriptor.get(), size) != 0) return Errno{errno};
  if (const auto sealed = sys::fcntl(descriptor.get(), F_ADD_SEALS, kSealed | F_SEAL_SEAL); !sealed)
    return Errno{sealed.error()};
  auto segment = map(descriptor.get(), size);
  if (segment) segment->queue().sleeping.store(1, std::memory_order_relaxed);
  return segment;
}

// A file with these seals and of this kind is a memfd without huge pages: its pages cannot be taken away, and cannot be
// lacking as long as there is memory at all. The seals are asked for first: a file system of the peer's may never answer anything else.
Result<Segment> Segment::open(int descriptor) {
  if (!sys::is_sealed(descriptor)) return Errno{EPROTO};
  struct statfs kind {};
  struct stat facts {};
  if (const auto told = sys::file_system_of(descriptor, kind); !told) return Errno{told.error()};
  if (const auto told = sys::stat_of(descriptor, facts); !told) return Errno{told.error()};
  const auto size = static_cast<size_t>(facts.st_size);
  if (kind.f_type != TMPFS_MAGIC) return Errno{EPROTO};
  if (!S_ISREG(facts.st_mode) || size < kRings || size > kLargestSegment || size % kPage != 0) return Errno{EPROTO};
  return map(descriptor, size);
}

std::byte* Segment::rings(uint64_t offset, uint64_t length) const {
  if (offset < kRings || offset > size_ || length > size_ - offset) return nullptr;
  return base_ + offset;
}

}  // namespace rsock::fabric::shm
