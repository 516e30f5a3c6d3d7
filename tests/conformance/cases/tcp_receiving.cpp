// TCP_INQ and TCP_ZEROCOPY_RECEIVE: what the kernel tells of the bytes that are there.

#include <sys/mman.h>
#include <sys/syscall.h>

#include <optional>
#include <vector>

#include "../sets.hpp"

using namespace conformance;

namespace {

// What a recvmsg of `size` bytes told.
struct Told {
  ssize_t got = -1;
  std::optional<int> unread;
  int flags = 0;
  size_t control = 0;
};

Told told(int fd, size_t size, int flags = 0, size_t room = 200, bool by_number = false) {
  std::vector<char> bytes(std::max<size_t>(size, 1));
  alignas(cmsghdr) char control[200] = {};
  iovec piece{bytes.data(), size};
  msghdr message{};
  message.msg_iov = &piece, message.msg_iovlen = 1;
  message.msg_control = control, message.msg_controllen = room;
  Told said;
  said.got = by_number ? syscall(SYS_recvmsg, fd, &message, flags) : recvmsg(fd, &message, flags);
  said.flags = message.msg_flags, said.control = message.msg_controllen;
  const auto* part = CMSG_FIRSTHDR(&message);
  if (said.got < 0 || !part || part->cmsg_level != IPPROTO_TCP || part->cmsg_type != TCP_CM_INQ ||
      part->cmsg_len < CMSG_LEN(sizeof(int)))
    return said;
  int unread;
  memcpy(&unread, CMSG_DATA(part), sizeof unread);
  said.unread = unread;
  return said;
}

void tells_all(int from, int to) {
  send_all(from, "12345");
  arrived(to, 5);
  CHECK(told(to, 1, MSG_PEEK).unread == 5);
  CHECK(told(to, 2).unread == 3);
  CHECK(told(to, 1, 0, 200, true).unread == 2);
  CHECK(told(to, 2, MSG_TRUNC).unread == 0);
  CHECK(told(to, 2, MSG_DONTWAIT).unread == std::nullopt);
}

}  // namespace

TEST_CASE("recvmsg: TCP_INQ tells of each recvmsg what is left", "[recvmsg][setsockopt][syscall]") {
  const auto pair = connected();
  set_option(pair.server, IPPROTO_TCP, TCP_INQ, 1);
  CHECK(option(pair.server, IPPROTO_TCP, TCP_INQ) == 1);
  tells_all(pair.client, pair.server);
  set_option(pair.server, IPPROTO_TCP, TCP_INQ, 0);
  send_all(pair.client, "12");
  arrived(pair.server, 2);
  CHECK(told(pair.server, 1).unread == std::nullopt);
  set_option(pair.server, IPPROTO_TCP, TCP_INQ, 1);
  CHECK(told(pair.server, 1).unread == 0);
  const int two = 2;
  CHECK_FAILS(setsockopt(pair.server, IPPROTO_TCP, TCP_INQ, &two, sizeof two), EINVAL);
}

TEST_CASE("recvmsg: TCP_INQ set before a byte went, at both ends", "[recvmsg][setsockopt]") {
  const auto pair = connected({.enter = false, .prepare = [](int fd) { set_option(fd, IPPROTO_TCP, TCP_INQ, 1); }});
  tells_all(pair.client, pair.server);
  enter_lane(pair.client, pair.server);
  tells_all(pair.client, pair.server);
  tells_all(pair.server, pair.client);
}

TEST_CASE("recvmsg: TCP_INQ that an accepted socket has from its listener", "[recvmsg][setsockopt][accept]") {
  const auto listener = listening();
  set_option(listener.fd, IPPROTO_TCP, TCP_INQ, 1);
  const auto client = stream_socket();
  REQUIRE(connect(client, listener.name(), listener.size) == 0);
  const Fd server(accept(listener.fd, nullptr, nullptr));
  tells_all(client, server);
  enter_lane(client, server);
  tells_all(client, server);
}

