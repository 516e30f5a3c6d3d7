#include <catch2/catch.hpp>
#include <set>
#include <string>

#include "config/config.hpp"
#include "config/option_table.hpp"

using namespace rsock::config;
using namespace std::chrono_literals;

namespace {

Options options(const std::string& lines) {
  const Parsed parsed = parse("[options]\n" + lines, "f", "p");
  for (const Diagnostic& error : parsed.errors) UNSCOPED_INFO(to_string(error));
  REQUIRE(parsed.errors.empty());
  return parsed.config.options;
}

/// All diagnostics of an [options] table, a line each. The first option is on line 2.
std::string errors(const std::string& lines) {
  std::string out;
  for (const Diagnostic& error : parse("[options]\n" + lines, "f", "p").errors) out += to_string(error) + "\n";
  return out;
}

}  // namespace

TEST_CASE("defaults") {
  const Options defaults;
  CHECK(defaults.rendezvous_ms == 2s);
  CHECK(defaults.young_ms == 10ms);
  CHECK(defaults.dial_ms == 2s);
  CHECK(defaults.spin_us == 400us);
  CHECK(defaults.ring_min == 16384);
  CHECK(defaults.ring_max == 1048576);
  CHECK(defaults.drain_ms == 2s);
  CHECK(defaults.max_pinned == std::size_t{1} << 30);
  CHECK(defaults.check_peer_address);
  CHECK(defaults.device.empty());
  CHECK(defaults.io_uring == IoUring::refuse);
  CHECK(defaults.secret.empty());
}

TEST_CASE("every member of Options has its row") {
  std::set<std::string_view> names;
  for (const Option& option : option_table()) names.insert(option.name);
  [[maybe_unused]] const auto& [rendezvous, young, dial, spin, ring_min, ring_max, drain, pinned, check, device,
                                io_uring, secret] = Options();
  CHECK(names.size() == 12);
  CHECK(option_table().size() == names.size());
}

TEST_CASE("every row can be set, and sets its own member") {
  const Options set = options(
      "rendezvous_ms = 11\nyoung_ms = 1000\ndial_ms = 12\nspin_us = 13\nring_min = 8192\nring_max = 32768\n"
      "drain_ms = 14\nmax_pinned = 1048577\ncheck_peer_address = false\ndevice = 'rxe0'\n"
      "io_uring = 'tcp'\nsecret = '/etc/secret'\n");
  CHECK(set.rendezvous_ms == 11ms);
  CHECK(set.young_ms == 1s);
  CHECK(set.dial_ms == 12ms);
  CHECK(set.spin_us == 13us);
  CHECK(set.ring_min == 8192);
  CHECK(set.ring_max == 32768);
  CHECK(set.drain_ms == 14ms);
  CHECK(set.max_pinned == 1048577);
  CHECK_FALSE(set.check_peer_address);
  CHECK(set.device == "rxe0");
  CHECK(set.io_uring == IoUring::tcp);
  CHECK(set.secret == "/etc/secret");
}

TEST_CASE("sizes are integers or texts with a factor") {
  CHECK(options("ring_min = 65536").ring_min == 65536);
  CHECK(options("ring_min = '65536'").ring_min == 65536);
  CHECK(options("ring_min = '64K'").ring_min == 65536);
  CHECK(options("ring_max = '2M'").ring_max == 2097152);
  CHECK(options("max_pinned = '3G'").max_pinned == std::size_t{3} << 30);
  const std::string range = " is out of range (4K to 64M, a power of two)\n";
  CHECK(errors("ring_min = '3K'") == "f:2:12: ring_min = \"3K\"" + range);
  const std::string type = "f:2:12: ring_min must be a size (65536, \"64K\", \"1M\")\n";
  for (const char* bad : {"''", "'K'", "'64Q'", "'64 K'", "'64KB'", "'-64K'", "'+64K'", "' 64K'", "'1.5M'",
                          "'99999999999999999999'", "'18014398509481984K'", "true"})
    CHECK(errors(std::string("ring_min = ") + bad) == type);
}

