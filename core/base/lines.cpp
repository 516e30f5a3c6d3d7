#include "core/base/lines.hpp"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "core/base/socket_owner.hpp"

namespace rsock::lines {
namespace {

constexpr int kFlags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
constexpr int kAnything = O_PATH | O_NOFOLLOW | O_CLOEXEC;
constexpr int kMostLinks = 8;

// errno is the program's.
class ErrnoKept {
 public:
  ErrnoKept() = default;
  ~ErrnoKept() { errno = errno_; }
  ErrnoKept(const ErrnoKept&) = delete;
  ErrnoKept& operator=(const ErrnoKept&) = delete;

 private:
  const int errno_ = errno;
};

Result<struct stat> facts_of(int fd) {
  struct stat facts {};
  if (const auto told = sys::stat_of(fd, facts); !told) return Errno{told.error()};
  return facts;
}

Result<UniqueFd> open_at(int folder, const char* name, int flags, unsigned mode = 0) {
  const long fd = kernel.syscall(SYS_openat, folder, name, flags, mode);
  if (fd < 0) return Errno{errno};
  return UniqueFd(static_cast<int>(fd));
}

bool open_to_others(const struct stat& folder) {
  return !is_root_or_own(folder.st_uid) || (folder.st_mode & (S_IWGRP | S_IWOTH));
}
// A link or a file in `folder`.
bool acceptable(const struct stat& it, const struct stat& folder) {
  return is_root_or_own(it.st_uid) && (it.st_nlink == 1 || !open_to_others(folder));
}

// A walk along a path, name by name.
class Walk {
 public:
  Walk(const char* path, unsigned mode) : rest_(path), mode_(mode) {}

  Result<UniqueFd> go() {
    if (const auto begun = begin(); !begun) return Errno{begun.error()};
    for (;;) {
      const auto name = next_name();
      if (name.empty()) return Errno{EISDIR};
      const bool last = rest_.empty();
      if (last) {
        auto file = open_at(folder_.get(), name.c_str(), kFlags | O_NOFOLLOW | O_CREAT, mode_);
        if (file) return checked(std::move(*file));
        if (!file.is(ELOOP)) return file;
      }
      auto found = open_at(folder_.get(), name.c_str(), kAnything);
      auto facts = found ? facts_of(found->get()) : Errno{found.error()};
      if (!facts) return Errno{facts.error()};
      if (S_ISLNK(facts->st_mode)) {
        if (!acceptable(*facts, facts_)) return Errno{EACCES};
        if (++links_ > kMostLinks) return Errno{ELOOP};
        if (last && is_of_process(found->get())) return open_behind(name);
        if (const auto followed = follow(found->get()); !followed) return Errno{followed.error()};
      } else if (const auto entered = enter(std::move(found)); !entered) {
        return Errno{entered.error()};
      }
    }
  }

 private:
  // At the root, or where the process is.
  Status begin() { return enter(open_at(AT_FDCWD, rest_.starts_with('/') ? "/" : ".", kAnything)); }
  Status enter(Result<UniqueFd> folder) {
    if (!folder) return Errno{folder.error()};
    folder_ = std::move(*folder);
    const auto facts = facts_of(folder_.get());
    if (!facts) return Errno{facts.error()};
    facts_ = *facts;
    return Done{};
  }

  std::string next_name() {
    rest_.erase(0, std::min(rest_.find_first_not_of('/'), rest_.size()));
    auto name = rest_.substr(0, rest_.find('/'));
    rest_.erase(0, name.size());
    return name;
  }

  Status follow(int link) {
    std::array<char, PATH_MAX> target;
    const long size = kernel.syscall(SYS_readlinkat, link, "", target.data(), target.size());
    if (size < 0) return Errno{errno};
    rest_.insert(0, target.data(), static_cast<size_t>(size));
    return rest_.starts_with('/') ? begin() : Status(Done{});
  }

  // /dev/stderr ends at one of /proc, which leads to what no path need lead to.
  static bool is_of_process(int link) {
    struct statfs kind {};
    return sys::file_system_of(link, kind) && kind.f_type == PROC_SUPER_MAGIC;
  }
  Result<UniqueFd> open_behind(const std::string& name) const {
    auto file = open_at(folder_.get(), name.c_str(), kFlags);
    return file ? checked(std::move(*file)) : std::move(file);
  }

  Result<UniqueFd> checked(UniqueFd file) const {
    auto facts = facts_of(file.get());
    if (!facts) return Errno{facts.error()};
    if (!S_ISREG(facts->st_mode) && !S_ISFIFO(facts->st_mode) && !S_ISCHR(facts->st_mode)) return Errno{EINVAL};
    if (open_to_others(facts_) && !acceptable(*facts, facts_)) return Errno{EACCES};
    return file;
  }

