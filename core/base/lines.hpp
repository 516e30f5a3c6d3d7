#pragma once
// Lines that are appended to a file of the operator's choice (the log, the statistics), from within a program that must
// not notice: nothing here blocks, waits for a reader or raises a signal. A line that cannot be written whole and at
// once is dropped.
//
// A file is reached by way of folders and symbolic links that may be somebody else's. Trusted are root and the user
// that the process is. A link is followed, and a file in a folder that others may write to is used, only if it is
// theirs and has no second name: as fs.protected_symlinks and its kin have it, whatever this kernel is told.
//
// Any thread, no lock.

#include <sys/stat.h>

#include <string_view>

#include "core/base/unique_fd.hpp"

namespace rsock::lines {

// For appending; made with `mode` if it is not there. A plain file, a FIFO that has a reader, or a character device;
// EACCES for what is not trusted, EINVAL for other kinds of files.
Result<UniqueFd> open(const char* path, unsigned mode);

// EAGAIN: there is no room for it now. EFBIG: the file may not grow so far (RLIMIT_FSIZE).
Status append(int file, std::string_view line);

// Standard error, as long as it is what it was: a program may close descriptor 2 and have a file or a connection of its
// own there.
class StandardError {
 public:
  void remember();
  // EBADF: it is not what it was.
  Status append(std::string_view line) const;

 private:
  struct stat was_ {};
  bool known_ = false;
};

}  // namespace rsock::lines
