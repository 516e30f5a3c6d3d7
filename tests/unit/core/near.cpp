// Whether the other end of a connection is on this host.

#include "core/base/near.hpp"

#include <catch2/catch.hpp>

using namespace rsock;

namespace {

Endpoint v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) { return {{.bytes = {a, b, c, d}}, 80}; }

}  // namespace

TEST_CASE("An address of ours is near, also another one than that of this end", "[near]") {
  CHECK(is_near(v4(192, 0, 2, 1), v4(192, 0, 2, 1)));
  CHECK(is_near(v4(192, 0, 2, 1), v4(127, 0, 0, 1)));
  CHECK(is_near(v4(127, 0, 0, 1), v4(127, 0, 0, 2)));
}

TEST_CASE("An address of others is not near", "[near]") {
  CHECK_FALSE(is_near(v4(127, 0, 0, 1), v4(192, 0, 2, 1)));
  Endpoint documentation{{.bytes = {0x20, 0x01, 0x0d, 0xb8}, .v6 = true}, 80};
  CHECK_FALSE(is_near(v4(127, 0, 0, 1), documentation));
}
