#include "core/base/proc.hpp"

#include <fcntl.h>

#include "core/base/unique_fd.hpp"

namespace rsock::sys {

Status each_line(const char* path, const std::function<void(const char* line)>& take) {
  const auto opened = open(path, O_RDONLY | O_CLOEXEC, 0);
  if (!opened) return Errno{opened.error()};
  const UniqueFd file(*opened);
  char piece[4096], line[kLineMost + 1];
  size_t length = 0;
  const auto end = [&] {
    line[length] = 0;
    length = 0;
    take(line);
  };
  for (;;) {
    const auto got = read(file.get(), piece, sizeof piece);
    if (!got) return Errno{got.error()};
    if (*got == 0) break;
    for (size_t i = 0; i < *got; ++i) {
      if (piece[i] == '\n')
        end();
      else if (length < kLineMost)
        line[length++] = piece[i];
    }
  }
  if (length > 0) end();
  return Done{};
}

std::vector<std::string> names_in(const char* path) {
  std::vector<std::string> names;
  const auto opened = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (!opened) return names;
  const UniqueFd folder(*opened);
  (void)each_name(folder.get(), [&](const char* name) {
    if (*name != '.') names.emplace_back(name);
    return true;
  });
  return names;
}

}  // namespace rsock::sys
