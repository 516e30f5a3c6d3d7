#include "tools/doctor/subject.hpp"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "tools/loaded.hpp"
#include "tools/processes.hpp"

namespace rsock::tools::doctor {
namespace {

namespace fs = std::filesystem;

std::optional<pid_t> number(const std::string& text) {
  pid_t pid = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (error != std::errc{} || end != text.data() + text.size() || pid <= 0) return std::nullopt;
  return pid;
}

/// A number, or a name that this host knows.
void take_user(const Unit& unit, Subject& subject) {
  const auto user = unit.last("User");
  if (const auto id = number(user)) {
    subject.user = subject.group = static_cast<uid_t>(*id);
  } else if (const auto* known = user.empty() ? nullptr : ::getpwnam(user.c_str())) {
    subject.user = known->pw_uid;
    subject.group = known->pw_gid;
  } else if (!user.empty()) {
    subject.user = subject.group = 65534;  // it is made when the unit starts, and owns nothing
  }
  const auto group = unit.last("Group");
  if (const auto id = number(group))
    subject.group = static_cast<gid_t>(*id);
  else if (const auto* known = group.empty() ? nullptr : ::getgrnam(group.c_str()))
    subject.group = known->gr_gid;
}

std::optional<Subject> of_process(Subject subject, pid_t pid) {
  subject.pid = pid;
  struct stat facts {};
  if (::stat(subject.proc("").c_str(), &facts) != 0) return std::nullopt;
  subject.user = facts.st_uid;
  subject.group = facts.st_gid;
  subject.called = program_called(subject.proc(""));
  std::error_code error;
  subject.program = fs::read_symlink(subject.proc("exe"), error);
  if (auto path = subject.program.string(); path.ends_with(" (deleted)"))
    subject.program = path.substr(0, path.size() - 10);
  const auto own = fs::read_symlink(subject.proc("ns/mnt"), error);
  const bool elsewhere = !own.empty() && own != fs::read_symlink(subject.root / "proc/self/ns/mnt", error);
  if (const auto top = fs::read_symlink(subject.proc("root"), error); elsewhere || (!top.empty() && top != "/"))
    subject.files = subject.proc("root");
  return subject;
}

bool is_allowed(const struct stat& facts, const Subject& subject, mode_t access) {
  if (subject.user == 0) return true;
  const auto shift = facts.st_uid == subject.user ? 6 : facts.st_gid == subject.group ? 3 : 0;
  return (facts.st_mode >> shift & access) == access;
}

}  // namespace

std::string ask_as_root(const std::string& otherwise) { return ::geteuid() != 0 ? "ask as root" : otherwise; }

std::string text_of(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string word_of(const fs::path& file) {
  auto text = text_of(file);
  text.erase(text.find_last_not_of(std::string(" \t\n\0", 4)) + 1);
  return text.substr(std::min(text.find_first_not_of(" \t\n"), text.size()));
}

std::optional<Subject> Subject::find(const fs::path& root, const std::string& target) {
  Subject subject;
  subject.root = subject.files = root;
  subject.user = ::geteuid();
  subject.group = ::getegid();
  if (target.empty()) return subject;
  if (const auto pid = number(target)) return of_process(std::move(subject), *pid);
  subject.unit = Unit::find(root, target);
  if (!subject.unit) return std::nullopt;
  subject.user = 0;
  subject.group = 0;
  take_user(*subject.unit, subject);
  subject.program = subject.unit->program();
  if (const auto own = subject.unit->last("RootDirectory"); !own.empty())
    subject.files = root / fs::path(own).relative_path();
  return subject;
}

void Subject::ask() {
  if (!pid || root != "/") return;
  for (const auto& process : Process::find({.pid = pid}))
    if (process.program() != "?") called = process.program(), answers = true;
}

std::string Subject::name() const {
  if (pid) return fmt::format("{}[{}]", program_name(), *pid);
  return unit ? unit->name() : "programs of this user";
}

fs::path Subject::proc(const std::string& file) const {
  return root / "proc" / (pid ? std::to_string(*pid) : "self") / file;
}

std::optional<std::string> Subject::variable(const char* name) const {
  if (unit) return unit->variable(name);
  if (!pid) {
    const char* value = std::getenv(name);
    return value ? std::optional<std::string>(value) : std::nullopt;
  }
  if (!why_unseen().empty()) return std::nullopt;
  const auto all = environment_of(proc("")), wanted = std::string(name) + "=";
  for (std::size_t at = 0; at < all.size(); at = std::min(all.find('\0', at), all.size() - 1) + 1)
    if (all.compare(at, wanted.size(), wanted) == 0) return std::string(all.c_str() + at + wanted.size());
  return std::nullopt;
}

std::string Subject::why_unseen() const {
  if (!pid) return {};
  constexpr const char* kOverwritten = "the program has overwritten its environment";
  const auto all = environment_of(proc(""));
  if (all.empty()) return text_of(proc("environ")).empty() ? "its environment cannot be read" : kOverwritten;
  // What has the library was given it by its environment, of which this is the rest then.
  if (!has_library(*pid) || all.starts_with("LD_PRELOAD=") || all.find(std::string("\0LD_PRELOAD=", 12)) != all.npos)
    return {};
  return library_in(text_of("/etc/ld.so.preload")).empty() ? kOverwritten : "";
}

std::string Subject::why_not(const fs::path& path, mode_t access) const {
  struct stat facts {};
  fs::path way = files;
  for (const auto& part : path.parent_path().relative_path()) {
    way /= part;
    if (::stat(way.c_str(), &facts) == 0 && !is_allowed(facts, *this, 1))
      return fmt::format("user {} may not search {}", user, way.string());
  }
  if (::stat(seen(path).c_str(), &facts) != 0) return std::strerror(errno);
  return is_allowed(facts, *this, access)
             ? ""
             : fmt::format("user {} has no permission, its mode is {:04o}", user, facts.st_mode & 07777);
}

}  // namespace rsock::tools::doctor
