// Bad pointers: EFAULT when a call gets to them, not before, and the bytes stay where they are.

#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>

#include "../pair.hpp"
#include "../ways.hpp"

using namespace conformance;

namespace {

constexpr size_t kPage = 4096;

// `good` pages that may be used, then one that may not.
struct Edge {
  char* pages;
  size_t good;
  explicit Edge(size_t count) : good(count * kPage) {
    void* all = mmap(nullptr, good + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(all != MAP_FAILED);
    pages = static_cast<char*>(all);
    REQUIRE(mprotect(pages + good, kPage, PROT_NONE) == 0);
  }
  ~Edge() { munmap(pages, good + kPage); }
  // The last `size` bytes that may be used.
  char* last(size_t size) const { return pages + good - size; }
};

// Nothing may be written there; and nothing read, unless a `readable` one is wanted, too.
std::vector<void*> bad_pointers(bool readable) {
  std::vector<void*> all{nullptr, bad_pointer(), reinterpret_cast<void*>(1), reinterpret_cast<void*>(-1),
                         reinterpret_cast<void*>(-4096)};
  if (readable) all.push_back(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  return all;
}

}  // namespace

TEST_CASE("every way to read: EFAULT from a bad pointer, and the bytes stay", EVERY_WAY_IN) {
  const auto pair = connected();
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  for (const auto& way : ways_in())
    for (void* bad : bad_pointers(true)) {
      INFO(way.name << " to " << bad);
      CHECK_FAILS(way.take(pair.server, bad, 5), EFAULT);
    }
  CHECK(receive(pair.server, 5) == "hello");
}

TEST_CASE("every way to read: a bad pointer is not looked at while there is nothing", EVERY_WAY_IN) {
  const auto pair = connected({.nonblocking = true});
  for (const auto& way : ways_in()) {
    INFO(way.name);
    CHECK_FAILS(way.take(pair.server, bad_pointer(), 5), EAGAIN);
    CHECK_FAILS(way.take(pair.server, nullptr, 5), EAGAIN);
    CHECK_FAILS(way.take(pair.server, reinterpret_cast<void*>(-1), 5), EFAULT);
  }
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  REQUIRE(awaited(pair.server, POLLIN) & POLLIN);
  for (const auto& way : ways_in()) {
    INFO(way.name);
    CHECK(way.take(pair.server, bad_pointer(), 5) == 0);
  }
}

TEST_CASE("read: waits for a byte before it finds the pointer bad", "[read][recv]") {
  const auto pair = connected();
  ssize_t got = 0;
  int error = 0;
  std::thread reader([&] {
    got = read(pair.server, bad_pointer(), 5);
    error = errno;
  });
  std::this_thread::sleep_for(2ms);
  send(pair.client, "x", 1, 0);
  reader.join();
  CHECK(got == -1);
  CHECK(error == EFAULT);
  CHECK(receive(pair.server, 1) == "x");
}

TEST_CASE("every way to write: EFAULT from a bad pointer, and nothing is sent", EVERY_WAY_OUT) {
  const auto pair = connected();
  for (const auto& way : ways_out())
    for (void* bad : bad_pointers(false)) {
      INFO(way.name << " from " << bad);
      CHECK_FAILS(way.give(pair.client, bad, 5), EFAULT);
    }
  send_all(pair.client, "end");
  CHECK(receive(pair.server, 3) == "end");
  CHECK(polled(pair.server, POLLIN) == 0);
}

TEST_CASE("every way to write: a bad pointer is not looked at when the stream is over or full", EVERY_WAY_OUT) {
  const auto pair = connected({.nonblocking = true});
  fill(pair.client);
  for (const auto& way : ways_out()) {
    INFO(way.name);
    CHECK_FAILS(way.give(pair.client, bad_pointer(), 5), EAGAIN);
  }
  REQUIRE(shutdown(pair.server, SHUT_WR) == 0);
  CHECK_FAILS(send(pair.server, bad_pointer(), 5, MSG_NOSIGNAL), EPIPE);
}

TEST_CASE("every way to read: into a buffer whose end is bad, if the bytes end before it", EVERY_WAY_IN) {
  const auto pair = connected();
  const Edge edge(1);
  for (const auto& way : ways_in()) {
    INFO(way.name);
    send_all(pair.client, "hello");
    arrived(pair.server, 5);
    CHECK(way.take(pair.server, edge.last(8), 100) == 5);
    CHECK(std::string_view(edge.last(8), 5) == "hello");
    send_all(pair.client, "12345678");
    arrived(pair.server, 8);
    CHECK(way.take(pair.server, edge.last(8), 100) == 8);
    CHECK(std::string_view(edge.last(8), 8) == "12345678");
  }
}

TEST_CASE("every way to read: EFAULT when the bytes go beyond the good part, and all of them stay", EVERY_WAY_IN) {
  const auto pair = connected();
  const Edge edge(1);
  send_all(pair.client, "0123456789");
  arrived(pair.server, 10);
  for (const auto& way : ways_in()) {
    INFO(way.name);
    CHECK_FAILS(way.take(pair.server, edge.last(8), 10), EFAULT);
  }
  CHECK(receive(pair.server, 10) == "0123456789");
}

TEST_CASE("every way to write: EFAULT from a small buffer whose end is bad, and nothing is sent", EVERY_WAY_OUT) {
  const auto pair = connected();
  const Edge edge(1);
  for (const auto& way : ways_out()) {
    INFO(way.name);
    CHECK_FAILS(way.give(pair.client, edge.last(8), 10), EFAULT);
  }
  send_all(pair.client, "end");
  CHECK(receive(pair.server, 3) == "end");
  CHECK(polled(pair.server, POLLIN) == 0);
}

TEST_CASE("readv: a bad piece after good ones", "[readv][recvmsg]") {
  const auto pair = connected();
  char a[4];
  iovec parts[] = {{a, 4}, {bad_pointer(), 4}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  send_all(pair.client, "0123");
  arrived(pair.server, 4);
  CHECK(readv(pair.server, parts, 2) == 4);
  CHECK(std::string_view(a, 4) == "0123");
  send_all(pair.client, "456789");
  arrived(pair.server, 6);
  CHECK_FAILS(readv(pair.server, parts, 2), EFAULT);
  CHECK_FAILS(recvmsg(pair.server, &message, 0), EFAULT);
  CHECK(receive(pair.server, 6) == "456789");
}

TEST_CASE("writev: a bad piece after good ones spoils them all, if they are small", "[writev][sendmsg]") {
  const auto pair = connected();
  iovec parts[] = {{const_cast<char*>("0123"), 4}, {bad_pointer(), 4}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  CHECK_FAILS(writev(pair.client, parts, 2), EFAULT);
  CHECK_FAILS(sendmsg(pair.client, &message, 0), EFAULT);
  send_all(pair.client, "end");
  CHECK(receive(pair.server, 3) == "end");
  CHECK(polled(pair.server, POLLIN) == 0);
}

TEST_CASE("write: of a large buffer with a bad end, what is before it may be sent, and is then counted",
          "[write][send]") {
  const auto pair = connected();
  const Edge edge(40);
  const auto text = pattern(edge.good);
  std::memcpy(edge.pages, text.data(), edge.good);
  const auto sent = write(pair.client, edge.pages, edge.good + kPage);
  CHECK(sent > 0);
  CHECK(sent <= static_cast<ssize_t>(edge.good));
  CHECK(receive(pair.server, static_cast<size_t>(sent)) == text.substr(0, static_cast<size_t>(sent)));
  send_all(pair.client, "end");
  CHECK(receive(pair.server, 3) == "end");
}

TEST_CASE("write, read: a hole in the middle of a large buffer is found", "[write][read]") {
  const auto pair = connected({.nonblocking = true});
  constexpr size_t kPages = 256, kHole = 100;
  char* pages =
      static_cast<char*>(mmap(nullptr, kPages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(pages != MAP_FAILED);
  std::memset(pages, 'x', kPages * kPage);
  REQUIRE(munmap(pages + kHole * kPage, kPage) == 0);
  const auto sent = write(pair.client, pages, kPages * kPage);
  CHECK(sent > 0);
  CHECK(sent <= static_cast<ssize_t>(kHole * kPage));
  const auto all = receive(pair.server, static_cast<size_t>(sent));
  CHECK(all == std::string(all.size(), 'x'));
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  CHECK(read(pair.server, pages, kPages * kPage) == 5);
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  CHECK_FAILS(read(pair.server, pages + kHole * kPage, 5), EFAULT);
  CHECK(receive(pair.server, 5) == "hello");
}

TEST_CASE("readv, recvmsg and kin: bad arrays and headers",
          "[readv][writev][recvmsg][sendmsg][recvmmsg][sendmmsg][syscall]") {
  const auto pair = connected();
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  auto* parts = static_cast<iovec*>(bad_pointer());
  auto* header = static_cast<msghdr*>(bad_pointer());
  auto* headers = static_cast<mmsghdr*>(bad_pointer());
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 1;
  CHECK_FAILS(readv(pair.server, parts, 1), EFAULT);
  CHECK_FAILS(writev(pair.server, parts, 1), EFAULT);
  CHECK_FAILS(preadv2(pair.server, parts, 1, -1, 0), EFAULT);
  CHECK_FAILS(pwritev2(pair.server, parts, 1, -1, 0), EFAULT);
  CHECK_FAILS(recvmsg(pair.server, &message, 0), EFAULT);
  CHECK_FAILS(sendmsg(pair.server, &message, 0), EFAULT);
  CHECK_FAILS(recvmsg(pair.server, header, 0), EFAULT);
  CHECK_FAILS(sendmsg(pair.server, header, 0), EFAULT);
  CHECK_FAILS(recvmmsg(pair.server, headers, 1, 0, nullptr), EFAULT);
  CHECK_FAILS(sendmmsg(pair.server, headers, 1, 0), EFAULT);
  CHECK_FAILS(recvmsg(pair.server, nullptr, 0), EFAULT);
  CHECK_FAILS(sendmsg(pair.server, nullptr, 0), EFAULT);
  CHECK_FAILS(syscall(SYS_recvmsg, +pair.server, header, 0), EFAULT);
  CHECK_FAILS(syscall(SYS_sendmsg, +pair.server, header, 0), EFAULT);
  CHECK_FAILS(syscall(SYS_recvmmsg, +pair.server, headers, 1, 0, nullptr), EFAULT);
  CHECK_FAILS(syscall(SYS_sendmmsg, +pair.server, headers, 1, 0), EFAULT);
  CHECK_FAILS(syscall(SYS_readv, +pair.server, parts, 1), EFAULT);
  CHECK_FAILS(syscall(SYS_writev, +pair.server, parts, 1), EFAULT);
  CHECK(receive(pair.server, 1) == "x");
  CHECK(polled(pair.client, POLLIN) == 0);
}

TEST_CASE("sendmsg: a bad name or bad control data, and nothing is sent", "[sendmsg]") {
  const auto pair = connected();
  iovec part{const_cast<char*>("x"), 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_name = bad_pointer();
  message.msg_namelen = sizeof(sockaddr_in);
  CHECK_FAILS(sendmsg(pair.client, &message, 0), EFAULT);
  message.msg_name = nullptr;
  message.msg_control = bad_pointer();
  message.msg_controllen = 64;
  CHECK_FAILS(sendmsg(pair.client, &message, 0), EFAULT);
  CHECK(polled(pair.server, POLLIN) == 0);
}

TEST_CASE("recvfrom: a bad size of the address is found after the bytes were taken", "[recvfrom]") {
  const auto pair = connected();
  send_all(pair.client, "abc");
  arrived(pair.server, 3);
  sockaddr_storage name;
  char byte;
  CHECK_FAILS(
      recvfrom(pair.server, &byte, 1, 0, reinterpret_cast<sockaddr*>(&name), static_cast<socklen_t*>(bad_pointer())),
      EFAULT);
  CHECK_FAILS(recvfrom(pair.server, &byte, 1, 0, reinterpret_cast<sockaddr*>(&name), nullptr), EFAULT);
  CHECK(receive(pair.server, 1) == "c");
}

TEST_CASE("recvmsg: the address of name and control data is not looked at, as there are none", "[recvmsg]") {
  const auto pair = connected();
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  char byte;
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_name = bad_pointer();
  message.msg_namelen = 16;
  message.msg_control = bad_pointer();
  message.msg_controllen = 64;
  CHECK(recvmsg(pair.server, &message, 0) == 1);
  CHECK(message.msg_namelen == 0);
  CHECK(message.msg_controllen == 0);
}

TEST_CASE("sendfile: a bad pointer to the offset", "[sendfile][sendfile64]") {
  const auto pair = connected();
  const Fd file(memfd_create("file", MFD_CLOEXEC));
  REQUIRE(write(file, "abc", 3) == 3);
  CHECK_FAILS(sendfile(pair.client, file, static_cast<off_t*>(bad_pointer()), 3), EFAULT);
  CHECK_FAILS(sendfile64(pair.client, file, static_cast<off64_t*>(bad_pointer()), 3), EFAULT);
  CHECK_FAILS(syscall(SYS_sendfile, +pair.client, +file, bad_pointer(), 3), EFAULT);
  CHECK(polled(pair.server, POLLIN) == 0);
}

TEST_CASE("read, write: memory that was good and is no more", "[read][write][munmap][mprotect]") {
  const auto pair = connected();
  char* page = static_cast<char*>(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(page != MAP_FAILED);
  send_all(pair.client, "abcd");
  arrived(pair.server, 4);
  CHECK(read(pair.server, page, 1) == 1);
  CHECK(write(pair.server, page, 1) == 1);
  REQUIRE(mprotect(page, kPage, PROT_READ) == 0);
  CHECK_FAILS(read(pair.server, page, 1), EFAULT);
  CHECK(write(pair.server, page, 1) == 1);
  REQUIRE(mprotect(page, kPage, PROT_NONE) == 0);
  CHECK_FAILS(write(pair.server, page, 1), EFAULT);
  REQUIRE(mprotect(page, kPage, PROT_READ | PROT_WRITE) == 0);
  CHECK(read(pair.server, page, 1) == 1);
  REQUIRE(mmap(page, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page);
  CHECK_FAILS(read(pair.server, page, 1), EFAULT);
  REQUIRE(munmap(page, kPage) == 0);
  CHECK_FAILS(read(pair.server, page, 1), EFAULT);
  CHECK_FAILS(write(pair.server, page, 1), EFAULT);
  CHECK(receive(pair.server, 2) == "cd");
  CHECK(receive(pair.client, 2) == "aa");
}