TEST_CASE("recvmsg: TCP_INQ while the connection enters its lane: never more than is there, nor less",
          "[recvmsg][setsockopt]") {
  const auto pair = connected({.enter = false});
  set_option(pair.server, IPPROTO_TCP, TCP_INQ, 1);
  const auto bytes = pattern(200);
  for (int round = 0; round < 300; ++round) {
    send_all(pair.client, bytes);
    arrived(pair.server, 200);
    CHECK(told(pair.server, 50).unread == 150);
    CHECK(told(pair.server, 150).unread == 0);
    send_all(pair.server, "x");
    receive(pair.client, 1);
  }
  enter_lane(pair.client, pair.server);
}

TEST_CASE("recvmsg: TCP_INQ counts an end as a byte that is left", "[recvmsg][setsockopt]") {
  for (const bool enter : {false, true}) {
    auto pair = connected({.enter = enter});
    if (!enter) enter_lane(pair.client, pair.server);
    set_option(pair.server, IPPROTO_TCP, TCP_INQ, 1);
    send_all(pair.client, "12345");
    CHECK(shutdown(pair.client, SHUT_WR) == 0);
    REQUIRE(awaited(pair.server, POLLRDHUP) == POLLRDHUP);
    CHECK(told(pair.server, 2).unread == 4);
    CHECK(told(pair.server, 3).unread == 1);
    const auto end = told(pair.server, 3);
    CHECK(end.got == 0);
    CHECK(end.unread == 1);
  }
}

TEST_CASE("recvmsg: TCP_INQ with little room, or none, for what it tells", "[recvmsg][setsockopt]") {
  const auto pair = connected();
  set_option(pair.server, IPPROTO_TCP, TCP_INQ, 1);
  for (const size_t room : {0, 8, 15, 16, 17, 19, 20, 22, 23, 24, 25, 200}) {
    CAPTURE(room);
    send_all(pair.client, "12");
    arrived(pair.server, 2);
    const auto said = told(pair.server, 1, 0, room);
    CHECK(said.got == 1);
    CHECK(said.flags == (room < 20 ? MSG_CTRUNC : 0));
    CHECK(said.control == (room < 16 ? 0 : std::min<size_t>(room, 24)));
    CHECK(said.unread == (room < 20 ? std::nullopt : std::optional(1)));
    receive(pair.server, 1);
  }
  send_all(pair.client, "1");
  arrived(pair.server, 1);
  char byte;
  iovec piece{&byte, 1};
  msghdr message{};
  message.msg_iov = &piece, message.msg_iovlen = 1;
  message.msg_control = bad_pointer(), message.msg_controllen = 100;
  CHECK(recvmsg(pair.server, &message, 0) == 1);
  CHECK(message.msg_flags == 0);
  CHECK(message.msg_controllen == 0);
}

TEST_CASE("recvmmsg: TCP_INQ tells of each message", "[recvmmsg][setsockopt]") {
  const auto pair = connected();
  set_option(pair.server, IPPROTO_TCP, TCP_INQ, 1);
  send_all(pair.client, "12345");
  arrived(pair.server, 5);
  char bytes[2][2];
  alignas(cmsghdr) char control[2][200];
  iovec pieces[2] = {{bytes[0], 2}, {bytes[1], 2}};
  mmsghdr messages[2] = {};
  for (int i = 0; i < 2; ++i) {
    auto& message = messages[i].msg_hdr;
    message.msg_iov = &pieces[i], message.msg_iovlen = 1;
    message.msg_control = control[i], message.msg_controllen = sizeof control[i];
  }
  CHECK(recvmmsg(pair.server, messages, 2, 0, nullptr) == 2);
  for (int i = 0; i < 2; ++i) {
    const auto* part = CMSG_FIRSTHDR(&messages[i].msg_hdr);
    REQUIRE(part != nullptr);
    CHECK(part->cmsg_type == TCP_CM_INQ);
    int unread;
    memcpy(&unread, CMSG_DATA(part), sizeof unread);
    CHECK(unread == 3 - 2 * i);
  }
}

