#include "core/engine/service/last_thread.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>

#include "core/base/proc.hpp"

namespace rsock::engine {
namespace {

constexpr auto kSoon = milliseconds(1), kFirst = milliseconds(100), kMost = milliseconds(60'000);

// <linux/pidfd.h> of newer kernels.
constexpr unsigned kPidfdThread = O_EXCL;
struct PidfdInfo {
  uint64_t mask, cgroup;
  uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};
constexpr uint64_t kInfoExit = 1 << 3;
constexpr unsigned long kGetInfo = _IOWR(0xFF, 11, PidfdInfo);

constexpr int status_of(int exit_code) { return exit_code >> 8 & 0xff; }

// The field of /proc/self/stat that proc(5) gives this number; the second one is a name in brackets.
std::string_view field(std::string_view stat, int number) {
  const auto name_ends = stat.rfind(')');
  if (name_ends == std::string_view::npos) return {};
  stat.remove_prefix(std::min(name_ends + 2, stat.size()));
  for (int at = 3; at < number; ++at) stat.remove_prefix(std::min(stat.find(' '), stat.size() - 1) + 1);
  return stat.substr(0, stat.find_first_of(" \n"));
}

// Of the main thread, which stays in /proc until all are gone; nothing if it cannot be read.
std::optional<int> status_of_main() {
  const auto file = sys::open("/proc/self/stat", O_RDONLY | O_CLOEXEC, 0);
  if (!file) return {};
  const UniqueFd owned(*file);
  char text[1024];
  const auto got = sys::read(*file, text, sizeof text);
  constexpr int kExitCode = 52;
  const auto code = got ? field({text, *got}, kExitCode) : std::string_view();
  int value = 0;
  std::from_chars(code.data(), code.data() + code.size(), value);
  return status_of(value);
}

// One that has ended has no memory any more.
bool main_lives() {
  char here = 0, copy = 0;
  iovec to{&copy, 1}, from{&here, 1};
  return kernel.syscall(SYS_process_vm_readv, sys::process_id(), &to, 1, &from, 1, 0) == 1 || errno != ESRCH;
}

// A thread beside this one and main; 0 if there is none.
Result<pid_t> another_thread() {
  const auto folder = sys::open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (!folder) return Errno{folder.error()};
  const UniqueFd owned(*folder);
  pid_t found = 0;
  const auto read = sys::each_name(*folder, [&](const char* name) {
    pid_t thread = 0;
    std::from_chars(name, name + std::strlen(name), thread);
    if (thread != sys::thread_id() && thread != sys::process_id()) found = thread;
    return found == 0;
  });
  if (!read) return Errno{read.error()};
  return found;
}

// Without a descriptor: all threads, main too until the last has ended. 0 if /proc does not tell.
size_t count_threads() {
  struct stat tasks {};  // one link for each, and two of the folder's own
  if (kernel.syscall(SYS_stat, "/proc/self/task", &tasks) != 0) return 0;
  return tasks.st_nlink - 2;
}

}  // namespace

// libc's count is there for debuggers.
LastThread::LastThread(uint64_t tag)
    : tag_(tag),
      libcs_count_(static_cast<const unsigned*>(dlsym(RTLD_DEFAULT, "__nptl_nthreads"))),
      pause_(kFirst),
      due_(now() + kFirst) {}

void LastThread::watch_by(int epoll) {
  epoll_ = epoll;
  watched_.reset();
  if (watching_) watched_ended();
}

bool LastThread::ending(int status) {
  const auto thread = sys::thread_id();
  said_.store(static_cast<uint64_t>(thread) << 32 | static_cast<uint8_t>(status), std::memory_order_relaxed);
  if (thread == sys::process_id()) main_ends_ = true;
  return !hint_.exchange(true);
}

bool LastThread::alone() {
  const auto time = now();
  if (hint_.exchange(false)) pause_ = kSoon, due_ = time;  // most likely it is still on its way out
  if (watching_) return false;
  if (time < due_) {
    // The process is not at rest.
    pause_ = std::min<Duration>(pause_, kFirst);
    due_ = std::min(due_, time + kFirst);
    return false;
  }
  due_ = time + pause_;
  pause_ = std::min<Duration>(2 * pause_, kMost);
  if (!main_ends_ && main_lives()) return false;
  const auto thread = another_thread();
  if (!thread) {
    const auto threads = count_threads();
    return threads > 0 ? threads == 2 && !main_lives() : libcs_count_ && ended_in_libc();
  }
  if (*thread == 0) return !main_lives();
  last_ = *thread;
  watching_ = watch(last_);
  return false;
}

bool LastThread::watch(pid_t thread) {
  if (epoll_ < 0) return false;
  auto made = out_of_the_way([&] { return sys::pidfd_open(thread, kPidfdThread); });
  if (!made) return false;
  watched_ = std::move(*made);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLONESHOT;
  event.data.u64 = tag_;
  return static_cast<bool>(sys::epoll_ctl(epoll_, EPOLL_CTL_ADD, watched_.get(), &event));
}

bool LastThread::ended_in_libc() const { return !libcs_count_ || __atomic_load_n(libcs_count_, __ATOMIC_RELAXED) == 1; }

int LastThread::status() const {
  const auto said = said_.load(std::memory_order_relaxed);
  const auto speaker = static_cast<pid_t>(said >> 32);
  if (last_ == 0 && (speaker == 0 || speaker == sys::process_id()))
    return status_of_main().value_or(static_cast<int>(said & 0xff));
  if (last_ == 0 || speaker == last_) return static_cast<int>(said & 0xff);
  PidfdInfo info{};
  info.mask = kInfoExit;
  const bool known = watched_ && sys::ioctl(watched_.get(), kGetInfo, &info) && (info.mask & kInfoExit);
  return known ? status_of(info.exit_code) : 0;
}

}  // namespace rsock::engine
