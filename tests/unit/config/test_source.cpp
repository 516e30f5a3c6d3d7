#include <catch2/catch.hpp>
#include <cerrno>
#include <map>
#include <new>
#include <string>

#include "addresses.hpp"
#include "config/source.hpp"

using namespace rsock;
using namespace rsock::config;
using namespace std::string_literals;

namespace {

constexpr uid_t kUser = 33;

using Variables = std::map<std::string, std::string>;

Source find_in(const Variables& variables) {
  return find([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found != variables.end() ? found->second.c_str() : nullptr;
  });
}

/// Nothing is there but what a test puts there.
Reader reading(std::function<Result<File>(const std::string& path)> file) {
  return {std::move(file), kUser, [](const std::string&) { return Errno{ENOENT}; },
          [](const std::string&, const auto&) { return Errno{ENOENT}; }};
}

Reader failing(int error) {
  return reading([error](const std::string&) { return Errno{error}; });
}

const Source kRequired{Source::Kind::file, "/a/b.toml", true};
const Source kOptional{Source::Kind::file, kDefaultPath, false};

}  // namespace

TEST_CASE("RSOCK_RULES wins over RSOCK_CONFIG, which wins over the default file") {
  const Source text = find_in({{"RSOCK_RULES", "[[rule]]"}, {"RSOCK_CONFIG", "/x"}});
  CHECK(text.kind == Source::Kind::text);
  CHECK(text.text_or_path == "[[rule]]");

  const Source file = find_in({{"RSOCK_CONFIG", "/x"}});
  CHECK(file.kind == Source::Kind::file);
  CHECK(file.text_or_path == "/x");
  CHECK(file.must_exist);

  const Source fallback = find_in({});
  CHECK(fallback.kind == Source::Kind::file);
  CHECK(fallback.text_or_path == "/etc/rsock/rsock.toml");
  CHECK_FALSE(fallback.must_exist);
}

TEST_CASE("a variable that is set but empty means no configuration") {
  CHECK(find_in({{"RSOCK_RULES", ""}, {"RSOCK_CONFIG", "/x"}}).kind == Source::Kind::none);
  CHECK(find_in({{"RSOCK_CONFIG", ""}}).kind == Source::Kind::none);
}

TEST_CASE("no configuration loads as nothing selected, without reading") {
  const Parsed parsed = load({}, reading([](const std::string&) -> Result<File> { throw 1; }), "p");
  CHECK(parsed.errors.empty());
  CHECK(parsed.config.rules.all().empty());
}

TEST_CASE("text from the environment is named RSOCK_RULES in diagnostics") {
  const Parsed parsed = load({Source::Kind::text, "x = 1", true}, failing(EIO), "p");
  REQUIRE(parsed.errors.size() == 1);
  CHECK(to_string(parsed.errors[0]) == "RSOCK_RULES:1:1: unknown key \"x\"; known are: rule, options");
}

TEST_CASE("a file is read by the reader, at its path, for the program") {
  std::string asked;
  const Reader reader = reading([&](const std::string& path) {
    asked = path;
    return File{"[[rule]]\nconnect = '*:80'\nprogram = 'other'\n[[rule]]\nlisten = '*:80'", {}};
  });
  const Parsed parsed = load(kRequired, reader, "p");
  CHECK(asked == "/a/b.toml");
  CHECK(parsed.errors.empty());
  CHECK(parsed.config.rules.listen(At("10.0.0.1", 80)) == Lane::automatic);
  CHECK_FALSE(parsed.config.rules.any_connect());
}

TEST_CASE("a file that must exist and cannot be opened is an error that gives the reason") {
  const Parsed missing = load(kRequired, failing(ENOENT), "p");
  REQUIRE(missing.errors.size() == 1);
  CHECK(to_string(missing.errors[0]) == "/a/b.toml: cannot be opened: No such file or directory");

  const Parsed strange = load(kRequired, failing(9999), "p");
  REQUIRE(strange.errors.size() == 1);
  CHECK(to_string(strange.errors[0]) == "/a/b.toml: cannot be opened: Unknown error 9999");
}

TEST_CASE("the default file may be absent, but not unreadable") {
  CHECK(load(kOptional, failing(ENOENT), "p").errors.empty());
  CHECK(load(kOptional, failing(ENOTDIR), "p").errors.empty());
  const Parsed denied = load(kOptional, failing(EACCES), "p");
  REQUIRE(denied.errors.size() == 1);
  CHECK(to_string(denied.errors[0]) == "/etc/rsock/rsock.toml: cannot be opened: Permission denied");
}

