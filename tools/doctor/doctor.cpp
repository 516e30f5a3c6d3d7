#include "tools/doctor/doctor.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/doctor/checks.hpp"
#include "tools/processes.hpp"

namespace rsock::tools {
namespace {

using namespace doctor;
using Json = nlohmann::ordered_json;

struct DoctorArguments {
  std::string target;
  std::string root = "/";
  bool json = false;
};

const char* word(Verdict verdict) {
  switch (verdict) {
    case Verdict::ok: return "ok";
    case Verdict::warn: return "warn";
    case Verdict::fail: return "fail";
  }
  return "";
}

Findings look_at_all(const Subject& subject) {
  const auto parsed = read_configuration(subject);
  Findings all;
  for (auto& some : {look_at_library(subject), look_at_configuration(subject, parsed), look_at_glibc(subject),
                     look_at_program(subject), look_at_confinement(subject), look_at_sandbox(subject, parsed),
                     look_at_devices(subject, parsed), look_at_locked_memory(subject, parsed),
                     look_at_descriptors(subject), look_at_fork(subject), look_at_io_uring(subject, parsed)})
    all.insert(all.end(), some.begin(), some.end());
  return all;
}

void print(const Findings& findings) {
  for (const auto& [what, verdict, text, remedy] : findings)
    fmt::print("{:<5}{:<16} {}{}{}\n", word(verdict), what, printable(text),
               remedy.empty() ? "" : "; remedy: ", printable(remedy));
}

Json json_of(const Subject& subject, const Findings& findings) {
  Json checks = Json::array();
  for (const auto& [what, verdict, text, remedy] : findings)
    checks.push_back({{"what", what},
                      {"verdict", word(verdict)},
                      {"text", text},
                      {"remedy", remedy.empty() ? Json() : Json(remedy)}});
  return {{"subject", subject.name()}, {"checks", checks}};
}

ExitStatus look(const DoctorArguments& arguments) {
  auto subject = Subject::find(arguments.root, arguments.target);
  if (!subject) {
    fmt::print(stderr, "rsock: there is no unit and no process {} here\n", printable(arguments.target));
    return kUsage;
  }
  subject->ask();
  const auto findings = look_at_all(*subject);
  if (arguments.json)
    fmt::print("{}\n", json_of(*subject, findings).dump(2, ' ', false, Json::error_handler_t::replace));
  else
    print(findings);
  return std::ranges::any_of(findings, [](const auto& one) { return one.verdict == Verdict::fail; }) ? kFailure
                                                                                                     : kSuccess;
}

}  // namespace

Command add_doctor(CLI::App& app) {
  auto* command = app.add_subcommand(
      "doctor", "Tell what would keep a program's flows from their lanes on this host, and what helps");
  const auto arguments = std::make_shared<DoctorArguments>();
  command->add_option("UNIT|PID", arguments->target, "a service of systemd, or a process; none: what this user starts")
      ->type_name("");
  command->add_option("--root", arguments->root, "look for units, devices and processes below this folder")
      ->type_name("DIR");
  command->add_flag("--json", arguments->json, "as JSON");
  command->footer(
      "A line for each thing that was looked at: ok, warn (some flows stay on TCP, or may) or fail (no flow "
      "gets into its lane), and a\n"
      "remedy. Run it as root for what another user's process has.\n"
      "Exit status: 0 nothing fails, 1 something does, 2 no such unit or process, or a wrong command line.");
  return {command, [arguments] { return look(*arguments); }};
}

}  // namespace rsock::tools
