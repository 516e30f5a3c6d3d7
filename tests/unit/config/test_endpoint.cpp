#include <catch2/catch.hpp>
#include <string>

#include "addresses.hpp"
#include "config/endpoint.hpp"

using namespace rsock::config;

namespace {

/// The endpoint as it is shown again, or the complaint.
std::string shown(std::string_view text) {
  const auto parsed = parse_endpoint(text);
  if (const auto* complaint = std::get_if<Complaint>(&parsed)) return complaint->text;
  return to_string(std::get<Endpoint>(parsed));
}

bool contains(std::string_view text, const char* address, std::uint16_t port) {
  return std::get<Endpoint>(parse_endpoint(text)).contains(Address::from(At(address, port)).value());
}

}  // namespace

TEST_CASE("an endpoint is shown in its shortest form") {
  CHECK(shown("*:6379") == "*:6379");
  CHECK(shown("*:*") == "*:*");
  CHECK(shown("10.0.0.1:1-65535") == "10.0.0.1:1-65535");
  CHECK(shown("10.0.0.1/32:80-80") == "10.0.0.1:80");
  CHECK(shown("0.0.0.0/0:080") == "0.0.0.0/0:80");
  CHECK(shown("[::1]:*") == "[::1]:*");
  CHECK(shown("[FD00:0:0::/8]:80") == "[fd00::/8]:80");
  CHECK(shown("[::/0]:80") == "[::/0]:80");
}

TEST_CASE("bits beyond the prefix are dropped") {
  CHECK(shown("10.1.2.3/8:80") == "10.0.0.0/8:80");
  CHECK(shown("10.1.2.255/31:80") == "10.1.2.254/31:80");
  CHECK(shown("[fd12:3456::1/7]:80") == "[fc00::/7]:80");
  CHECK(shown("1.2.3.4/0:80") == "0.0.0.0/0:80");
}

TEST_CASE("an IPv4-mapped network is the IPv4 network") {
  CHECK(shown("[::ffff:10.1.2.3]:80") == "10.1.2.3:80");
  CHECK(shown("[::ffff:10.1.2.3/104]:80") == "10.0.0.0/8:80");
  CHECK(shown("[::ffff:10.1.2.3/96]:80") == "0.0.0.0/0:80");
  CHECK(shown("[::ffff:10.1.2.3/95]:80") == "[::fffe:0:0/95]:80");
}