TEST_CASE("running out of memory selects nothing and lets no exception out") {
  const Reader reader = reading([](const std::string&) -> Result<File> { throw std::bad_alloc(); });
  CHECK(load(kRequired, reader, "p").config.rules.all().empty());
  CHECK(find([](const char*) -> const char* { throw std::bad_alloc(); }).kind == Source::Kind::none);
}

namespace {

/// A folder's and a file's facts.
struct stat facts(mode_t mode, uid_t owner) {
  struct stat made {};
  made.st_mode = mode;
  made.st_uid = owner;
  return made;
}

/// /a/b.toml and /a/conf.d, as a Reader finds them.
struct Host {
  std::map<std::string, File> files{{"/a/b.toml", {"rule = [{listen = '*:1'}]", facts(S_IFREG | 0644, 0)}}};
  struct stat folder = facts(S_IFDIR | 0755, 0);
  bool listed = false;

  void add(const std::string& name, const std::string& text, mode_t mode = S_IFREG | 0644, uid_t owner = 0) {
    files["/a/conf.d/" + name] = {text, facts(mode, owner)};
  }
  Reader reader() {
    const auto find = [this](const std::string& path) -> Result<File> {
      if (const auto found = files.find(path); found != files.end()) return found->second;
      return Errno{ENOENT};
    };
    return {find, kUser, find, [this](const std::string& path, const Reader::Trusted& trusted) -> Result<Folder> {
              if (path != "/a/conf.d") return Errno{ENOENT};
              if (!trusted(folder)) return Folder{{}, folder};
              listed = true;
              Folder found{{}, folder};
              for (const auto& [file, content] : files)
                if (const auto name = file.substr(file.rfind('/') + 1); file.starts_with(path + '/') && is_part(name))
                  found.names.push_back(name);
              return found;
            }};
  }
  Parsed load(const Source& source = kRequired) { return config::load(source, reader(), "p"); }
  /// All that is wrong, a line each; nothing is selected then.
  std::string faults(const Source& source = kRequired) {
    const Parsed parsed = load(source);
    std::string lines;
    for (const auto& error : parsed.errors) lines += to_string(error) + "\n";
    if (!lines.empty()) CHECK(parsed.config.rules.all().empty());
    return lines;
  }
};

}  // namespace

TEST_CASE("files of conf.d come after the main file in the order of their names") {
  Host host;
  host.add("20.toml", "rule = [{listen = '*:20'}]\n[options]\nspin_us = 20\ndial_ms = 20");
  host.add("10.toml", "rule = [{listen = '*:10'}]\n\n[options]\nspin_us = 10");
  host.add("30.toml~", "nonsense");
  host.add(".30.toml", "nonsense");
  host.add("README", "nonsense");
  const Parsed parsed = host.load();
  REQUIRE(parsed.errors.empty());
  const auto rules = parsed.config.rules.all();
  REQUIRE(rules.size() == 3);
  CHECK(rules[0].endpoint.ports.first == 1);
  CHECK(rules[1].endpoint.ports.first == 10);
  CHECK(rules[2].endpoint.ports.first == 20);
  CHECK(parsed.config.options.spin_us.count() == 20);
  CHECK(parsed.config.options.dial_ms.count() == 20);
  CHECK(parsed.files == std::vector<std::string>{"/a/b.toml", "/a/conf.d/10.toml", "/a/conf.d/20.toml"});
  REQUIRE(parsed.rules.size() == 3);
  CHECK(parsed.rules[1].file == "/a/conf.d/10.toml");
  CHECK(parsed.rules[1].line == 1);
}

TEST_CASE("the first rule that fits decides across files, and it is the main file's") {
  Host host;
  host.add("10.toml", "rule = [{listen = '*:1', lane = 'tcp'}, {listen = '*:2', program = 'q'}]");
  const Parsed parsed = host.load();
  CHECK(parsed.config.rules.listen(At("10.0.0.1", 1)) == Lane::automatic);
  CHECK(parsed.config.rules.listen(At("10.0.0.1", 2)) == std::nullopt);
  CHECK(parsed.rules.size() == 2);
}

TEST_CASE("a mistake in conf.d names its file and its line, and nothing is selected") {
  Host host;
  host.add("10.toml", "[options]\n\nspin_us = -1\nspan_us = 1");
  host.add("20.toml", "[[rule]\n");
  host.add("30.toml", "x\0"s);
  const auto faults = host.faults();
  CHECK(
      faults.starts_with("/a/conf.d/10.toml:3:11: spin_us = -1 is out of range (0 to 100000 us)\n"
                         "/a/conf.d/10.toml:4:1: unknown key \"span_us\", did you mean \"spin_us\"?\n"
                         "/a/conf.d/20.toml:1:"));
  CHECK(faults.ends_with("/a/conf.d/30.toml:1:2: a configuration cannot contain a NUL byte\n"));
}

