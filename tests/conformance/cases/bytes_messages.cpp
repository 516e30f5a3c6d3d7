// recvmsg, sendmsg and their plural forms: what stands in the headers before and after.

#include "../pair.hpp"

using namespace conformance;

namespace {

// A header with one piece and all its fields set.
struct Full {
  char bytes[16];
  iovec part{bytes, sizeof bytes};
  sockaddr_storage name;
  alignas(cmsghdr) char control[256];
  msghdr header{};
  Full() {
    std::memset(&name, 0x55, sizeof name);
    std::memset(control, 0x55, sizeof control);
    header.msg_name = &name;
    header.msg_namelen = sizeof name;
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    header.msg_flags = -1;
  }
};

}  // namespace

TEST_CASE("recvmsg: no name, no control data, no flags", "[recvmsg]") {
  const auto pair = connected();
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  Full message;
  CHECK(recvmsg(pair.server, &message.header, 0) == 5);
  CHECK(message.header.msg_namelen == 0);
  CHECK(message.header.msg_controllen == 0);
  CHECK(message.header.msg_flags == 0);
  CHECK(message.header.msg_name == &message.name);
  CHECK(message.header.msg_control == message.control);
  CHECK(message.header.msg_iovlen == 1);
  CHECK(message.part.iov_len == sizeof message.bytes);
  CHECK(message.name.ss_family == 0x5555);
  CHECK(message.control[0] == 0x55);
}

TEST_CASE("recvmsg: without a name its size is left alone", "[recvmsg]") {
  const auto pair = connected();
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  Full message;
  message.header.msg_name = nullptr;
  message.header.msg_namelen = 77;
  CHECK(recvmsg(pair.server, &message.header, 0) == 5);
  CHECK(message.header.msg_namelen == 77);
}

TEST_CASE("recvmsg: a header is left alone when the call fails", "[recvmsg][recvmmsg]") {
  const auto pair = connected({.nonblocking = true});
  Full message;
  CHECK_FAILS(recvmsg(pair.server, &message.header, 0), EAGAIN);
  CHECK(message.header.msg_namelen == sizeof message.name);
  CHECK(message.header.msg_controllen == sizeof message.control);
  CHECK(message.header.msg_flags == -1);
  mmsghdr one{message.header, 99};
  CHECK_FAILS(recvmmsg(pair.server, &one, 1, 0, nullptr), EAGAIN);
  CHECK(one.msg_len == 99);
  CHECK(one.msg_hdr.msg_flags == -1);
}

TEST_CASE("recvmsg: at the end of the stream the header is as after bytes", "[recvmsg]") {
  const auto pair = connected();
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  Full message;
  CHECK(recvmsg(pair.server, &message.header, 0) == 0);
  CHECK(message.header.msg_namelen == 0);
  CHECK(message.header.msg_controllen == 0);
  CHECK(message.header.msg_flags == 0);
}

TEST_CASE("recvmsg: MSG_CMSG_CLOEXEC comes back, other flags do not", "[recvmsg]") {
  const auto pair = connected();
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  Full message;
  CHECK(recvmsg(pair.server, &message.header, MSG_CMSG_CLOEXEC | MSG_PEEK | MSG_DONTWAIT | MSG_NOSIGNAL) == 5);
  CHECK(message.header.msg_flags == MSG_CMSG_CLOEXEC);
  CHECK(receive(pair.server, 5) == "hello");
}

TEST_CASE("recvmsg, sendmsg: a name of negative size", "[recvmsg][sendmsg]") {
  const auto pair = connected();
  Full message;
  message.header.msg_controllen = 0;
  message.header.msg_namelen = static_cast<socklen_t>(-1);
  CHECK_FAILS(recvmsg(pair.server, &message.header, MSG_DONTWAIT), EINVAL);
  CHECK_FAILS(sendmsg(pair.server, &message.header, 0), EINVAL);
}

TEST_CASE("recvmsg, sendmsg: the kernel's own flag is refused", "[recvmsg][sendmsg]") {
  const auto pair = connected();
  Full message;
  message.header.msg_controllen = 0;
  message.header.msg_name = nullptr;
  const int compat = static_cast<int>(0x80000000);
  CHECK_FAILS(recvmsg(pair.server, &message.header, compat | MSG_DONTWAIT), EINVAL);
  CHECK_FAILS(sendmsg(pair.server, &message.header, compat), EINVAL);
}

