#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <string>

#include "addresses.hpp"
#include "config/config.hpp"

using namespace rsock::config;
using namespace std::string_literals;

namespace {

/// All diagnostics, a line each.
std::string errors(std::string_view text) {
  const Parsed parsed = parse(text, "f", "prog");
  std::string out;
  for (const Diagnostic& error : parsed.errors) out += to_string(error) + "\n";
  if (!parsed.errors.empty()) CHECK(parsed.config.rules.all().empty());
  return out;
}

Config config(std::string_view text, std::string_view program = "prog") {
  Parsed parsed = parse(text, "f", program);
  for (const Diagnostic& error : parsed.errors) UNSCOPED_INFO(to_string(error));
  REQUIRE(parsed.errors.empty());
  return std::move(parsed.config);
}

}  // namespace

TEST_CASE("an empty text is valid and selects nothing") {
  for (const char* text : {"", "\n", "# only a comment", "[options]", "rule = []", "\xef\xbb\xbf", "\r\n"})
    CHECK(config(text).rules.all().empty());
}

TEST_CASE("rules keep their order and their values") {
  const Rules rules = config(R"(
[[rule]]
listen = "*:6379"
[[rule]]
connect = "10.0.0.0/8:6379-6400"
program = "pr?g"
lane = "rdma"
[[rule]]
connect = "[fd00::/8]:80"
lane = "tcp"
)")
                          .rules;
  REQUIRE(rules.all().size() == 3);
  CHECK(to_string(rules.all()[0]) == "listen *:6379 lane auto");
  CHECK(to_string(rules.all()[1]) == "connect 10.0.0.0/8:6379-6400 lane rdma program pr?g");
  CHECK(to_string(rules.all()[2]) == "connect [fd00::/8]:80 lane tcp");
  CHECK(rules.listen(At("127.0.0.1", 6379)) == Lane::automatic);
  CHECK(rules.connect(At("10.1.1.1", 6390)) == Lane::rdma);
  CHECK(rules.connect(At("fd00::1", 80)) == Lane::tcp);
}

TEST_CASE("inline rules and every lane are understood") {
  const Rules rules = config(R"(rule = [{listen = "*:1", lane = "auto"}, {listen = "*:2", lane = "rdma"},
                                {listen = "*:3", lane = "shm"}, {listen = "*:4", lane = "tcp"}])")
                          .rules;
  CHECK(rules.listen(At("::1", 1)) == Lane::automatic);
  CHECK(rules.listen(At("::1", 2)) == Lane::rdma);
  CHECK(rules.listen(At("::1", 3)) == Lane::shm);
  CHECK(rules.listen(At("::1", 4)) == Lane::tcp);
}

TEST_CASE("rules of other programs are dropped, unless all are asked for") {
  constexpr std::string_view text =
      "rule = [{listen = '*:1', program = 'redis-*'}, {listen = '*:2', program = 'nginx'}, {listen = '*:3'}]";
  const Rules redis = config(text, "redis-server").rules;
  REQUIRE(redis.all().size() == 2);
  CHECK(redis.listen(At("::1", 1)) == Lane::automatic);
  CHECK(redis.listen(At("::1", 2)) == std::nullopt);
  CHECK(redis.listen(At("::1", 3)) == Lane::automatic);
  CHECK(config(text, "cat").rules.all().size() == 1);
  CHECK(parse_for_every_program(text, "f").config.rules.all().size() == 3);
}

TEST_CASE("a mistake in another program's rule is still a mistake") {
  CHECK(errors("[[rule]]\nprogram = 'other'\nlisten = '*'") == "f:3:10: \"*\" has no port; ADDRESS:* means any\n");
}

TEST_CASE("unknown keys are placed at the key and name the nearest known one") {
  CHECK(errors("[[rule]]\nlisten = '*:1'\n  lisen = 1") == "f:3:3: unknown key \"lisen\", did you mean \"listen\"?\n");
  CHECK(errors("[[rule]]\nlisten = '*:1'\nport = 1") ==
        "f:3:1: unknown key \"port\"; known are: listen, connect, program, lane\n");
  CHECK(errors("[[rules]]\nlisten = '*:1'") == "f:1:3: unknown key \"rules\", did you mean \"rule\"?\n");
  CHECK(errors("[option]\nspin_us = 1") == "f:1:2: unknown key \"option\", did you mean \"options\"?\n");
  CHECK(errors("[options]\nspin_ms = 1") == "f:2:1: unknown key \"spin_ms\", did you mean \"spin_us\"?\n");
  CHECK(errors("\n zzz.listen = 1") == "f:2:2: unknown key \"zzz\"; known are: rule, options\n");
  CHECK(errors("\"a\\nb\" = 1") == "f:1:1: unknown key \"a\\x0ab\"; known are: rule, options\n");
}

