#include <catch2/catch.hpp>
#include <cerrno>
#include <map>
#include <new>
#include <string>

#include "addresses.hpp"
#include "config/source.hpp"

using namespace rsock::config;

namespace {

using Variables = std::map<std::string, std::string>;

Source find_in(const Variables& variables) {
  return find([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found != variables.end() ? found->second.c_str() : nullptr;
  });
}

Reader failing(int error) {
  return [error](const std::string&) { return error; };
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
  const Parsed parsed = load(
      {}, [](const std::string&) -> std::variant<std::string, int> { throw 1; }, "p");
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
  const Reader reader = [&](const std::string& path) {
    asked = path;
    return "[[rule]]\nconnect = '*:80'\nprogram = 'other'\n[[rule]]\nlisten = '*:80'";
  };
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
  CHECK(to_string(strange.errors[0]) == "/a/b.toml: cannot be opened: error 9999");
}

TEST_CASE("the default file may be absent, but not unreadable") {
  CHECK(load(kOptional, failing(ENOENT), "p").errors.empty());
  CHECK(load(kOptional, failing(ENOTDIR), "p").errors.empty());
  const Parsed denied = load(kOptional, failing(EACCES), "p");
  REQUIRE(denied.errors.size() == 1);
  CHECK(to_string(denied.errors[0]) == "/etc/rsock/rsock.toml: cannot be opened: Permission denied");
}

TEST_CASE("running out of memory selects nothing and lets no exception out") {
  const Reader reader = [](const std::string&) -> std::variant<std::string, int> { throw std::bad_alloc(); };
  CHECK(load(kRequired, reader, "p").config.rules.all().empty());
  CHECK(find([](const char*) -> const char* { throw std::bad_alloc(); }).kind == Source::Kind::none);
}