TEST_CASE("sendmsg: a name is ignored, and so are the flags in the header", "[sendmsg]") {
  const auto pair = connected();
  Full message;
  message.header.msg_control = nullptr;
  message.header.msg_controllen = 0;
  std::memcpy(message.bytes, "0123456789abcdef", 16);
  CHECK(sendmsg(pair.client, &message.header, 0) == 16);
  CHECK(message.header.msg_flags == -1);
  CHECK(receive(pair.server, 16) == "0123456789abcdef");
}

TEST_CASE("sendmsg: without pieces nothing is sent", "[sendmsg][recvmsg]") {
  const auto pair = connected({.nonblocking = true});
  msghdr message{};
  CHECK(sendmsg(pair.client, &message, 0) == 0);
  CHECK_FAILS(recvmsg(pair.server, &message, 0), EAGAIN);
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  CHECK(recvmsg(pair.server, &message, 0) == 0);
  CHECK(receive(pair.server, 1) == "x");
}

TEST_CASE("sendmsg: control data that says nothing to TCP", "[sendmsg][tcp]") {
  const auto pair = connected();
  Full message;
  auto* control = reinterpret_cast<cmsghdr*>(message.control);
  control->cmsg_level = IPPROTO_IP;
  control->cmsg_type = IP_TTL;
  control->cmsg_len = CMSG_LEN(sizeof(int));
  message.header.msg_name = nullptr;
  message.header.msg_controllen = CMSG_SPACE(sizeof(int));
  std::memcpy(message.bytes, "0123456789abcdef", 16);
  CHECK(sendmsg(pair.client, &message.header, 0) == 16);
  CHECK(receive(pair.server, 16) == "0123456789abcdef");
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = 12345;
  CHECK_FAILS(sendmsg(pair.client, &message.header, 0), EINVAL);
  control->cmsg_len = 1;
  CHECK_FAILS(sendmsg(pair.client, &message.header, 0), EINVAL);
}

TEST_CASE("recvmmsg: as many messages as there are bytes for", "[recvmmsg]") {
  const auto pair = connected({.nonblocking = true});
  send_all(pair.client, "aabbc");
  arrived(pair.server, 5);
  char buffers[4][2];
  iovec parts[4];
  mmsghdr messages[4]{};
  for (int i = 0; i < 4; ++i) {
    parts[i] = {buffers[i], 2};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
    messages[i].msg_len = 99;
  }
  CHECK(recvmmsg(pair.server, messages, 4, 0, nullptr) == 3);
  CHECK(messages[0].msg_len == 2);
  CHECK(messages[1].msg_len == 2);
  CHECK(messages[2].msg_len == 1);
  CHECK(messages[3].msg_len == 99);
  CHECK(std::string(buffers[0], 5) == "aabbc");
}

TEST_CASE("recvmmsg: of no messages, and of more than sendmmsg takes", "[recvmmsg][sendmmsg]") {
  const auto pair = connected({.nonblocking = true});
  CHECK(recvmmsg(pair.server, nullptr, 0, 0, nullptr) == 0);
  CHECK(sendmmsg(pair.server, nullptr, 0, 0) == 0);
  const auto text = pattern(1500);
  std::vector<iovec> parts(1500);
  std::vector<mmsghdr> messages(1500);
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i] = {const_cast<char*>(text.data()) + i, 1};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  CHECK(sendmmsg(pair.client, messages.data(), 1500, 0) == 1024);
  send_all(pair.client, text.substr(1024));
  arrived(pair.server, 1500);
  std::string got(1500, '\0');
  for (size_t i = 0; i < parts.size(); ++i) parts[i].iov_base = got.data() + i;
  CHECK(recvmmsg(pair.server, messages.data(), 1500, 0, nullptr) == 1500);
  CHECK(got == text);
}

