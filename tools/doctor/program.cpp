// The program: whether it can be preloaded at all, and what confines it.

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>

#include "tools/doctor/checks.hpp"
#include "tools/elf.hpp"
#include "tools/loaded.hpp"
#include "tools/run.hpp"
#include "tools/sandbox.hpp"

namespace rsock::tools::doctor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLoader = "ld-linux-x86-64.so.2";
constexpr const char* kLeave = "select no flows of it, at either end: no preload reaches it";

/// What a script is run by; a script's interpreter may be one.
fs::path executable_of(const Subject& subject) {
  auto program = subject.program;
  for (int scripts = 0; scripts < 4; ++scripts) {
    const auto interpreter = interpreter_of(subject.seen(program));
    if (interpreter.empty()) break;
    program = interpreter;
  }
  return program;
}

Finding look_at_elf(const Subject& subject, const fs::path& program) {
  constexpr const char* kWhat = "program";
  const auto told = [&](Verdict verdict, const std::string& text, const char* remedy = "") {
    return Finding{kWhat, verdict, fmt::format("{} {}", program.string(), text), remedy};
  };
  const auto elf = read_elf(subject.pid ? subject.proc("exe") : subject.seen(program));
  if (!elf) return told(Verdict::warn, "cannot be read", ask_as_root().c_str());
  if (elf->is_go) return told(Verdict::fail, "is written in Go: it calls the kernel itself", kLeave);
  switch (elf->kind) {
    case Elf::Kind::no_elf: return told(Verdict::warn, "is no program of this system", "name another one");
    case Elf::Kind::foreign: return told(Verdict::fail, "is not for x86-64, as the library is", kLeave);
    case Elf::Kind::no_loader: return told(Verdict::fail, "is static", kLeave);
    case Elf::Kind::loaded: break;
  }
  const auto loader = fs::path(elf->loader).filename().string();
  if (loader.starts_with("ld-musl")) return told(Verdict::fail, "is built for musl, and the library for glibc", kLeave);
  if (loader != kLoader) return told(Verdict::fail, fmt::format("is loaded by {}, not by glibc", elf->loader), kLeave);
  return told(Verdict::ok, "is loaded by glibc");
}

Finding look_at_privileges(const Subject& subject, const fs::path& program) {
  constexpr const char* kWhat = "setuid";
  constexpr const char* kRemedy =
      "start it as the user that it needs, without set-user-ID and file capabilities; else select no flows "
      "of it";
  if (subject.pid) {
    if (is_secure(text_of(subject.proc("auxv"))))
      return {kWhat, Verdict::fail, "it began with privileges that its user lacks (AT_SECURE): LD_PRELOAD was ignored",
              kRemedy};
    return {kWhat, Verdict::ok, "it began with its user's own privileges"};
  }
  struct stat facts {};
  const auto file = subject.seen(program);
  if (::stat(file.c_str(), &facts) != 0) return {kWhat, Verdict::ok, "not known"};
  const bool user = (facts.st_mode & S_ISUID) != 0 && facts.st_uid != subject.user;
  const bool group = (facts.st_mode & S_ISGID) != 0 && facts.st_gid != subject.group;
  const bool capable = subject.user != 0 && ::getxattr(file.c_str(), "security.capability", nullptr, 0) > 0;
  if (user || group || capable)
    return {kWhat, Verdict::fail,
            fmt::format("{} is {}: LD_PRELOAD is ignored (AT_SECURE)", program.string(),
                        user    ? "set-user-ID"
                        : group ? "set-group-ID"
                                : "given capabilities"),
            kRemedy};
  return {kWhat, Verdict::ok, "it begins with its user's own privileges"};
}

Finding look_at_apparmor(const Subject& subject, const fs::path& program) {
  constexpr const char* kWhat = "AppArmor";
  constexpr const char* kRemedy =
      "allow in the profile: the library `mr`, the configuration `r`, /dev/infiniband/* `rw`, unix and "
      "netlink sockets; and let transitions of "
      "programs that it starts keep the environment (px, not Px)";
  if (!word_of(subject.root / "sys/module/apparmor/parameters/enabled").starts_with('Y'))
    return {kWhat, Verdict::ok, "is not in force"};
  auto profile = subject.unit ? subject.unit->last("AppArmorProfile") : "";
  if (subject.pid) profile = word_of(subject.proc("attr/apparmor/current"));
  if (subject.pid && profile.empty()) profile = word_of(subject.proc("attr/current"));
  if (profile.empty() && !subject.pid && !program.empty()) {
    auto name = program.relative_path().string();
    std::ranges::replace(name, '/', '.');
    std::error_code error;
    if (fs::exists(subject.root / "etc/apparmor.d" / name, error)) profile = name;
  }
  if (profile.empty() || profile.starts_with("unconfined") || profile.ends_with("(complain)"))
    return {kWhat, Verdict::ok, "does not confine it"};
  return {kWhat, Verdict::warn, fmt::format("confines it: {}", profile), kRemedy};
}

Finding look_at_selinux(const Subject& subject) {
  constexpr const char* kWhat = "SELinux";
  if (word_of(subject.root / "sys/fs/selinux/enforce") != "1") return {kWhat, Verdict::ok, "is not in force"};
  auto domain = subject.unit ? subject.unit->last("SELinuxContext") : "";
  if (subject.pid) domain = word_of(subject.proc("attr/current"));
  if (domain.find("unconfined_") != domain.npos)
    return {kWhat, Verdict::ok, fmt::format("does not confine it: {}", domain)};
  return {kWhat, Verdict::warn,
          fmt::format("is enforced{}: a transition clears LD_PRELOAD, and a domain may forbid /dev/infiniband",
                      domain.empty() ? "" : ", domain " + domain),
          "look for denials (`ausearch -m avc`), and allow them: noatsecure for the transition, infiniband "
          "devices for the domain"};
}

}  // namespace

Findings look_at_program(const Subject& subject) {
  if (subject.is_any()) return {};
  if (subject.program.empty())
    return {{"program", Verdict::warn, "which one it is cannot be seen", ask_as_root("name a unit with ExecStart=")}};
  const auto program = executable_of(subject);
  return {look_at_elf(subject, program), look_at_privileges(subject, program)};
}

Findings look_at_confinement(const Subject& subject) {
  return {look_at_apparmor(subject, executable_of(subject)), look_at_selinux(subject)};
}

Findings look_at_sandbox(const Subject& subject, const config::Parsed& parsed) {
  if (!subject.unit) return {};
  const auto source = configuration_of(subject);
  const auto config = source.kind == config::Source::Kind::file ? source.text_or_path : "";
  Findings findings;
  for (const auto& [setting, what, lines, keeps_out] :
       hindrances(*subject.unit, {find_library(), config, may_use_rdma(parsed), subject.root}))
    findings.push_back({"sandbox", keeps_out ? Verdict::fail : Verdict::warn, fmt::format("{}: {}", setting, what),
                        lines.empty()
                            ? fmt::format("change the unit: systemctl edit {}", subject.name())
                            : fmt::format("rsock enable {}, which sets {}", subject.name(), fmt::join(lines, ", "))});
  if (findings.empty()) findings.push_back({"sandbox", Verdict::ok, "forbids nothing that the library needs"});
  return findings;
}

}  // namespace rsock::tools::doctor
