// Many pieces in one call: how they are filled, what empty ones mean, and how many there may be.

#include <limits.h>
#include <sys/syscall.h>

#include "../pair.hpp"

using namespace conformance;

namespace {

iovec part(const void* at, size_t size) { return {const_cast<void*>(at), size}; }

msghdr message_of(std::vector<iovec>& parts) {
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = parts.size();
  return message;
}

}  // namespace

TEST_CASE("readv: the pieces are filled one after the other", "[readv][preadv2][recvmsg]") {
  const auto pair = connected();
  for (int way = 0; way < 3; ++way) {
    send_all(pair.client, "abcdefghij");
    arrived(pair.server, 10);
    char a[3], b[1], c[20];
    std::vector<iovec> parts{part(a, 3), part(b, 1), part(c, 20)};
    auto message = message_of(parts);
    CHECK((way == 0   ? readv(pair.server, parts.data(), 3)
           : way == 1 ? preadv2(pair.server, parts.data(), 3, -1, 0)
                      : recvmsg(pair.server, &message, 0)) == 10);
    CHECK(std::string(a, 3) + std::string(b, 1) + std::string(c, 6) == "abcdefghij");
  }
}

TEST_CASE("writev: the pieces go one after the other", "[writev][pwritev2][sendmsg]") {
  const auto pair = connected();
  std::vector<iovec> parts{part("abc", 3), part("d", 1), part("efghij", 6)};
  const auto message = message_of(parts);
  CHECK(writev(pair.client, parts.data(), 3) == 10);
  CHECK(pwritev2(pair.client, parts.data(), 3, -1, 0) == 10);
  CHECK(sendmsg(pair.client, &message, 0) == 10);
  CHECK(receive(pair.server, 30) == "abcdefghijabcdefghijabcdefghij");
}

TEST_CASE("readv: empty pieces, also without an address, anywhere", "[readv][recvmsg]") {
  const auto pair = connected();
  char a[2], b[2];
  std::vector<iovec> parts{part(nullptr, 0), part(a, 2), part(nullptr, 0), part(a, 0), part(b, 2), part(nullptr, 0)};
  auto message = message_of(parts);
  send_all(pair.client, "abcdabcd");
  arrived(pair.server, 8);
  CHECK(readv(pair.server, parts.data(), 6) == 4);
  CHECK(std::string(a, 2) + std::string(b, 2) == "abcd");
  CHECK(recvmsg(pair.server, &message, 0) == 4);
  CHECK(std::string(a, 2) + std::string(b, 2) == "abcd");
}

TEST_CASE("writev: empty pieces, also without an address, anywhere", "[writev][sendmsg]") {
  const auto pair = connected();
  std::vector<iovec> parts{part(nullptr, 0), part("ab", 2), part(nullptr, 0), part("cd", 2), part(nullptr, 0)};
  const auto message = message_of(parts);
  CHECK(writev(pair.client, parts.data(), 5) == 4);
  CHECK(sendmsg(pair.client, &message, 0) == 4);
  CHECK(receive(pair.server, 8) == "abcdabcd");
}

TEST_CASE("readv, writev: no pieces at all, or only empty ones", "[readv][writev][preadv2][pwritev2]") {
  const auto pair = connected();
  const iovec none[3]{};
  for (const int count : {0, 1, 3}) {
    CHECK(readv(pair.server, none, count) == 0);
    CHECK(preadv2(pair.server, none, count, -1, 0) == 0);
    CHECK(writev(pair.client, none, count) == 0);
    CHECK(pwritev2(pair.client, none, count, -1, 0) == 0);
  }
  CHECK(readv(pair.server, nullptr, 0) == 0);
  CHECK(writev(pair.client, nullptr, 0) == 0);
}

TEST_CASE("readv, writev: IOV_MAX pieces", "[readv][writev][sendmsg][recvmsg]") {
  const auto pair = connected();
  const auto text = pattern(3 * IOV_MAX);
  std::vector<iovec> parts;
  for (size_t i = 0; i < IOV_MAX; ++i) parts.push_back(part(text.data() + 3 * i, 3));
  const auto out = message_of(parts);
  CHECK(writev(pair.client, parts.data(), IOV_MAX) == 3 * IOV_MAX);
  CHECK(sendmsg(pair.client, &out, 0) == 3 * IOV_MAX);
  arrived(pair.server, 6 * IOV_MAX);
  std::string got(3 * IOV_MAX, '\0');
  for (size_t i = 0; i < IOV_MAX; ++i) parts[i] = part(got.data() + 3 * i, 3);
  CHECK(readv(pair.server, parts.data(), IOV_MAX) == 3 * IOV_MAX);
  CHECK(got == text);
  auto in = message_of(parts);
  got.assign(got.size(), '.');
  CHECK(recvmsg(pair.server, &in, 0) == 3 * IOV_MAX);
  CHECK(got == text);
}