TEST_CASE("bad addresses are told apart") {
  CHECK(shown("") == R"("" has no port; ADDRESS:* means any)");
  CHECK(shown("10.0.0.1") == R"("10.0.0.1" has no port; ADDRESS:* means any)");
  CHECK(shown("[::1]") == R"("[::1]" has no port; [ADDRESS]:* means any)");
  CHECK(shown("[::1]80") == R"("[::1]80" has no port; [ADDRESS]:* means any)");
  CHECK(shown("[::1:80") == R"("[::1:80" lacks a closing bracket)");
  CHECK(shown("::1:80") == R"(bad address "::1:80": an IPv6 address stands in brackets, as in [::1]:80)");
  CHECK(shown("10.0.0:80") == R"(bad IPv4 address "10.0.0")");
  CHECK(shown("010.0.0.1:80") == R"(bad IPv4 address "010.0.0.1")");
  CHECK(shown(" 10.0.0.1:80") == R"(bad IPv4 address " 10.0.0.1")");
  CHECK(shown("localhost:80") == R"(bad IPv4 address "localhost")");
  CHECK(shown(":80") == R"(bad IPv4 address "")");
  CHECK(shown("*/8:80") == R"(bad IPv4 address "*")");
  CHECK(shown("[*]:80") == R"(bad IPv6 address "*")");
  CHECK(shown("[10.0.0.1]:80") == R"(bad IPv6 address "10.0.0.1")");
  CHECK(shown("[fe80::1%eth0]:80") == R"(bad IPv6 address "fe80::1%eth0")");
  CHECK(shown(std::string_view("10.0.0.1\0:80", 12)) == R"(bad IPv4 address "10.0.0.1\x00")");
  CHECK(shown(std::string(100000, '1') + ":80").size() < 200);
}

TEST_CASE("bad prefixes are told apart") {
  CHECK(shown("10.0.0.0/33:80") == R"(prefix length "33" is longer than the 32 bits of an IPv4 address)");
  CHECK(shown("[fd00::/129]:80") == R"(prefix length "129" is longer than the 128 bits of an IPv6 address)");
  CHECK(shown("10.0.0.0/4294967297:80") ==
        R"(prefix length "4294967297" is longer than the 32 bits of an IPv4 address)");
  CHECK(shown("10.0.0.0/:80") == R"(bad prefix length "")");
  CHECK(shown("10.0.0.0/-1:80") == R"(bad prefix length "-1")");
  CHECK(shown("10.0.0.0/8/8:80") == R"(bad prefix length "8/8")");
  CHECK(shown("[fd00::]/8:80") == R"("[fd00::]/8:80" has no port; [ADDRESS]:* means any)");
}

TEST_CASE("bad ports are told apart") {
  CHECK(shown("*:0") == R"(port "0" is out of range (1 to 65535))");
  CHECK(shown("*:65536") == R"(port "65536" is out of range (1 to 65535))");
  CHECK(shown("*:99999999999999999999") == R"(port "99999999999999999999" is out of range (1 to 65535))");
  CHECK(shown("*:0-10") == R"(port "0" is out of range (1 to 65535))");
  CHECK(shown("*:10-65536") == R"(port "65536" is out of range (1 to 65535))");
  CHECK(shown("*:") == R"(bad port "": a port is a number, FIRST-LAST or *)");
  CHECK(shown("*:http") == R"(bad port "http": a port is a number, FIRST-LAST or *)");
  CHECK(shown("*:80-") == R"(bad port "": a port is a number, FIRST-LAST or *)");
  CHECK(shown("*:-80") == R"(bad port "": a port is a number, FIRST-LAST or *)");
  CHECK(shown("*:80 ") == R"(bad port "80 ": a port is a number, FIRST-LAST or *)");
  CHECK(shown("*:80-90-100") == R"(bad port "90-100": a port is a number, FIRST-LAST or *)");
  CHECK(shown("*:90-80") == R"(port range "90-80" is reversed)");
}

TEST_CASE("a network contains its first and its last address and no neighbour") {
  CHECK(contains("10.0.0.0/8:80", "10.0.0.0", 80));
  CHECK(contains("10.0.0.0/8:80", "10.255.255.255", 80));
  CHECK_FALSE(contains("10.0.0.0/8:80", "9.255.255.255", 80));
  CHECK_FALSE(contains("10.0.0.0/8:80", "11.0.0.0", 80));
  CHECK(contains("10.0.0.128/25:80", "10.0.0.128", 80));
  CHECK_FALSE(contains("10.0.0.128/25:80", "10.0.0.127", 80));
  CHECK(contains("10.0.0.1/32:80", "10.0.0.1", 80));
  CHECK_FALSE(contains("10.0.0.1/32:80", "10.0.0.0", 80));
  CHECK(contains("[fd00::/8]:80", "fdff:ffff::", 80));
  CHECK_FALSE(contains("[fd00::/8]:80", "fe00::", 80));
  CHECK(contains("[::1]:80", "::1", 80));
  CHECK_FALSE(contains("[::1]:80", "::2", 80));
  CHECK_FALSE(contains("[fd00::/9]:80", "fd80::", 80));
}

TEST_CASE("ranges contain both their ends") {
  CHECK(contains("*:6379-6400", "1.2.3.4", 6379));
  CHECK(contains("*:6379-6400", "1.2.3.4", 6400));
  CHECK_FALSE(contains("*:6379-6400", "1.2.3.4", 6378));
  CHECK_FALSE(contains("*:6379-6400", "1.2.3.4", 6401));
  CHECK(contains("*:*", "1.2.3.4", 65535));
}

TEST_CASE("families stay apart, except that a mapped address is an IPv4 address") {
  CHECK(contains("10.0.0.0/8:80", "::ffff:10.1.2.3", 80));
  CHECK(contains("[::ffff:10.0.0.0/104]:80", "10.1.2.3", 80));
  CHECK_FALSE(contains("0.0.0.0/0:80", "::1", 80));
  CHECK_FALSE(contains("[::/0]:80", "10.1.2.3", 80));
  CHECK_FALSE(contains("[::/0]:80", "::ffff:10.1.2.3", 80));
  CHECK(contains("[::/0]:80", "::fffe:10.1.2.3", 80));
  CHECK(contains("*:80", "10.1.2.3", 80));
  CHECK(contains("*:80", "::1", 80));
  CHECK(contains("*:80", "::ffff:10.1.2.3", 80));
}

TEST_CASE("only IP addresses are addresses") {
  sockaddr other{};
  other.sa_family = AF_UNIX;
  CHECK_FALSE(Address::from(other).has_value());
  other.sa_family = AF_UNSPEC;
  CHECK_FALSE(Address::from(other).has_value());
}
