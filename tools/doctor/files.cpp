// The library, the configuration, and the C library that the first one needs.

#include <fmt/format.h>
#include <gnu/libc-version.h>

#include <algorithm>

#include "config/host_reader.hpp"
#include "config/secrets.hpp"
#include "tools/doctor/checks.hpp"
#include "tools/elf.hpp"
#include "tools/loaded.hpp"
#include "tools/run.hpp"

namespace rsock::tools::doctor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kName = "librsock.so";

/// The entry of LD_PRELOAD that is this library; empty: none.
std::string preloaded(const Subject& subject) { return library_in(subject.variable("LD_PRELOAD").value_or("")); }

/// What is mapped into a process that runs, by the end of its name.
std::string mapped(const Subject& subject, const std::string& name) {
  const auto maps = text_of(subject.proc("maps"));
  for (std::size_t at = 0; at < maps.size();) {
    const auto end = std::min(maps.find('\n', at), maps.size());
    const auto line = maps.substr(at, end - at);
    if (const auto slash = line.find('/'); slash != line.npos && fs::path(line.substr(slash)).filename() == name)
      return line.substr(slash);
    at = end + 1;
  }
  return {};
}

std::string path_of_library(const Subject& subject) {
  const auto entry = preloaded(subject);
  return entry.starts_with('/') ? entry : find_library();
}

Finding look_at_file(const Subject& subject, const std::string& path) {
  constexpr const char* kWhat = "library";
  if (!path.starts_with('/'))
    return {kWhat, Verdict::fail, fmt::format("{} is not found beside this command, nor where it is installed", kName),
            "install the package, or run `cmake --install`"};
  if (path.find_first_of(": ") != path.npos)
    return {kWhat, Verdict::fail, fmt::format("{} cannot be preloaded: its path has a colon or a space", path),
            "put it elsewhere"};
  if (const auto why = subject.why_not(path, 4); !why.empty())
    return {kWhat, Verdict::fail, fmt::format("{}: {}", path, why),
            "install it there, readable for everybody: mode 0644, folders 0755"};
  const auto elf = read_elf(subject.seen(path));
  if (!elf || elf->kind != Elf::Kind::no_loader)
    return {kWhat, Verdict::fail, fmt::format("{} is no library for this machine", path), "install it again"};
  return {kWhat, Verdict::ok, path};
}

}  // namespace

Findings look_at_library(const Subject& subject) {
  Findings findings{look_at_file(subject, path_of_library(subject))};
  const auto set = preloaded(subject);
  if (subject.unit && set.empty())
    findings.push_back({"library", Verdict::fail, fmt::format("{} does not preload it", subject.name()),
                        fmt::format("rsock enable {}", subject.name())});
  if (!subject.pid) return findings;
  if (const auto there = mapped(subject, kName); !there.empty())
    findings.push_back({"library", Verdict::ok, fmt::format("{} has it", subject.name())});
  else if (text_of(subject.proc("maps")).empty())
    findings.push_back(
        {"library", Verdict::warn, fmt::format("whether {} has it cannot be seen", subject.name()), ask_as_root()});
  else
    findings.push_back(
        {"library", Verdict::fail,
         fmt::format("{} runs without it{}", subject.name(), set.empty() ? "" : ", though LD_PRELOAD names it"),
         "start it by `rsock run`, or `rsock enable` its unit and restart that"});
  return findings;
}

config::Source configuration_of(const Subject& subject) {
  std::string text;
  auto source = config::find([&](const char* name) -> const char* {
    const auto value = subject.variable(name);
    if (!value) return nullptr;
    text = *value;
    return text.c_str();
  });
  std::error_code error;
  if (auto& path = source.text_or_path;
      subject.pid && source.kind == config::Source::Kind::file && !path.starts_with('/'))
    path = fs::read_symlink(subject.proc("cwd"), error) / path;
  return source;
}

