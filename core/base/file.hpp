#pragma once
// A file, and who may change and read it, as they are at one moment: both are told of what was opened,
// wherever its name leads a moment later.

#include <sys/stat.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace rsock {

struct File {
  std::string bytes;     // of a regular file only
  struct stat facts {};  // of what symbolic links lead to
};

// At most `most` bytes from its beginning. Errors as of open(2) and read(2). Blocks as reading a disk does:
// neither pipes nor terminals are waited for. May throw std::bad_alloc.
Result<File> read_file(const char* path, size_t most);

// The same, with the bytes of whatever file it is: of a pipe those that are there.
Result<File> read_any_file(const char* path, size_t most);

struct Folder {
  std::vector<std::string> names;  // in the order of their bytes
  struct stat facts {};
};

// At most `most` names that `wanted` accepts, if the folder itself is one that `trusted` accepts. Errors as of open(2).
// May throw std::bad_alloc.
Result<Folder> read_folder(const char* path, const std::function<bool(const struct stat&)>& trusted,
                           const std::function<bool(std::string_view)>& wanted, size_t most);

}  // namespace rsock
