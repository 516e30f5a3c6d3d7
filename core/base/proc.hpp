#pragma once
// Files and folders of /proc. Any thread; as far as they can be read.

#include <dirent.h>
#include <sys/syscall.h>

#include <functional>
#include <string>
#include <vector>

#include "core/base/result.hpp"
#include "core/base/system_call.hpp"

namespace rsock::sys {

// Calls `take` with each line, without its end; a longer one than this comes cut. Reads a piece at a time.
inline constexpr size_t kLineMost = 255;
Status each_line(const char* path, const std::function<void(const char* line)>& take);
// Calls `visit` with each name in an open folder, from where that is read on, until it says false. Takes no memory: a
// child of fork may look, too.
template <class Visit>
Status each_name(int folder, Visit visit) {
  alignas(dirent64) char part[4096];
  for (;;) {
    const long got = system_call(SYS_getdents64, folder, part, sizeof part);
    if (got == 0) return Done{};
    if (got < 0) return Errno{static_cast<int>(-got)};
    for (long at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const dirent64*>(part + at);
      at += entry->d_reclen;
      if (!visit(static_cast<const char*>(entry->d_name))) return Done{};
    }
  }
}
// The names in a folder that do not begin with a dot.
std::vector<std::string> names_in(const char* folder);

}  // namespace rsock::sys
