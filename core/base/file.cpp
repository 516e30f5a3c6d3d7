#include "core/base/file.hpp"

#include <fcntl.h>

#include <algorithm>

#include "core/base/proc.hpp"
#include "core/base/unique_fd.hpp"

namespace rsock {

namespace {

Result<File> read_one(const char* path, size_t most, bool any) {
  const auto opened = sys::open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
  if (!opened) return Errno{opened.error()};
  const UniqueFd descriptor(*opened);
  File file;
  if (const auto told = sys::stat_of(descriptor.get(), file.facts); !told) return Errno{told.error()};
  if (!any && !S_ISREG(file.facts.st_mode)) return file;
  char part[4096];
  while (file.bytes.size() < most) {
    const auto got = sys::read(descriptor.get(), part, std::min(sizeof part, most - file.bytes.size()));
    if (got.is(EINTR)) continue;
    if (!got) return Errno{got.error()};
    if (*got == 0) break;
    file.bytes.append(part, *got);
  }
  return file;
}

}  // namespace

Result<File> read_file(const char* path, size_t most) { return read_one(path, most, false); }

Result<File> read_any_file(const char* path, size_t most) { return read_one(path, most, true); }

Result<Folder> read_folder(const char* path, const std::function<bool(const struct stat&)>& trusted,
                           const std::function<bool(std::string_view)>& wanted, size_t most) {
  const auto opened = sys::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (!opened) return Errno{opened.error()};
  const UniqueFd descriptor(*opened);
  Folder folder;
  if (const auto told = sys::stat_of(descriptor.get(), folder.facts); !told) return Errno{told.error()};
  if (!trusted(folder.facts)) return folder;
  const auto read = sys::each_name(descriptor.get(), [&](std::string_view name) {
    if (wanted(name)) folder.names.emplace_back(name);
    return folder.names.size() < most;
  });
  if (!read) return Errno{read.error()};
  std::ranges::sort(folder.names);
  return folder;
}

}  // namespace rsock
