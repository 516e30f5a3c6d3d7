// The control socket: its packets, byte by byte, and who is heard on it; and the gate that its orders shut.

#include "core/engine/service/control.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "core/base/unique_fd.hpp"
#include "core/engine/gate.hpp"
#include "core/wire/control.hpp"

using namespace rsock;
using namespace rsock::wire;

namespace {

using Bytes = std::vector<uint8_t>;

ControlAnswer answer() {
  ControlAnswer made;
  made.process = 4711;
  made.moved = 3;
  made.flows = {.tcp = 1, .rdma = 2, .shm = 3, .entering = 4, .leaving = 5};
  made.stay = {{"shared", 6}, {"operator", 7}};
  made.program = "redis-server";
  made.complaint = "a.toml:1:2: unknown key\n";
  return made;
}

// The abstract name of a socket, without its leading zero.
std::string name_of(int fd) {
  sockaddr_un name{};
  socklen_t size = sizeof name;
  REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) == 0);
  return {name.sun_path + 1, size - offsetof(sockaddr_un, sun_path) - 1};
}

UniqueFd caller(const std::string& door) {
  UniqueFd made(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path + 1, door.data(), door.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + door.size());
  REQUIRE(::connect(made.get(), reinterpret_cast<sockaddr*>(&name), size) == 0);
  return made;
}

// A control socket that counts what it is asked, driven by hand.
struct Door {
  UniqueFd epoll{::epoll_create1(EPOLL_CLOEXEC)};
  int asked = 0;
  uid_t asked_by = 0;
  UniqueFd passed;             // with the next answer
  std::shared_ptr<void> kept;  // by the next caller that is answered
  std::unique_ptr<engine::Control> control =
      engine::Control::open(epoll.get(), 0, [this](const ControlRequest&, uid_t user) {
        ++asked;
        asked_by = user;
        return engine::Control::Reply{
            .packet = encode(answer()), .descriptor = std::move(passed), .kept = std::move(kept)};
      });
  std::string name = name_of(control->descriptors().front());

  void turn() {
    std::array<epoll_event, 16> events;
    for (int rounds = 0; rounds < 4; ++rounds)
      for (int i = 0, count = ::epoll_wait(epoll.get(), events.data(), 16, 0); i < count; ++i)
        control->ready(events[static_cast<size_t>(i)].data.u64);
  }
  // Until something is due.
  void wait() {
    REQUIRE(control->deadline());
    std::this_thread::sleep_until(*control->deadline());
    control->expire();
    turn();
  }
  bool hung_up(const UniqueFd& fd) const {
    char byte;
    const auto got = ::recv(fd.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  }
};

void say(const UniqueFd& fd, const Bytes& bytes) {
  REQUIRE(::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) >= 0);
}

}  // namespace

TEST_CASE("a request is ten bytes", "[control]") {
  CHECK(encode(ControlRequest{Order::leave, 6379}) == Bytes{'r', 's', 'c', 'o', 0, 1, 1, 0, 0x18, 0xeb});
  for (const auto order : {Order::tell, Order::leave, Order::enter, Order::reload}) {
    const auto read = decode_control_request(encode(ControlRequest{order, 65535}));
    REQUIRE(read);
    CHECK(read->order == order);
    CHECK(read->port == 65535);
  }
}

TEST_CASE("a request about a socket has its cookie behind", "[control]") {
  const auto bytes = encode(ControlRequest{Order::hand_over, 0, 0x0102030405060708});
  CHECK(bytes == Bytes{'r', 's', 'c', 'o', 0, 1, 4, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8});
  const auto read = decode_control_request(bytes);
  REQUIRE(read);
  CHECK(read->order == Order::hand_over);
  CHECK(read->number == 0x0102030405060708);
  for (size_t size = 0; size < bytes.size(); ++size) CHECK_FALSE(decode_control_request({bytes.data(), size}));
}

TEST_CASE("a request that differs in anything is refused", "[control]") {
  const auto good = encode(ControlRequest{Order::reload, 1});
  for (size_t at = 0; at < 8; ++at) {
    auto bad = good;
    bad[at] = static_cast<uint8_t>(bad[at] + (at == 6 ? 1 : 128));
    CHECK_FALSE(decode_control_request(bad));
  }
  for (size_t size = 0; size < good.size(); ++size) CHECK_FALSE(decode_control_request({good.data(), size}));
  auto longer = good;
  longer.push_back(0);
  CHECK_FALSE(decode_control_request(longer));
}