TEST_CASE("recvmmsg: MSG_WAITFORONE waits for the first message only", "[recvmmsg]") {
  const auto pair = connected();
  char buffers[3][2];
  iovec parts[3];
  mmsghdr messages[3]{};
  for (int i = 0; i < 3; ++i) {
    parts[i] = {buffers[i], 2};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  int got = 0;
  std::thread reader([&] { got = recvmmsg(pair.server, messages, 3, MSG_WAITFORONE, nullptr); });
  std::this_thread::sleep_for(1ms);
  CHECK(send(pair.client, "ab", 2, 0) == 2);
  reader.join();
  CHECK(got == 1);
  CHECK(messages[0].msg_len == 2);
}

TEST_CASE("recvmmsg: the time limit is looked at after each message", "[recvmmsg]") {
  const auto pair = connected();
  send_all(pair.client, "aabb");
  arrived(pair.server, 4);
  char buffers[3][2];
  iovec parts[3];
  mmsghdr messages[3]{};
  for (int i = 0; i < 3; ++i) {
    parts[i] = {buffers[i], 2};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  timespec none{0, 0};
  CHECK(recvmmsg(pair.server, messages, 3, 0, &none) == 1);
  timespec enough{5, 0};
  CHECK(recvmmsg(pair.server, messages, 1, 0, &enough) == 1);
  CHECK(enough.tv_sec == 4);
  timespec bad{0, 1'000'000'000};
  CHECK_FAILS(recvmmsg(pair.server, messages, 3, 0, &bad), EINVAL);
  bad = {-1, 0};
  CHECK_FAILS(recvmmsg(pair.server, messages, 3, 0, &bad), EINVAL);
  CHECK_FAILS(recvmmsg(pair.server, messages, 3, 0, static_cast<timespec*>(bad_pointer())), EFAULT);
}

TEST_CASE("recvmmsg: at the end of the stream every message is empty", "[recvmmsg]") {
  const auto pair = connected();
  send_all(pair.client, "a");
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  arrived(pair.server, 1);
  char byte;
  iovec part{&byte, 1};
  mmsghdr messages[3]{};
  for (auto& each : messages) each.msg_hdr.msg_iov = &part, each.msg_hdr.msg_iovlen = 1;
  CHECK(recvmmsg(pair.server, messages, 3, 0, nullptr) == 3);
  CHECK(messages[0].msg_len == 1);
  CHECK(messages[1].msg_len == 0);
  CHECK(messages[2].msg_len == 0);
}

TEST_CASE("sendmmsg: each message's length is told, and all come in order", "[sendmmsg]") {
  const auto pair = connected();
  const char* texts[] = {"one", "", "three"};
  iovec parts[3];
  mmsghdr messages[3]{};
  for (int i = 0; i < 3; ++i) {
    parts[i] = {const_cast<char*>(texts[i]), strlen(texts[i])};
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  CHECK(sendmmsg(pair.client, messages, 3, 0) == 3);
  CHECK(messages[0].msg_len == 3);
  CHECK(messages[1].msg_len == 0);
  CHECK(messages[2].msg_len == 5);
  CHECK(receive(pair.server, 8) == "onethree");
}

TEST_CASE("sendmmsg: ends at the message that was taken in part", "[sendmmsg]") {
  const auto pair = connected({.nonblocking = true});
  const auto text = pattern(64 << 20);
  iovec parts[] = {{const_cast<char*>(text.data()), text.size()}, {const_cast<char*>("after"), 5}};
  mmsghdr messages[2]{};
  for (int i = 0; i < 2; ++i)
    messages[i].msg_hdr.msg_iov = &parts[i], messages[i].msg_hdr.msg_iovlen = 1, messages[i].msg_len = 99;
  CHECK(sendmmsg(pair.client, messages, 2, 0) == 1);
  CHECK(messages[0].msg_len > 0);
  CHECK(messages[0].msg_len < text.size());
  CHECK(messages[1].msg_len == 99);
  const size_t sent = messages[0].msg_len;
  CHECK(receive(pair.server, sent) == text.substr(0, sent));
}

TEST_CASE("sendmmsg: what went before an error counts", "[sendmmsg]") {
  const auto pair = connected();
  iovec parts[] = {{const_cast<char*>("ok"), 2}, {bad_pointer(), 5}};
  mmsghdr messages[2]{};
  for (int i = 0; i < 2; ++i) messages[i].msg_hdr.msg_iov = &parts[i], messages[i].msg_hdr.msg_iovlen = 1;
  CHECK(sendmmsg(pair.client, messages, 2, 0) == 1);
  CHECK_FAILS(sendmmsg(pair.client, messages + 1, 1, 0), EFAULT);
  CHECK(receive(pair.server, 2) == "ok");
}

// The kernel keeps the error for the next call on the socket; in a lane it is forgotten.
TEST_CASE("recvmmsg: what came before an error counts", "[recvmmsg]") {
  const auto pair = connected();
  send_all(pair.client, "abcd");
  arrived(pair.server, 4);
  char bytes[2];
  iovec parts[] = {{bytes, 2}, {bad_pointer(), 2}};
  mmsghdr messages[2]{};
  for (int i = 0; i < 2; ++i) messages[i].msg_hdr.msg_iov = &parts[i], messages[i].msg_hdr.msg_iovlen = 1;
  CHECK(recvmmsg(pair.server, messages, 2, 0, nullptr) == 1);
  CHECK(messages[0].msg_len == 2);
  (void)option(pair.server, SOL_SOCKET, SO_ERROR);
  CHECK(receive(pair.server, 2) == "cd");
}
