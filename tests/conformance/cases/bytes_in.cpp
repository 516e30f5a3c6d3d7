// read, recv and their kin: the bytes that come, how many, and what is left.

#include "../pair.hpp"

using namespace conformance;

TEST_CASE("read: gives what is there", "[bytes]") {
  const auto pair = connected();
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  char buffer[100];
  CHECK(read(pair.server, buffer, sizeof buffer) == 5);
  CHECK(std::string_view(buffer, 5) == "hello");
}

TEST_CASE("read: EAGAIN where there is nothing", "[bytes]") {
  const auto pair = connected({.nonblocking = true});
  char byte;
  CHECK_FAILS(read(pair.server, &byte, 1), EAGAIN);
  CHECK_FAILS(read(pair.client, &byte, 1), EAGAIN);
}

TEST_CASE("read: EFAULT from a bad pointer, and the bytes stay", "[bytes]") {
  const auto pair = connected();
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  CHECK_FAILS(read(pair.server, bad_pointer(), 5), EFAULT);
  CHECK(receive(pair.server, 5) == "hello");
}