TEST_CASE("readv, writev: one piece too many", "[readv][writev][preadv2][pwritev2][recvmsg][sendmsg]") {
  const auto pair = connected({.nonblocking = true});
  char byte = 'x';
  std::vector<iovec> parts(IOV_MAX + 1, part(&byte, 1));
  auto message = message_of(parts);
  CHECK_FAILS(readv(pair.server, parts.data(), IOV_MAX + 1), EINVAL);
  CHECK_FAILS(preadv2(pair.server, parts.data(), IOV_MAX + 1, -1, 0), EINVAL);
  CHECK_FAILS(recvmsg(pair.server, &message, 0), EMSGSIZE);
  CHECK_FAILS(writev(pair.client, parts.data(), IOV_MAX + 1), EINVAL);
  CHECK_FAILS(pwritev2(pair.client, parts.data(), IOV_MAX + 1, -1, 0), EINVAL);
  CHECK_FAILS(sendmsg(pair.client, &message, 0), EMSGSIZE);
  message.msg_iovlen = SIZE_MAX;
  CHECK_FAILS(recvmsg(pair.server, &message, 0), EMSGSIZE);
  CHECK_FAILS(sendmsg(pair.client, &message, 0), EMSGSIZE);
}

TEST_CASE("readv, writev: a negative number of pieces", "[readv][writev][preadv2][pwritev2][syscall]") {
  const auto pair = connected();
  char byte = 'x';
  const auto one = part(&byte, 1);
  for (const int count : {-1, INT_MIN}) {
    CHECK_FAILS(readv(pair.server, &one, count), EINVAL);
    CHECK_FAILS(writev(pair.server, &one, count), EINVAL);
    CHECK_FAILS(preadv2(pair.server, &one, count, -1, 0), EINVAL);
    CHECK_FAILS(pwritev2(pair.server, &one, count, -1, 0), EINVAL);
    CHECK_FAILS(syscall(SYS_readv, +pair.server, &one, static_cast<long>(count)), EINVAL);
    CHECK_FAILS(syscall(SYS_writev, +pair.server, &one, static_cast<long>(count)), EINVAL);
  }
}

TEST_CASE("readv, writev: a piece of negative size spoils them all", "[readv][writev][recvmsg][sendmsg]") {
  const auto pair = connected();
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  char byte = '.';
  std::vector<iovec> parts{part(&byte, 1), part(&byte, static_cast<size_t>(-1))};
  auto message = message_of(parts);
  CHECK_FAILS(readv(pair.server, parts.data(), 2), EINVAL);
  CHECK_FAILS(recvmsg(pair.server, &message, 0), EINVAL);
  CHECK_FAILS(writev(pair.client, parts.data(), 2), EINVAL);
  CHECK_FAILS(sendmsg(pair.client, &message, 0), EINVAL);
  CHECK(byte == '.');
  CHECK(receive(pair.server, 1) == "x");
}

TEST_CASE("readv: sizes that together are more than a call can move", "[readv][recvmsg]") {
  const auto pair = connected();
  std::string buffer(100, '.');
  // The kernel looks at no more of the memory than there are bytes.
  std::vector<iovec> parts{part(buffer.data(), 10), part(buffer.data() + 10, 0x7fffffff),
                           part(buffer.data() + 10, 0x7fffffff)};
  auto message = message_of(parts);
  send_all(pair.client, "0123456789abcdef");
  arrived(pair.server, 16);
  CHECK(readv(pair.server, parts.data(), 3) == 16);
  CHECK(buffer.substr(0, 16) == "0123456789abcdef");
  send_all(pair.client, "ABC");
  arrived(pair.server, 3);
  CHECK(recvmsg(pair.server, &message, 0) == 3);
  CHECK(buffer.substr(0, 3) == "ABC");
}

TEST_CASE("writev: a non-blocking one may end within a piece, and goes on from there", "[writev][sendmsg]") {
  const auto pair = connected({.nonblocking = true});
  const auto text = pattern(8 << 20);
  std::string got;
  size_t sent = 0;
  bool partly = false;
  while (got.size() < text.size()) {
    if (sent < text.size()) {
      const auto half = (text.size() - sent) / 2;
      const iovec parts[] = {part(text.data() + sent, half),
                             part(text.data() + sent + half, text.size() - sent - half)};
      const auto n = writev(pair.client, parts, 2);
      if (n < 0)
        REQUIRE(errno == EAGAIN);
      else
        partly |= sent + static_cast<size_t>(n) < text.size(), sent += static_cast<size_t>(n);
    }
    char buffer[100'000];
    const iovec parts[] = {part(buffer, 7), part(buffer + 7, sizeof buffer - 7)};
    const auto n = readv(pair.server, parts, 2);
    if (n < 0)
      REQUIRE(errno == EAGAIN);
    else
      got.append(buffer, static_cast<size_t>(n));
  }
  CHECK(partly);
  CHECK(got == text);
}