namespace {

constexpr size_t kMapped = 128 << 10;

tcp_zerocopy_receive asked(int fd, void* at) {
  tcp_zerocopy_receive it{};
  it.address = reinterpret_cast<uintptr_t>(at), it.length = kMapped;
  socklen_t size = sizeof it;
  if (getsockopt(fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &it, &size) != 0)
    it.recv_skip_hint = 0, it.length = 0, it.err = errno;
  return it;
}

}  // namespace

TEST_CASE("getsockopt: TCP_ZEROCOPY_RECEIVE: a receiver that maps what it can and receives the rest",
          "[getsockopt][recv]") {
  for (const bool enter : {false, true}) {
    auto pair = connected({.enter = enter});
    auto* map = static_cast<char*>(mmap(nullptr, kMapped, PROT_READ, MAP_SHARED, pair.server, 0));
    REQUIRE(map != MAP_FAILED);
    const auto bytes = pattern(4 << 20);
    std::thread sender([&] {
      for (size_t done = 0; done < bytes.size(); done += 64 << 10) {
        if (!enter && done < (1 << 20)) std::this_thread::sleep_for(3ms);  // its lane may be entered meanwhile
        send_all(pair.client, std::string_view(bytes).substr(done, 64 << 10));
      }
      shutdown(pair.client, SHUT_WR);
    });
    std::string got;
    for (;;) {
      REQUIRE(awaited(pair.server, POLLIN) != 0);
      auto it = asked(pair.server, map);
      got.append(map, it.length);
      if (it.length > 0) madvise(map, kMapped, MADV_DONTNEED);
      if (it.err == EIO) break;
      REQUIRE(it.err == 0);
      REQUIRE(it.length + it.recv_skip_hint > 0);  // or it would never go on
      while (it.recv_skip_hint > 0) {
        std::string part(it.recv_skip_hint, 0);
        const auto count = recv(pair.server, part.data(), part.size(), MSG_DONTWAIT);
        if (count <= 0) break;
        got.append(part, 0, static_cast<size_t>(count));
        it.recv_skip_hint -= static_cast<uint32_t>(count);
      }
    }
    sender.join();
    CHECK(got == bytes);
    munmap(map, kMapped);
  }
}

TEST_CASE("getsockopt: TCP_ZEROCOPY_RECEIVE: what is there, an end, and what cannot be", "[getsockopt]") {
  const auto pair = connected();
  void* map = mmap(nullptr, kMapped, PROT_READ, MAP_SHARED, pair.server, 0);
  REQUIRE(map != MAP_FAILED);
  CHECK(asked(pair.server, map).recv_skip_hint == 0);
  CHECK(asked(pair.server, map).err == 0);
  arrive({Fd(dup(pair.server)), Fd(dup(pair.client))}, "12345");
  auto it = asked(pair.server, map);
  CHECK(it.length == 0);
  CHECK(it.recv_skip_hint == 5);
  CHECK(it.inq == 5);
  CHECK(receive(pair.server, 5) == "12345");
  CHECK(shutdown(pair.client, SHUT_WR) == 0);
  REQUIRE(awaited(pair.server, POLLRDHUP) == POLLRDHUP);
  CHECK(asked(pair.server, map).err == EIO);
  CHECK(asked(pair.server, static_cast<char*>(map) + 1).err == EINVAL);
  socklen_t size = 11;
  CHECK_FAILS(getsockopt(pair.server, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &it, &size), EINVAL);
  size = sizeof it;
  CHECK_FAILS(getsockopt(pair.server, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, bad_pointer(), &size), EFAULT);
  CHECK_FAILS(getsockopt(pair.server, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &it, static_cast<socklen_t*>(bad_pointer())),
              EFAULT);
  it = {};
  it.reserved = 1;
  CHECK_FAILS(getsockopt(pair.server, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &it, &size), EINVAL);
  munmap(map, kMapped);
}
