#include <array>
#include <catch2/catch.hpp>

#include "config/diagnostic.hpp"

using namespace rsock::config;

TEST_CASE("a diagnostic reads FILE:LINE:COLUMN: message") {
  CHECK(to_string({"a.toml", 3, 14, "wrong"}) == "a.toml:3:14: wrong");
}

TEST_CASE("a diagnostic about the whole file has no line") {
  CHECK(to_string({"a.toml", 0, 0, "cannot be opened"}) == "a.toml: cannot be opened");
}

TEST_CASE("a diagnostic is one printable line whatever the configuration contained") {
  CHECK(to_string({"a\nb", 1, 1, "x\x1b[0m\ny"}) == "a\\x0ab:1:1: x\\x1b[0m\\x0ay");
}

TEST_CASE("quoted text is cut between code points") {
  CHECK(quoted("plain") == "\"plain\"");
  CHECK(quoted(std::string(80, 'x')) == "\"" + std::string(80, 'x') + "\"");
  CHECK(quoted(std::string(81, 'x')) == "\"" + std::string(80, 'x') + "...\"");
  CHECK(quoted(std::string(79, 'x') + "\u00e9") == "\"" + std::string(79, 'x') + "...\"");
}

TEST_CASE("the nearest word is named only when it is close") {
  constexpr std::array<std::string_view, 4> known = {"listen", "connect", "program", "lane"};
  CHECK(nearest("lisen", known) == "listen");
  CHECK(nearest("lisetn", known) == "listen");
  CHECK(nearest("Listen", known) == "listen");
  CHECK(nearest("conect", known) == "connect");
  CHECK(nearest("lan", known) == "lane");
  CHECK(nearest("lanes", known) == "lane");
  CHECK(nearest("port", known).empty());
  CHECK(nearest("", known).empty());
  CHECK(nearest("x", known).empty());
  CHECK(nearest(std::string(100000, 'l'), known).empty());
}
