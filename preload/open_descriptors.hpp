#pragma once
// The descriptors that are open in this process, as /proc tells them: without memory, so that a child of fork
// may look.

#include <fcntl.h>
#include <stdlib.h>

#include "core/base/proc.hpp"
#include "core/base/unique_fd.hpp"

namespace rsock::preload {

// Calls `visit` for each, which may close it. False if they cannot be read.
template <class Visit>
bool each_open_descriptor(Visit visit) {
  const auto opened = sys::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (!opened) return false;
  const UniqueFd folder(*opened);
  return static_cast<bool>(sys::each_name(folder.get(), [&](const char* name) {
    const int fd = *name == '.' ? folder.get() : atoi(name);
    if (fd != folder.get()) visit(fd);
    return true;
  }));
}

}  // namespace rsock::preload
