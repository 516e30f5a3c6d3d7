#include "core/sockets/open_sets.hpp"

#include <fcntl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "core/base/kernel.hpp"
#include "core/base/proc.hpp"
#include "core/sockets/entry.hpp"

namespace rsock::sockets {
namespace {

constexpr char kFolder[] = "/proc/self/fd";

bool is_set(const char* number) {
  constexpr char kLink[] = "anon_inode:[eventpoll]";
  char link[sizeof kLink + 1] = {};
  const auto path = std::string(kFolder) + "/" + number;
  const long size = kernel.syscall(SYS_readlinkat, AT_FDCWD, path.c_str(), link, sizeof link - 1);
  return size == sizeof kLink - 1 && std::strcmp(link, kLink) == 0;
}

// As proc_pid_fdinfo(5) describes the lines of an epoll descriptor. Nothing if they cannot be read.
std::optional<std::vector<OpenSet::Member>> members_of(const char* number) {
  const auto path = std::string("/proc/self/fdinfo/") + number;
  std::vector<OpenSet::Member> members;
  const auto read = sys::each_line(path.c_str(), [&](const char* line) {
    OpenSet::Member member{};
    unsigned events;
    unsigned long long data;
    if (std::sscanf(line, "tfd: %d events: %x data: %llx", &member.fd, &events, &data) != 3) return;
    member.data = data;
    members.push_back(member);
  });
  return read ? std::optional(members) : std::nullopt;
}

}  // namespace

bool OpenSet::has_data(uint64_t data) const {
  return std::any_of(members.begin(), members.end(), [=](const Member& member) { return member.data == data; });
}
bool OpenSet::has_member(int member_fd) const {
  return std::any_of(members.begin(), members.end(), [=](const Member& member) { return member.fd == member_fd; });
}

bool is_empty_set(int fd) {
  const auto members = members_of(std::to_string(fd).c_str());
  return members && members->empty();
}

std::vector<OpenSet> open_sets(std::span<const int> except) {
  std::vector<OpenSet> sets;
  for (const auto& name : sys::names_in(kFolder)) {
    const int fd = std::atoi(name.c_str());
    const auto* entry = find(fd);
    if (entry && entry->kind != Entry::Kind::set) continue;  // a socket, as most are
    if (std::find(except.begin(), except.end(), fd) == except.end() && is_set(name.c_str()))
      sets.push_back({fd, members_of(name.c_str()).value_or(std::vector<OpenSet::Member>{})});
  }
  return sets;
}

}  // namespace rsock::sockets