TEST_CASE("a misspelt listen is not also a missing listen") {
  CHECK(errors("[[rule]]\nlisen = '*:1'") == "f:2:1: unknown key \"lisen\", did you mean \"listen\"?\n");
}

TEST_CASE("a rule has exactly one of listen and connect") {
  CHECK(errors("\n  [[rule]]\nlane = 'rdma'") == "f:2:3: a rule needs listen or connect\n");
  CHECK(errors("rule = [{listen = '*:1'}, {}]") == "f:1:27: a rule needs listen or connect\n");
  CHECK(errors("[[rule]]\nlisten = '*:1'\n connect = '*:1'") == "f:3:2: a rule has listen or connect, not both\n");
  CHECK(errors("[[rule]]\nconnect = '*:1'\nlisten = '*:1'") == "f:3:1: a rule has listen or connect, not both\n");
}

TEST_CASE("a key that is given twice is an error on the second line") {
  const std::string found = errors("[[rule]]\nlisten = '*:1'\nlisten = '*:2'");
  CHECK(found.starts_with("f:3:"));
  CHECK(found.find("redefine") != found.npos);
  CHECK(errors("[options]\n[options]").starts_with("f:2:"));
}

TEST_CASE("wrong types are placed at the value") {
  CHECK(errors("[rule]\nlisten = '*:1'") == "f:1:1: a rule begins with [[rule]]; this is a table\n");
  CHECK(errors("rule = 1") == "f:1:8: a rule begins with [[rule]]; this is an integer\n");
  CHECK(errors("rule = [1]") == "f:1:9: a rule must be a table, not an integer\n");
  CHECK(errors("options = 'x'") == "f:1:11: options must be a table, not a string\n");
  CHECK(errors("[[options]]") == "f:1:1: options must be a table, not an array\n");
  CHECK(errors("[[rule]]\nlisten = 6379") == "f:2:10: listen must be a string, not an integer\n");
  CHECK(errors("[[rule]]\nconnect = ['*:1']") == "f:2:11: connect must be a string, not an array\n");
  CHECK(errors("[[rule]]\nlisten = '*:1'\nlane = true") == "f:3:8: lane must be a string, not a boolean\n");
  CHECK(errors("[[rule]]\nlisten = '*:1'\nprogram = 1.5") ==
        "f:3:11: program must be a string, not a floating-point number\n");
}

TEST_CASE("bad values are placed at the value") {
  CHECK(errors("[[rule]]\nlisten = '10.0.0:1'") == "f:2:10: bad IPv4 address \"10.0.0\"\n");
  CHECK(errors("[[rule]]\nlisten = '10.0.0.0/33:1'") ==
        "f:2:10: prefix length \"33\" is longer than the 32 bits of an IPv4 address\n");
  CHECK(errors("[[rule]]\n\tconnect = '*:2-1'") == "f:2:12: port range \"2-1\" is reversed\n");
  CHECK(errors("[[rule]]\nconnect = '*:70000'") == "f:2:11: port \"70000\" is out of range (1 to 65535)\n");
  CHECK(errors("[[rule]]\nlisten = '*:1'\nlane = 'RDMA'") ==
        "f:3:8: unknown lane \"RDMA\"; lanes are: auto, rdma, shm, tcp\n");
  CHECK(errors("[[rule]]\nlisten = '*:1'\nprogram = ''") == "f:3:11: program = \"\" names no program\n");
  CHECK(errors("[[rule]]\nlisten = '*:1'\nprogram = \"a\\u0000b\"") ==
        "f:3:11: program = \"a\\x00b\" names no program\n");
}

TEST_CASE("columns count code points") {
  CHECK(errors("rule = [{program = '\u00e9\u00e9', listen = 1}]") ==
        "f:1:35: listen must be a string, not an integer\n");
}

