#include "core/engine/service/kernel_rings.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string_view>

#include "core/base/proc.hpp"

namespace rsock::engine {
namespace {

constexpr std::string_view kRing = "anon_inode:[io_uring]";
constexpr int kShare = 100;  // of the time goes by between two looks, for one that a look takes

bool names_ring(int folder, const char* number) {
  char name[kRing.size() + 1];
  const long length = system_call(SYS_readlinkat, folder, number, name, sizeof name);
  return length > 0 && std::string_view(name, static_cast<size_t>(length)) == kRing;
}

}  // namespace

void KernelRings::open() {
  auto folder = out_of_the_way([] { return sys::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0); });
  if (folder) folder_ = std::move(*folder);
}

bool KernelRings::found() {
  if (!wanted_) return false;
  const auto begun = now();
  if (begun < next_) return false;
  found_ = look();
  wanted_ = false;
  const auto ended = now();
  next_ = ended + kShare * (ended - begun);
  return found_;
}

bool KernelRings::look() const {
  if (system_call(SYS_lseek, folder_.get(), 0, SEEK_SET) < 0) return false;
  bool is_there = false;
  (void)sys::each_name(folder_.get(),
                       [&](const char* number) { return !(is_there = names_ring(folder_.get(), number)); });
  return is_there;
}

}  // namespace rsock::engine