  std::string rest_;
  const unsigned mode_;
  UniqueFd folder_;
  struct stat facts_ {};  // the folder's
  int links_ = 0;
};

constexpr uint64_t bit(int signal) { return uint64_t{1} << (signal - 1); }

// A write that raises none of the signals of writes (SIGXFSZ, SIGPIPE, SIGTTOU): they are blocked, and what came is
// taken off again. With them all others, whose handlers could change the mask meanwhile; not the faults, and not libc's
// own.
Result<size_t> write_quietly(int file, std::string_view line) {
  constexpr uint64_t kFaults = bit(SIGSEGV) | bit(SIGBUS) | bit(SIGFPE) | bit(SIGILL) | bit(SIGTRAP) | bit(SIGSYS);
  constexpr uint64_t kBlocked = ~(kFaults | bit(32) | bit(33));
  constexpr timespec kNow{};
  uint64_t mask = 0, pending = 0;
  if (kernel.syscall(SYS_rt_sigprocmask, SIG_BLOCK, &kBlocked, &mask, sizeof mask) != 0) return Errno{errno};
  kernel.syscall(SYS_rt_sigpending, &pending, sizeof pending);
  const auto written = sys::write(file, line.data(), line.size());
  const auto raised = written.is(EFBIG) ? bit(SIGXFSZ) : written.is(EPIPE) ? bit(SIGPIPE) : 0;
  if (raised & ~pending) kernel.syscall(SYS_rt_sigtimedwait, &raised, nullptr, &kNow, sizeof raised);
  kernel.syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, sizeof mask);
  return written;
}

// A part of a line would be worse than none.
Status whole(Result<size_t> written, std::string_view line) {
  if (!written) return Errno{written.error()};
  return *written == line.size() ? Status(Done{}) : Status(Errno{ENOSPC});
}

Status append_to_plain(int file, const struct stat& facts, std::string_view line) {
  rlimit limit{};
  const bool limited =
      kernel.syscall(SYS_prlimit64, 0, RLIMIT_FSIZE, nullptr, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  if (limited && static_cast<rlim_t>(facts.st_size) + line.size() > limit.rlim_cur) return Errno{EFBIG};
  return whole(write_quietly(file, line), line);
}

// Of a file that is not a plain one, and does not block.
Status append_to_stream(int file, std::string_view line) {
  if (line.size() > PIPE_BUF) return Errno{EAGAIN};  // which may go in part
  return whole(write_quietly(file, line), line);
}

bool is_same(const struct stat& one, const struct stat& other) {
  return one.st_dev == other.st_dev && one.st_ino == other.st_ino && one.st_rdev == other.st_rdev &&
         (one.st_mode & S_IFMT) == (other.st_mode & S_IFMT);
}

// Pipes and terminals may be full or stopped, and whether writes wait is told by a flag that all share who have them:
// what is written to is opened anew where that can be. Where it cannot, this looks for room first.
Status append_to_shared(int file, std::string_view line) {
  const auto name = "/proc/self/fd/" + std::to_string(file);
  auto own = open_at(AT_FDCWD, name.c_str(), kFlags);
  if (own) return append_to_stream(own->get(), line);
  return sys::readiness(file) & POLLOUT ? append_to_stream(file, line) : Errno{EAGAIN};
}

}  // namespace

Result<UniqueFd> open(const char* path, unsigned mode) {
  const ErrnoKept kept;
  return out_of_the_way([&]() -> Result<int> {
    auto file = Walk(path, mode).go();
    if (!file) return Errno{file.error()};
    return file->release();
  });
}

Status append(int file, std::string_view line) {
  const ErrnoKept kept;
  auto facts = facts_of(file);
  if (!facts) return Errno{facts.error()};
  return S_ISREG(facts->st_mode) ? append_to_plain(file, *facts, line) : append_to_stream(file, line);
}

void StandardError::remember() {
  const ErrnoKept kept;
  const auto facts = facts_of(STDERR_FILENO);
  if (facts) was_ = *facts;
  known_ = static_cast<bool>(facts);
}

// By a copy that another thread cannot close, or put something else in place of, between the look and the write.
Status StandardError::append(std::string_view line) const {
  const ErrnoKept kept;
  if (!known_) return Errno{EBADF};
  const auto number = sys::duplicate_high(STDERR_FILENO);
  if (!number) return Errno{number.error()};
  const UniqueFd copy(*number);
  auto facts = facts_of(copy.get());
  if (!facts) return Errno{facts.error()};
  if (!is_same(*facts, was_)) return Errno{EBADF};
  if (S_ISREG(facts->st_mode)) return append_to_plain(copy.get(), *facts, line);
  if (S_ISSOCK(facts->st_mode))
    return whole(sys::send(copy.get(), line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL), line);
  return append_to_shared(copy.get(), line);
}

}  // namespace rsock::lines