TEST_CASE("an answer comes through as it was", "[control]") {
  const auto read = decode_control_answer(encode(answer()));
  REQUIRE(read);
  CHECK_FALSE(read->refused);
  CHECK(read->process == 4711);
  CHECK(read->moved == 3);
  CHECK((read->flows.tcp == 1 && read->flows.rdma == 2 && read->flows.shm == 3));
  CHECK((read->flows.entering == 4 && read->flows.leaving == 5));
  REQUIRE(read->stay.size() == 2);
  CHECK((read->stay[1].reason == "operator" && read->stay[1].flows == 7));
  CHECK(read->program == "redis-server");
  CHECK(read->complaint == "a.toml:1:2: unknown key\n");
}

TEST_CASE("an answer that is cut, goes on, or has a wrong length in it is refused", "[control]") {
  const auto good = encode(answer());
  for (size_t size = 0; size < good.size(); ++size) CHECK_FALSE(decode_control_answer({good.data(), size}));
  auto bad = good;
  bad.push_back(0);
  CHECK_FALSE(decode_control_answer(bad));
  bad = good, bad[6] = 2;
  CHECK_FALSE(decode_control_answer(bad));
  bad = good, bad[36] = 255;  // reasons
  CHECK_FALSE(decode_control_answer(bad));
  bad = good, bad[38] = 255;  // the length of the first
  CHECK_FALSE(decode_control_answer(bad));
}

TEST_CASE("a page comes through as it was, and strictly", "[control]") {
  const auto good = encode(ControlPage{0x0102030405060708, "{}\n"});
  CHECK(good == Bytes{'r', 's', 'c', 'o', 0, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 3, '{', '}', '\n'});
  const auto read = decode_control_page(good);
  REQUIRE(read);
  CHECK(read->next == 0x0102030405060708);
  CHECK(read->text == "{}\n");
  for (size_t size = 0; size < good.size(); ++size) CHECK_FALSE(decode_control_page({good.data(), size}));
  auto bad = good;
  bad.push_back(0);
  CHECK_FALSE(decode_control_page(bad));
  bad = good, bad[7] = 1;
  CHECK_FALSE(decode_control_page(bad));
  CHECK(encode(ControlPage{1, std::string(100000, 'x')}).size() == kControlAnswerMost);
}

TEST_CASE("a page or a ring is asked for by a number", "[control]") {
  for (const auto order : {Order::flows, Order::links, Order::statistics, Order::capture}) {
    CHECK(asks_for_page(order) == (order != Order::capture));
    const auto bytes = encode(ControlRequest{order, 6379, 77});
    CHECK(bytes.size() == kControlRequestMost);
    const auto read = decode_control_request(bytes);
    REQUIRE(read);
    CHECK((read->order == order && read->port == 6379 && read->number == 77));
  }
  auto unknown = encode(ControlRequest{Order::capture, 0, 1});
  ++unknown[6];
  CHECK_FALSE(decode_control_request(unknown));
}

TEST_CASE("what is too long for an answer is cut", "[control]") {
  auto made = answer();
  made.program.assign(1000, 'x');
  made.complaint.assign(100000, 'y');
  made.stay.assign(1000, {std::string(100, 'z'), 1});
  const auto bytes = encode(made);
  CHECK(bytes.size() <= kControlAnswerMost);
  const auto read = decode_control_answer(bytes);
  REQUIRE(read);
  CHECK(read->program.size() == 255);
  CHECK(read->stay.size() == kControlReasonsMost);
}

TEST_CASE("an operator is answered, again and again", "[control]") {
  Door door;
  const auto operator_ = caller(door.name);
  for (int i = 1; i <= 3; ++i) {
    say(operator_, encode(ControlRequest{}));
    door.turn();
    Bytes bytes(kControlAnswerMost);
    const auto got = ::recv(operator_.get(), bytes.data(), bytes.size(), 0);
    REQUIRE(got > 0);
    bytes.resize(static_cast<size_t>(got));
    CHECK(decode_control_answer(bytes));
    CHECK(door.asked == i);
    CHECK(door.asked_by == ::geteuid());
  }
}

TEST_CASE("whoever says what no operator says is hung up on", "[control]") {
  Door door;
  for (const auto& words : {Bytes{}, Bytes{0}, Bytes(10, 'x'), Bytes(20000, 'x')}) {
    const auto stranger = caller(door.name);
    say(stranger, words);
    door.turn();
    CHECK(door.hung_up(stranger));
  }
  CHECK(door.asked == 0);
}

TEST_CASE("silent callers make way for others, and none is kept for ever", "[control]") {
  Door door;
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 12; ++i) silent.push_back(caller(door.name)), door.turn();
  CHECK(door.control->descriptors().size() == 10);
  CHECK_FALSE(door.hung_up(silent.front()));  // it has just come
  door.wait();
  CHECK(door.hung_up(silent.front()));
  CHECK(door.control->descriptors().size() <= 10);
  CHECK_FALSE(door.hung_up(silent.back()));
  REQUIRE(door.control->deadline());
  CHECK(*door.control->deadline() <= now() + milliseconds(5000));
  say(silent.back(), encode(ControlRequest{}));
  door.turn();
  CHECK(door.asked == 1);
}