TEST_CASE("all mistakes are told, in the order of the text") {
  CHECK(
      errors("[options]\nspin_us = -1\nbogus_option = 1\n[[rule]]\nlisten = '*:0'\nlane = 'x'\n"
             "[[rule]]\n[other]\n[[rule]]\nconnect = 1\n") ==
      "f:2:11: spin_us = -1 is out of range (0 to 100000 us)\n"
      "f:3:1: unknown key \"bogus_option\"; known are: rendezvous_ms, young_ms, dial_ms, spin_us, ring_min, ring_max, "
      "drain_ms, max_pinned, check_peer_address, device, io_uring, secret\n"
      "f:5:10: port \"0\" is out of range (1 to 65535)\n"
      "f:6:8: unknown lane \"x\"; lanes are: auto, rdma, shm, tcp\n"
      "f:7:1: a rule needs listen or connect\n"
      "f:8:2: unknown key \"other\"; known are: rule, options\n"
      "f:10:11: connect must be a string, not an integer\n");
}

TEST_CASE("an error leaves the defaults in force") {
  const Parsed parsed = parse("[options]\nspin_us = 1\nring_min = 1", "f", "prog");
  CHECK(parsed.errors.size() == 1);
  CHECK(parsed.config.options.spin_us == Options().spin_us);
}

TEST_CASE("what is not TOML is one error where it was noticed") {
  CHECK(errors("[[rule]]\n= 1").starts_with("f:2:1: "));
  CHECK(errors("[[rule]]\nlisten = \"*:1").starts_with("f:2:14: "));
  CHECK(errors("[[rule]\n").starts_with("f:1:8: "));
  CHECK(errors("listen *:80").starts_with("f:1:8: "));
}

TEST_CASE("what toml++ asserts or calls unreachable is an error like any other") {
  CHECK(errors("[:rule]]").starts_with("f:1:2: "));
  CHECK(errors("[[^.le]]").starts_with("f:1:3: "));
  CHECK(errors("[~]").starts_with("f:1:2: "));
  CHECK(errors("x = 2020-01-01Tx").starts_with("f:1:5: "));
  CHECK(errors("\u00e9 = 1").starts_with("f:1:1: "));
  CHECK(errors("\ufedf").starts_with("f:1:1: "));
  CHECK(errors("x = \u3040").starts_with("f:1:5: "));
}

TEST_CASE("NUL and bytes that are not UTF-8 are placed exactly") {
  CHECK(errors("\0"s) == "f:1:1: a configuration cannot contain a NUL byte\n");
  CHECK(errors("# \u00e9\n# \u00e9\0"s) == "f:2:4: a configuration cannot contain a NUL byte\n");
  for (const char* bad : {"\xff", "\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80",
                          "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\xc3"})
    CHECK(errors("\n# \u20ac"s + bad) == "f:2:4: not UTF-8\n");
  CHECK(errors("# \u00e9 \u20ac \U0001f600 \U0010ffff \ud7ff \ue000"s).empty());
}

TEST_CASE("long texts and long lines are refused") {
  CHECK(errors(std::string(kTextLimit + 1, '\n')) == "f: is longer than 262144 bytes\n");
  CHECK(errors(std::string(kTextLimit, '\n')).empty());
  CHECK(errors("\n" + std::string(kLineLimit + 1, '#')) == "f:2:1: line is longer than 1024 bytes\n");
  CHECK(errors("\n" + std::string(kLineLimit, '#')).empty());
}

TEST_CASE("nesting as deep as the limits allow does not exhaust the stack") {
  std::string parts = "a";
  while (parts.size() < 1000) parts += ".a";
  std::string text = "[" + parts + "]\n";
  for (int i = 0; i < 3; ++i) text += parts + " = [\n{";
  CHECK_FALSE(errors(text).empty());
  text += "b = 1";
  for (int i = 0; i < 3; ++i) text += "}]";
  CHECK(errors(text) == "f:1:2: unknown key \"a\"; known are: rule, options\n");
}

TEST_CASE("any bytes at all give an answer") {
  std::mt19937 random(20240501);
  const std::string seed = "[[rule]]\nlisten = \"*:6379\"\nlane = 'rdma'\n[options]\nring_min = \"64K\"\nspin_us = 3\n";
  for (int round = 0; round < 3000; ++round) {
    std::string text = seed;
    for (int edits = 0; edits < 4; ++edits) text[random() % text.size()] = static_cast<char>(random());
    const Parsed parsed = parse(text, "f", "prog");
    for (const Diagnostic& error : parsed.errors) CHECK(error.line <= 8);
    std::generate(text.begin(), text.end(), [&] { return static_cast<char>(random()); });
    parse(text, "f", "prog");
  }
}