config::Parsed read_configuration(const Subject& subject) {
  if (!subject.why_unseen().empty()) return {};
  const auto source = configuration_of(subject);
  auto reader = config::host_reader(subject.user);
  const auto elsewhere = [&](auto read) {
    return [&subject, read](const std::string& path, auto&&... more) {
      return read(path.starts_with('/') ? subject.seen(path).string() : path, more...);
    };
  };
  reader.file = elsewhere(reader.file);
  reader.part = elsewhere(reader.part);
  reader.folder = elsewhere(reader.folder);
  const auto name = subject.program_name();
  auto parsed = config::load(source, reader, subject.is_any() ? std::nullopt : std::optional<std::string_view>(name));
  if (config::wants_secrets(parsed.config)) {
    const auto path = subject.seen(parsed.config.options.secret);
    config::take_secrets(parsed, source.name(), rsock::read_file(path.c_str(), config::kSecretsMost), subject.user);
  }
  return parsed;
}

Findings look_at_configuration(const Subject& subject, const config::Parsed& parsed) {
  constexpr const char* kWhat = "configuration";
  if (const auto why = subject.why_unseen(); !why.empty()) {
    if (subject.answers)
      return {{kWhat, Verdict::ok,
               fmt::format("it selects a flow or a listener of {}, which says so; more cannot be seen: {}",
                           subject.name(), why)}};
    return {{kWhat, Verdict::warn, fmt::format("which one {} has cannot be seen: {}", subject.name(), why),
             ask_as_root("ask for its unit; the log of the program says what is wrong (RSOCK_LOG)")}};
  }
  const auto source = configuration_of(subject);
  Findings findings;
  for (const auto& error : parsed.errors)
    findings.push_back({kWhat, Verdict::fail, config::to_string(error), "mend it: with a mistake nothing is selected"});
  if (!findings.empty()) return findings;
  if (source.kind == config::Source::Kind::file) {
    const bool named = subject.variable(config::kConfigVariable).has_value();
    for (const auto& file : parsed.files)
      if (const auto why = subject.why_not(file, 4); file.starts_with('/') && !why.empty())
        findings.push_back({kWhat, Verdict::fail, fmt::format("{}: {}", file, why), "make it readable for that user"});
    if (parsed.files.empty())
      findings.push_back({kWhat, subject.is_any() ? Verdict::warn : Verdict::fail,
                          fmt::format("there is no {}: nothing is selected", source.text_or_path),
                          named ? "write it" : "write it, or give rules by `rsock run --listen` and `--connect`"});
  }
  if (!findings.empty()) return findings;
  const auto rules = parsed.config.rules.all();
  const auto selecting = std::ranges::count_if(rules, [](const auto& rule) { return rule.lane != config::Lane::tcp; });
  // A program may have read other files than those that are there now (`rsock reload`).
  if (selecting == 0)
    return {{kWhat, subject.is_any() || subject.answers ? Verdict::warn : Verdict::fail,
             fmt::format("no rule selects a flow of {}", subject.name()), "write a rule for it; rsock.toml(5)"}};
  return {{kWhat, Verdict::ok,
           fmt::format("{} rule{} for {}, from {}", selecting, selecting == 1 ? "" : "s", subject.name(),
                       fmt::join(parsed.files, ", "))}};
}

Findings look_at_glibc(const Subject& subject) {
  constexpr const char* kWhat = "glibc";
  std::string here = ::gnu_get_libc_version();
  if (const auto own = subject.pid ? mapped(subject, "libc.so.6") : ""; !own.empty())
    if (const auto elf = read_elf(subject.seen(own)); elf && !elf->glibc.empty()) here = elf->glibc;
  const auto library = read_elf(subject.seen(path_of_library(subject)));
  if (!library || library->glibc.empty()) return {{kWhat, Verdict::ok, fmt::format("version {}", here)}};
  if (is_older(here, library->glibc))
    return {{kWhat, Verdict::fail, fmt::format("version {}, and the library needs {}", here, library->glibc),
             "build the library on this system"}};
  return {{kWhat, Verdict::ok, fmt::format("version {}, and the library needs {}", here, library->glibc)}};
}

}  // namespace rsock::tools::doctor