TEST_CASE("an operator has time for its first words although many come after it", "[control]") {
  Door door;
  const auto operator_ = caller(door.name);
  door.turn();
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 15; ++i) silent.push_back(caller(door.name)), door.turn();
  say(operator_, encode(ControlRequest{}));
  door.turn();
  CHECK(door.asked == 1);
  const auto late = caller(door.name);  // and so has one that comes behind them all
  say(late, encode(ControlRequest{}));
  for (int i = 0; i < 3 && door.asked < 2; ++i) door.wait();
  CHECK(door.asked == 2);
}

TEST_CASE("an operator is heard although many come after it before anybody looks", "[control]") {
  Door door;
  const auto operator_ = caller(door.name);
  say(operator_, encode(ControlRequest{}));
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 15; ++i) silent.push_back(caller(door.name));
  door.turn();
  CHECK(door.asked == 1);
  Bytes bytes(kControlAnswerMost);
  CHECK(::recv(operator_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0);
}

TEST_CASE("a caller who never listens is let go", "[control]") {
  Door door;
  const auto deaf = caller(door.name);
  for (int i = 0; i < 100000 && door.control->descriptors().size() <= 2; ++i) {
    const auto request = encode(ControlRequest{});
    if (::send(deaf.get(), request.data(), request.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN) break;
    door.turn();
  }
  CHECK(door.control->descriptors().size() == 1);
}

TEST_CASE("a caller that was given something stays, and its end is the end of that", "[control]") {
  Door door;
  for (const bool speaks : {false, true}) {
    door.passed = UniqueFd(::eventfd(0, EFD_CLOEXEC));
    auto given = std::make_shared<int>();
    const std::weak_ptr<int> watched = given;
    door.kept = std::move(given);
    auto keeper = caller(door.name);
    say(keeper, encode(ControlRequest{Order::capture, 0, 1}));
    door.turn();
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    Bytes bytes(kControlAnswerMost);
    iovec piece{bytes.data(), bytes.size()};
    msghdr message{};
    message.msg_iov = &piece, message.msg_iovlen = 1, message.msg_control = control,
    message.msg_controllen = sizeof control;
    REQUIRE(::recvmsg(keeper.get(), &message, MSG_CMSG_CLOEXEC) > 0);
    const auto* part = CMSG_FIRSTHDR(&message);
    REQUIRE(part);
    CHECK(part->cmsg_type == SCM_RIGHTS);
    int passed;
    std::memcpy(&passed, CMSG_DATA(part), sizeof passed);
    const UniqueFd owned(passed);
    // However many come, and whatever time goes by.
    std::vector<UniqueFd> others;
    for (int i = 0; i < 12; ++i) others.push_back(caller(door.name)), door.turn();
    CHECK_FALSE(door.control->deadline() > now() + milliseconds(5000));
    door.wait(), door.wait();
    CHECK_FALSE(watched.expired());
    speaks ? say(keeper, encode(ControlRequest{})) : keeper.reset();
    const auto before = door.asked;
    door.turn();
    CHECK(watched.expired());
    CHECK(door.asked == before);
    if (speaks) CHECK(door.hung_up(keeper));
  }
  door.kept = std::make_shared<int>();
  const std::weak_ptr<void> watched = door.kept;
  const auto keeper = caller(door.name);
  say(keeper, encode(ControlRequest{Order::capture, 0, 1}));
  door.turn();
  CHECK_FALSE(watched.expired());
  door.control.reset();
  CHECK(watched.expired());
}

TEST_CASE("what is said of all replaces what was said of ports", "[control]") {
  engine::Gate gate;
  CHECK(gate.admits(1, 2));
  gate.set(false, 2);
  CHECK_FALSE(gate.admits(1, 2));
  CHECK_FALSE(gate.admits(2, 1));
  CHECK(gate.admits(1, 3));
  gate.set(true, 2);
  CHECK(gate.admits(1, 2));
  gate.set(false, 0);
  CHECK_FALSE(gate.admits(1, 2));
  gate.set(true, 2);
  CHECK(gate.admits(1, 2));
  CHECK_FALSE(gate.admits(1, 3));
  gate.set(false, 2);
  CHECK_FALSE(gate.admits(1, 2));
  gate.set(true, 7);
  gate.set(true, 0);
  CHECK((gate.admits(1, 2) && gate.admits(1, 7)));
}

TEST_CASE("a barred gate forgets nothing of what was said", "[control]") {
  engine::Gate gate;
  gate.set(false, 2);
  gate.bar(true);
  CHECK_FALSE(gate.admits(1, 3));
  gate.set(true, 3);
  CHECK_FALSE(gate.admits(1, 3));
  gate.bar(false);
  CHECK(gate.admits(1, 3));
  CHECK_FALSE(gate.admits(1, 2));
}
