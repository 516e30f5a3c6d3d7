// A process that gives up what it may do, with connections open.

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <fstream>
#include <vector>

#include "../child.hpp"

using namespace conformance;

namespace {

// Only these calls, and those that end a process, or it is killed.
std::vector<sock_filter> filter_of(std::initializer_list<long> allowed) {
  std::vector<sock_filter> filter{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  const auto allow = [&](long number) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  };
  for (const long number : allowed) allow(number);
  for (const long number : {SYS_exit, SYS_exit_group, SYS_close}) allow(number);
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  return filter;
}

bool by_prctl(std::vector<sock_filter> filter) {
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// For all threads.
bool by_seccomp(std::vector<sock_filter> filter) {
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  return syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

void goes_on_behind(bool (*put_up)(std::vector<sock_filter>)) {
  auto peer = peer_that([&](int fd) {
    if (!put(fd, "before") || !put_up(filter_of({SYS_read, SYS_write}))) return 1;
    return put(fd, take(fd, 5)) ? 7 : 2;
  });
  CHECK(receive(peer.fd, 6) == "before");
  send_all(peer.fd, "after");
  CHECK(receive(peer.fd, 5) == "after");
  CHECK(receive(peer.fd, 1).empty());
  CHECK(status_of(peer.child) == 7);
}

}  // namespace

TEST_CASE("prctl: a filter that allows little more than read and write, and a connection from before", "[prctl][tcp]") {
  goes_on_behind(by_prctl);
}

TEST_CASE("seccomp: a filter in force for all threads, and a connection from before", "[syscall][tcp]") {
  goes_on_behind(by_seccomp);
}

TEST_CASE("seccomp: bytes that came before the filter and nobody read", "[syscall][tcp]") {
  const Signal sent;
  auto peer = peer_that([&](int fd) {
    if (!sent.wait()) return 1;
    while (polled(fd, POLLIN) == 0) {
    }
    if (!by_seccomp(filter_of({SYS_read, SYS_write}))) return 2;
    return put(fd, take(fd, 5)) ? 7 : 3;
  });
  send_all(peer.fd, "hello");
  sent.give();
  CHECK(receive(peer.fd, 5) == "hello");
  CHECK(status_of(peer.child) == 7);
}

// Nobody has looked at these pages, nor may look any more.
TEST_CASE("seccomp: buffers that were not used before the filter", "[syscall][tcp]") {
  constexpr size_t kPage = 4096;
  const bool unread = GENERATE(false, true);  // what is read came before the filter
  const Signal sent;
  auto peer = peer_that([&](int fd) {
    auto* fresh =
        static_cast<char*>(mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (fresh == MAP_FAILED) return 1;
    if (unread && !sent.wait()) return 2;
    while (unread && polled(fd, POLLIN) == 0) {
    }
    if (!by_seccomp(filter_of({SYS_read, SYS_write}))) return 3;
    if (read(fd, fresh + kPage - 2, 5) != 5) return 4;
    if (read(fd, reinterpret_cast<char*>(kPage), 3) != -1 || errno != EFAULT) return 5;
    if (read(fd, fresh + 3 * kPage - 2, 3) != 3) return 6;
    return put(fd, {fresh + kPage - 2, 5}) && put(fd, {fresh + 3 * kPage - 2, 3}) ? 7 : 8;
  });
  send_all(peer.fd, "afterall");
  if (unread) sent.give();
  CHECK(receive(peer.fd, 8) == "afterall");
  CHECK(status_of(peer.child) == 7);
}

TEST_CASE("seccomp: who waits behind a filter makes no other call", "[syscall][tcp][epoll]") {
  auto peer = peer_that([&](int fd) {
    const Fd set(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = 77;
    if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0) return 1;
    if (!by_seccomp(filter_of({SYS_read, SYS_write, SYS_poll, SYS_epoll_wait}))) return 2;
    pollfd one{fd, POLLIN, 0};
    if (poll(&one, 1, 5000) != 1 || one.revents != POLLIN) return 3;
    event = {};
    if (epoll_wait(set, &event, 1, 5000) != 1 || event.events != EPOLLIN || event.data.u64 != 77) return 4;
    if (!put(fd, take(fd, 5))) return 5;
    if (close(fd) != 0) return 6;
    return epoll_wait(set, &event, 1, 100) == 0 ? 7 : 8;  // nothing keeps it open
  });
  send_all(peer.fd, "after");
  CHECK(receive(peer.fd, 5) == "after");
  CHECK(receive(peer.fd, 1).empty());
  CHECK(status_of(peer.child) == 7);
}

TEST_CASE("seccomp: a child behind a filter serves what it has from its parent", "[syscall][tcp][epoll]") {
  const auto pair = connected();
  const Fd set(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = 78;
  REQUIRE(epoll_ctl(set, EPOLL_CTL_ADD, pair.server, &event) == 0);
  const auto child = child_that([&] {
    if (!by_seccomp(filter_of({SYS_read, SYS_write, SYS_poll, SYS_epoll_wait}))) return 1;
    epoll_event seen{};
    if (epoll_wait(set, &seen, 1, 5000) != 1 || seen.events != EPOLLIN || seen.data.u64 != 78) return 2;
    pollfd one{pair.server, POLLIN, 0};
    if (poll(&one, 1, 5000) != 1 || one.revents != POLLIN) return 3;
    return put(pair.server, take(pair.server, 5)) ? 7 : 4;
  });
  send_all(pair.client, "after");
  CHECK(receive(pair.client, 5) == "after");
  CHECK(status_of(child) == 7);
}

TEST_CASE("prctl: to ask whether there are filters changes nothing", "[prctl]") {
  const auto pair = connected();
  CHECK_FAILS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, nullptr), EFAULT);
  CHECK(prctl(PR_GET_SECCOMP) == 0);
  exchange(pair.client, pair.server);
}

TEST_CASE("prctl: what it is told arrives, and what it says", "[prctl][no-lane]") {
  char name[17] = {};
  CHECK(prctl(PR_SET_NAME, "a case") == 0);
  CHECK(prctl(PR_GET_NAME, name) == 0);
  CHECK(name == "a case"s);
  CHECK_FAILS(prctl(-1), EINVAL);
}

namespace {

// Of this process, in KiB.
long locked_memory() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("VmLck:")) return std::stol(line.substr(6));
  return -1;
}

}  // namespace

TEST_CASE("mlockall: a process that locks whatever it maps has connections for as little memory as others",
          "[mlockall]") {
  const auto child = child_that([] {
    if (mlockall(MCL_FUTURE) != 0) return 1;
    const auto before = locked_memory();
    const auto pair = connected();
    send_all(pair.client, "there");
    if (receive(pair.server, 5) != "there") return 2;
    const auto after = locked_memory();
    return before >= 0 && after - before < 128 * 1024 ? 0 : 3;
  });
  CHECK(status_of(child) == 0);
}
