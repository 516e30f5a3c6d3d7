#include "core/base/endpoint.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <set>

using namespace rsock;

namespace {

sockaddr_storage v4(const char* address, uint16_t port) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  REQUIRE(inet_pton(AF_INET, address, &in.sin_addr) == 1);
  sockaddr_storage made{};
  std::memcpy(&made, &in, sizeof in);
  return made;
}

sockaddr_storage v6(const char* address, uint16_t port, uint32_t scope = 0) {
  sockaddr_in6 in{};
  in.sin6_family = AF_INET6;
  in.sin6_port = htons(port);
  in.sin6_scope_id = scope;
  in.sin6_flowinfo = htonl(7);  // of no consequence
  REQUIRE(inet_pton(AF_INET6, address, &in.sin6_addr) == 1);
  sockaddr_storage made{};
  std::memcpy(&made, &in, sizeof in);
  return made;
}

Endpoint endpoint(const sockaddr_storage& from) {
  Endpoint made;
  REQUIRE(parse(reinterpret_cast<const sockaddr&>(from), made));
  return made;
}

}  // namespace

TEST_CASE("IPv4 endpoints", "[endpoint]") {
  const auto got = endpoint(v4("192.0.2.1", 6379));
  CHECK_FALSE(got.address.v6);
  CHECK(got.port == 6379);
  CHECK(got.address.bytes == std::array<uint8_t, 16>{192, 0, 2, 1});
  CHECK(to_string(got) == "192.0.2.1:6379");
  CHECK(to_string(got.address) == "192.0.2.1");
}

TEST_CASE("IPv6 endpoints", "[endpoint]") {
  const auto got = endpoint(v6("fe80::1", 80, 3));
  CHECK(got.address.v6);
  CHECK(got.port == 80);
  CHECK(got.address.scope == 3);
  CHECK(to_string(got) == "[fe80::1]:80");
  CHECK(to_string(got.address) == "fe80::1");
}

// A dual-stack server sees ::ffff:192.0.2.1 where its client sees 192.0.2.1: one connection, one name.
TEST_CASE("a mapped address is the IPv4 address", "[endpoint]") {
  const auto mapped = endpoint(v6("::ffff:192.0.2.1", 6379, 5));
  CHECK(mapped == endpoint(v4("192.0.2.1", 6379)));
  CHECK_FALSE(mapped.address.v6);
  CHECK(to_string(mapped) == "192.0.2.1:6379");
  CHECK(endpoint(v6("::ffff:0.0.0.0", 0)) == endpoint(v4("0.0.0.0", 0)));
  // Its neighbours are not mapped.
  CHECK(endpoint(v6("::192.0.2.1", 1)).address.v6);
  CHECK(endpoint(v6("::fffe:192.0.2.1", 1)).address.v6);
  CHECK(endpoint(v6("64:ff9b::192.0.2.1", 1)).address.v6);
}

TEST_CASE("what was parsed is written again", "[endpoint]") {
  const sockaddr_storage addresses[] = {
      v4("0.0.0.0", 0), v4("255.255.255.255", 65535), v4("127.0.0.1", 1),    v6("::", 0),
      v6("::1", 65535), v6("fe80::2", 22, 9),         v6("2001:db8::1", 443)};
  for (const auto& address : addresses) {
    const auto first = endpoint(address);
    sockaddr_storage written{};
    const auto size = write(first, written);
    CHECK(written.ss_family == address.ss_family);
    CHECK(size == (first.address.v6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in)));
    CHECK(endpoint(written) == first);
    CHECK(endpoint(written).address.scope == first.address.scope);
  }
}

TEST_CASE("other families are no endpoints", "[endpoint]") {
  Endpoint got = endpoint(v4("192.0.2.1", 1));
  sockaddr_storage other{};
  for (const int family : {AF_UNSPEC, AF_UNIX, AF_NETLINK}) {
    other.ss_family = static_cast<sa_family_t>(family);
    CHECK_FALSE(parse(reinterpret_cast<const sockaddr&>(other), got));
    CHECK(got == Endpoint{});
  }
}

TEST_CASE("endpoints compare by address and port", "[endpoint]") {
  const auto one = endpoint(v4("192.0.2.1", 1));
  CHECK(one != endpoint(v4("192.0.2.1", 2)));
  CHECK(one != endpoint(v4("192.0.2.2", 1)));
  // Scopes number the interfaces of one host; the other end has others.
  CHECK(endpoint(v6("fe80::1", 1, 2)) == endpoint(v6("fe80::1", 1, 3)));
  // The same bytes in another family are another address.
  Endpoint same_bytes = one;
  same_bytes.address.v6 = true;
  CHECK(one != same_bytes);
  std::set<Endpoint> set{one,
                         same_bytes,
                         endpoint(v4("192.0.2.1", 2)),
                         endpoint(v6("::ffff:192.0.2.1", 1)),
                         endpoint(v6("fe80::1", 1, 2)),
                         endpoint(v6("fe80::1", 1, 3))};
  CHECK(set.size() == 4);
}

TEST_CASE("unspecified addresses", "[endpoint]") {
  CHECK(endpoint(v4("0.0.0.0", 5)).address.unspecified());
  CHECK(endpoint(v6("::", 5)).address.unspecified());
  CHECK_FALSE(endpoint(v6("::1", 5)).address.unspecified());
  CHECK_FALSE(endpoint(v4("127.0.0.1", 5)).address.unspecified());
}