TEST_CASE("bounds are inclusive") {
  CHECK(options("rendezvous_ms = 10").rendezvous_ms == 10ms);
  CHECK(options("rendezvous_ms = 60000").rendezvous_ms == 60s);
  CHECK(options("spin_us = 0").spin_us == 0us);
  CHECK(options("spin_us = 100000").spin_us == 100ms);
  CHECK(options("ring_min = 4096").ring_min == 4096);
  CHECK(options("ring_max = '64M'").ring_max == 67108864);
  CHECK(errors("rendezvous_ms = 9") == "f:2:17: rendezvous_ms = 9 is out of range (10 to 60000 ms)\n");
  CHECK(errors("rendezvous_ms = 60001") == "f:2:17: rendezvous_ms = 60001 is out of range (10 to 60000 ms)\n");
  CHECK(errors("spin_us = -1") == "f:2:11: spin_us = -1 is out of range (0 to 100000 us)\n");
  CHECK(errors("spin_us = 100001") == "f:2:11: spin_us = 100001 is out of range (0 to 100000 us)\n");
  CHECK(errors("ring_min = 2048") == "f:2:12: ring_min = 2048 is out of range (4K to 64M, a power of two)\n");
  CHECK(errors("ring_max = '128M'") == "f:2:12: ring_max = \"128M\" is out of range (4K to 64M, a power of two)\n");
  CHECK(errors("ring_max = 5000") == "f:2:12: ring_max = 5000 is out of range (4K to 64M, a power of two)\n");
  CHECK(errors("drain_ms = -9223372036854775808") ==
        "f:2:12: drain_ms = -9223372036854775808 is out of range (0 to 60000 ms)\n");
  CHECK(errors("max_pinned = 0") == "f:2:14: max_pinned = 0 is out of range (1M to 1024G)\n");
}

TEST_CASE("ring_max is at least ring_min") {
  CHECK(options("ring_min = '1M'\nring_max = '1M'").ring_min == 1048576);
  CHECK(errors("ring_max = '64K'\nring_min = '128K'") == "f:2:12: ring_max (65536) is less than ring_min (131072)\n");
  CHECK(errors("ring_max = '8K'") == "f:2:12: ring_max (8192) is less than ring_min (16384)\n");
  CHECK(errors("\nring_min = '2M'") == "f:3:12: ring_max (1048576) is less than ring_min (2097152)\n");
}

TEST_CASE("wrong types") {
  CHECK(errors("spin_us = '3'") == "f:2:11: spin_us must be an integer\n");
  CHECK(errors("spin_us = true") == "f:2:11: spin_us must be an integer\n");
  CHECK(errors("spin_us = 1.5") == "f:2:11: spin_us cannot be a floating-point number\n");
  CHECK(errors("spin_us = [1]") == "f:2:11: spin_us cannot be an array\n");
  CHECK(errors("spin_us = {}") == "f:2:11: spin_us cannot be a table\n");
  CHECK(errors("spin_us = 2020-01-01") == "f:2:11: spin_us cannot be a date\n");
  CHECK(errors("check_peer_address = 1") == "f:2:22: check_peer_address must be a boolean\n");
  CHECK(errors("check_peer_address = 'yes'") == "f:2:22: check_peer_address must be a boolean\n");
  CHECK(errors("device = 1") == "f:2:10: device must be a string\n");
}

TEST_CASE("words are those of the option") {
  CHECK(options("io_uring = 'refuse'").io_uring == IoUring::refuse);
  for (const char* bad : {"'rdma'", "''", "'Tcp'", "true", "1"})
    CHECK(errors(std::string("io_uring = ") + bad) == "f:2:12: io_uring must be refuse or tcp\n");
}

TEST_CASE("names of devices are bounded and free of NUL") {
  CHECK(options("device = '" + std::string(63, 'x') + "'").device.size() == 63);
  CHECK(errors("device = '" + std::string(64, 'x') + "'") == "f:2:10: device is longer than 63 bytes\n");
  CHECK(errors("device = \"a\\u0000b\"") == "f:2:10: device contains a NUL\n");
}

TEST_CASE("a secret is named by an absolute path") {
  CHECK(options("secret = ''").secret.empty());
  CHECK(options("secret = '/" + std::string(999, 'x') + "'").secret.size() == 1000);
  CHECK(errors("secret = '/" + std::string(1000, 'x') + "'") == "f:2:10: secret is longer than 1000 bytes\n");
  CHECK(errors("secret = 'file'") == "f:2:10: secret = \"file\" is no absolute path\n");
  CHECK(errors("secret = 1") == "f:2:10: secret must be a string\n");
}

TEST_CASE("what is shown names every option with its default, range and sentence") {
  const std::string text = describe_options();
  const std::string page = man_section();
  for (const Option& option : option_table()) {
    CHECK(text.find(std::string(option.name) + " = ") != text.npos);
    CHECK(text.find(option.sentence) != text.npos);
    CHECK(page.find(".BR " + std::string(option.name) + " \" = ") != page.npos);
    CHECK(page.find(option.sentence) != page.npos);
    CHECK(option.sentence.ends_with('.'));
  }
  CHECK(text.find("ring_min = 16K\n") != text.npos);
  CHECK(text.find("size, 4K to 64M, a power of two\n") != text.npos);
  CHECK(text.find("check_peer_address = true\n") != text.npos);
  CHECK(text.find("device = \"\"\n") != text.npos);
  CHECK(text.find("io_uring = \"refuse\"\n") != text.npos);
  CHECK(text.find("word, refuse or tcp\n") != text.npos);
  CHECK(page.find("= \\(dqrefuse\\(dq\"\n") != page.npos);
  CHECK(page.find("(refuse or tcp.)\n") != page.npos);
  CHECK(page.find("= true\"\n") != page.npos);
}
