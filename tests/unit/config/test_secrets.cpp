#include <catch2/catch.hpp>
#include <cerrno>
#include <numeric>
#include <string>

#include "config/secrets.hpp"

using namespace rsock;
using namespace rsock::config;

namespace {

constexpr uid_t kUser = 33;

/// 1, 2, 3, ...
File file(std::size_t size, mode_t mode = S_IFREG | 0600, uid_t owner = kUser) {
  File made;
  made.bytes.resize(size);
  std::iota(made.bytes.begin(), made.bytes.end(), '\1');
  made.facts.st_mode = mode;
  made.facts.st_uid = owner;
  return made;
}

Parsed taken(const Result<File>& from) {
  Parsed parsed = parse("[[rule]]\nlisten = '*:80'\n[options]\nsecret = '/s'\n", "f", "prog");
  REQUIRE(parsed.errors.empty());
  take_secrets(parsed, "f", from, kUser);
  return parsed;
}

/// What is said of it; nothing is selected then, and nothing of it kept.
std::string complaint(const Result<File>& from) {
  const Parsed parsed = taken(from);
  REQUIRE(parsed.errors.size() == 1);
  CHECK(parsed.config.rules.all().empty());
  CHECK(parsed.config.secrets.empty());
  return to_string(parsed.errors[0]);
}

}  // namespace

TEST_CASE("a file has one secret or two, in their order") {
  const Parsed one = taken(file(32));
  CHECK(one.errors.empty());
  REQUIRE(one.config.secrets.size() == 1);
  CHECK(one.config.secrets[0].front() == 1);
  CHECK(one.config.secrets[0].back() == 32);
  CHECK(one.config.rules.any_listen());

  const Parsed two = taken(file(64));
  CHECK(two.errors.empty());
  REQUIRE(two.config.secrets.size() == 2);
  CHECK(two.config.secrets[0] == one.config.secrets[0]);
  CHECK(two.config.secrets[1].front() == 33);
  CHECK(two.config.secrets[1].back() == 64);
}

TEST_CASE("a file of secrets has one size or the other") {
  for (const std::size_t size : {0, 1, 31, 33, 63, 65})
    CHECK(complaint(file(size)) == "f: secret = \"/s\" must hold 32 or 64 bytes: one or two secrets of 32 each");
}

TEST_CASE("a file of secrets is root's or its reader's") {
  CHECK(taken(file(32, S_IFREG | 0400, 0)).errors.empty());
  CHECK(complaint(file(32, S_IFREG | 0600, 1000)) ==
        "f: secret = \"/s\" belongs to user 1000, neither to root nor to user 33, who reads it");
}

TEST_CASE("a file of secrets is for nobody else") {
  for (const mode_t mode : {0400, 0500, 0600, 0700, 04600}) CHECK(taken(file(32, S_IFREG | mode)).errors.empty());
  for (mode_t bit = 1; bit <= 040; bit <<= 1)
    CHECK(complaint(file(32, S_IFREG | 0600 | bit)).ends_with(": group and others may have no permission"));
  CHECK(complaint(file(32, S_IFREG | 0644)).find("has mode 0644:") != std::string::npos);
}

TEST_CASE("secrets are in a regular file") {
  for (const mode_t kind : {S_IFDIR, S_IFIFO, S_IFCHR, S_IFSOCK})
    CHECK(complaint(file(0, kind | 0600)) == "f: secret = \"/s\" is no regular file");
}

TEST_CASE("a file of secrets that cannot be read is an error that gives the reason") {
  CHECK(complaint(Errno{ENOENT}) == "f: secret = \"/s\" cannot be read: No such file or directory");
  CHECK(complaint(Errno{EACCES}) == "f: secret = \"/s\" cannot be read: Permission denied");
}

TEST_CASE("a configuration in error stays that") {
  Parsed parsed = parse("[options]\nsecret = 's'\n", "f", "prog");
  take_secrets(parsed, "f", file(32), kUser);
  REQUIRE(parsed.errors.size() == 1);
  CHECK(to_string(parsed.errors[0]) == "f:2:10: secret = \"s\" is no absolute path");
  CHECK(parsed.config.secrets.empty());
}