TEST_CASE("options that belong together are compared when all files are read") {
  Host host;
  host.add("10.toml", "options = {ring_min = '2M'}");
  CHECK(host.faults() == "/a/conf.d/10.toml:1:23: ring_max (1048576) is less than ring_min (2097152)\n");
  host.add("20.toml", "options = {spin_us = 1}");
  CHECK(host.faults() == "/a/conf.d/10.toml:1:23: ring_max (1048576) is less than ring_min (2097152)\n");
  host.add("20.toml", "options = {ring_max = '4M'}");
  CHECK(host.faults().empty());
}

TEST_CASE("the main file may be absent beside conf.d, unless it was named") {
  Host host;
  host.files.erase("/a/b.toml");
  host.add("10.toml", "rule = [{listen = '*:10'}]");
  const Parsed parsed = host.load({Source::Kind::file, "/a/b.toml", false});
  CHECK(parsed.errors.empty());
  CHECK(parsed.config.rules.any_listen());
  CHECK(parsed.files == std::vector<std::string>{"/a/conf.d/10.toml"});
  CHECK(host.faults() == "/a/b.toml: cannot be opened: No such file or directory\n");
}

TEST_CASE("a folder of a stranger, or one that others may write to, is not listed") {
  Host host;
  host.add("10.toml", "rule = [{listen = '*:10'}]");
  host.folder = facts(S_IFDIR | 0755, 1000);
  CHECK(host.faults() == "/a/conf.d: belongs to user 1000, neither to root nor to user 33, who reads it\n");
  host.folder = facts(S_IFDIR | S_ISVTX | 0777, 0);
  CHECK(host.faults() == "/a/conf.d: has mode 1777: others may write to it\n");
  CHECK_FALSE(host.listed);
  host.folder = facts(S_IFDIR | 0775, kUser);
  CHECK(host.faults().empty());
  CHECK(host.listed);
}

TEST_CASE("a file of a stranger in conf.d, one that others may write to, and one that is none are refused") {
  Host host;
  host.add("10.toml", "", S_IFREG | 0644, 1000);
  CHECK(host.faults() == "/a/conf.d/10.toml: belongs to user 1000, neither to root nor to user 33, who reads it\n");
  host.add("10.toml", "", S_IFREG | 0646);
  CHECK(host.faults() == "/a/conf.d/10.toml: has mode 0646: others may write to it\n");
  host.add("10.toml", "", S_IFIFO | 0644);
  CHECK(host.faults() == "/a/conf.d/10.toml: is no regular file\n");
  host.add("10.toml", "", S_IFREG | 0664, kUser);
  CHECK(host.faults().empty());
}

TEST_CASE("what belongs to the owner of the main file is as good as that") {
  Host host;
  host.files["/a/b.toml"].facts.st_uid = 1000;
  host.folder = facts(S_IFDIR | 0755, 1000);
  host.add("10.toml", "", S_IFREG | 0644, 1000);
  CHECK(host.faults().empty());
}

TEST_CASE("conf.d has an end") {
  Host host;
  for (std::size_t i = 0; i < kPartsMost; ++i) host.add(std::to_string(i) + ".toml", "");
  CHECK(host.faults().empty());
  host.add("more.toml", "");
  CHECK(host.faults() == "/a/conf.d: has more than 100 files\n");
}

TEST_CASE("text of the environment has no conf.d") {
  Host host;
  host.add("10.toml", "rule = [{listen = '*:10'}]");
  CHECK_FALSE(host.load({Source::Kind::text, "", true}).config.rules.any_listen());
  CHECK_FALSE(host.listed);
}

TEST_CASE("each option and rule has its place") {
  const Parsed parsed =
      load({Source::Kind::text, "[[rule]]\nlisten = '*:1'\n[options]\n\nspin_us = 7", true}, failing(EIO), "p");
  REQUIRE(parsed.rules.size() == 1);
  CHECK(parsed.rules[0].file == "RSOCK_RULES");
  CHECK(parsed.rules[0].line == 1);
  std::size_t set = 0;
  for (const auto& place : parsed.options) {
    if (place.file.empty()) continue;
    ++set;
    CHECK(place.file == "RSOCK_RULES");
    CHECK(place.line == 5);
  }
  CHECK(set == 1);
}
