// What a process may have: locked memory, descriptors, rings of io_uring, children.

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cstdlib>

#include "core/base/footprint.hpp"
#include "tools/doctor/checks.hpp"
#include "tools/elf.hpp"
#include "tools/sandbox.hpp"

namespace rsock::tools::doctor {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kUnlimited = UINT64_MAX;

struct Limit {
  std::uint64_t soft = 0, hard = 0;
};

/// "Max locked memory         8388608              8388608              bytes"
std::optional<Limit> limit_in(const std::string& limits, const std::string& name) {
  const auto at = limits.find(name);
  if (at == limits.npos) return std::nullopt;
  const char* rest = limits.c_str() + at + name.size();
  const auto next = [&] {
    while (*rest == ' ') ++rest;
    if (std::string_view(rest).starts_with("unlimited")) return rest += 9, kUnlimited;
    char* end = nullptr;
    const std::uint64_t value = std::strtoull(rest, &end, 10);
    rest = end;
    return value;
  };
  const auto soft = next();
  return Limit{soft, next()};
}

std::string size_text(std::uint64_t bytes) {
  if (bytes == kUnlimited) return "unlimited";
  return bytes >= 1 << 20 ? fmt::format("{} MiB", bytes >> 20) : fmt::format("{} KiB", bytes >> 10);
}

/// CAP_IPC_LOCK, by which the kernel does not count what is locked.
bool may_lock_all(const Subject& subject) {
  if (subject.unit)
    return subject.user == 0 && subject.unit->all("CapabilityBoundingSet").empty() &&
           !subject.unit->is_on("PrivateUsers");
  constexpr int kIpcLock = 14;
  const auto status = text_of(subject.proc("status"));
  const auto at = status.find("CapEff:");
  return at != status.npos && (std::strtoull(status.c_str() + at + 7, nullptr, 16) >> kIpcLock & 1) != 0;
}

std::optional<std::uint64_t> locked_memory_limit(const Subject& subject) {
  constexpr std::uint64_t kOfSystemd = 8 << 20;
  if (may_lock_all(subject)) return kUnlimited;
  if (subject.unit) return limit_of(subject.unit->last("LimitMEMLOCK"), kOfSystemd);
  const auto limit = limit_in(text_of(subject.proc("limits")), "Max locked memory");
  return limit ? std::optional(limit->soft) : std::nullopt;
}

std::optional<Limit> descriptor_limit(const Subject& subject) {
  if (!subject.unit) return limit_in(text_of(subject.proc("limits")), "Max open files");
  const auto text = subject.unit->last("LimitNOFILE");
  if (text.empty()) return Limit{1024, 524288};  // systemd's own
  const auto hard = limit_of(text, 524288);
  return Limit{limit_of(text.substr(0, text.find(':')), hard), hard};
}

std::size_t rings_of_io_uring(const Subject& subject) {
  std::error_code error;
  std::size_t rings = 0;
  for (const auto& entry : fs::directory_iterator(subject.proc("fd"), error))
    if (fs::read_symlink(entry.path(), error) == "anon_inode:[io_uring]") ++rings;
  return rings;
}

}  // namespace

Findings look_at_locked_memory(const Subject& subject, const config::Parsed& parsed) {
  constexpr const char* kWhat = "locked memory";
  constexpr std::uint64_t kFew = 8;  // links
  if (devices(subject).empty()) return {{kWhat, Verdict::ok, "shared memory needs none, and there is no RDMA device"}};
  const auto limit = locked_memory_limit(subject);
  if (!limit) return {{kWhat, Verdict::warn, "the limit cannot be seen", ask_as_root()}};
  const auto& options = parsed.config.options;
  const auto link = link_footprint(options.ring_min);
  const auto room = std::min<std::uint64_t>(*limit, options.max_pinned) / link;
  const auto text = fmt::format(
      "room for {} link{}: the limit is {}, max_pinned {}, and a link takes {} at its start, more as rings "
      "grow",
      room, room == 1 ? "" : "s", size_text(*limit), size_text(options.max_pinned), size_text(link));
  const auto verdict = room >= kFew ? Verdict::ok : room == 0 && may_use_rdma(parsed) ? Verdict::fail : Verdict::warn;
  return {{kWhat, verdict, text,
           verdict == Verdict::ok ? ""
                                  : "raise it: LimitMEMLOCK=infinity in the unit, `ulimit -l`, memlock in "
                                    "/etc/security/limits.conf"}};
}

Findings look_at_descriptors(const Subject& subject) {
  constexpr const char* kWhat = "descriptors";
  constexpr std::uint64_t kFew = 256;
  const auto limit = descriptor_limit(subject);
  if (!limit) return {{kWhat, Verdict::warn, "the limit cannot be seen", ask_as_root()}};
  const auto told = [](std::uint64_t value) { return value == kUnlimited ? "unlimited" : std::to_string(value); };
  const auto text =
      fmt::format("{} for the program, up to {} with the library's", told(limit->soft), told(limit->hard));
  if (limit->hard - limit->soft >= kFew || limit->hard >= 4 * kFew) return {{kWhat, Verdict::ok, text}};
  return {{kWhat, Verdict::warn, text + ": a flow in a lane takes one more",
           "raise the hard limit: LimitNOFILE= of the unit, `ulimit -Hn`"}};
}

Findings look_at_fork(const Subject&) {
  constexpr const char* kWhat = "fork";
  utsname host{};
  ::uname(&host);
  if (is_older(host.release, "5.12"))
    return {{kWhat, Verdict::warn, fmt::format("Linux {} lets a child of fork take pages that RDMA uses", host.release),
             "run Linux 5.12 or later, or lane = \"shm\" for programs that fork"}};
  return {{kWhat, Verdict::ok,
           fmt::format("is safe: Linux {} copies pages that are pinned, and rings are not inherited", host.release)}};
}

Findings look_at_io_uring(const Subject& subject, const config::Parsed& parsed) {
  constexpr const char* kWhat = "io_uring";
  const bool refused = parsed.config.options.io_uring == config::IoUring::refuse;
  if (const auto rings = subject.pid ? rings_of_io_uring(subject) : 0; rings > 0)
    return {{kWhat, Verdict::warn,
             fmt::format("{} has {} ring{}: its flows stay on TCP", subject.name(), rings, rings == 1 ? "" : "s"),
             refused ? "restart it with the library, which refuses rings"
                     : "io_uring = \"refuse\" in [options], if it can do without"}};
  if (word_of(subject.root / "proc/sys/kernel/io_uring_disabled") == "2")
    return {{kWhat, Verdict::ok, "the kernel gives nobody a ring"}};
  return {{kWhat, Verdict::ok,
           refused ? "a program with rules that asks for a ring gets none (io_uring = \"refuse\")"
                   : "a program that has a ring has its flows on TCP (io_uring = \"tcp\")"}};
}

}  // namespace rsock::tools::doctor
