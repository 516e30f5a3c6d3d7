// Memory that is mapped, and where there is nothing any more: a file that was cut, by whomever. A program
// that touches it gets SIGBUS. A call that is given it gives EFAULT, whatever the program does with that
// signal.

#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

#include <csetjmp>

#include "../pair.hpp"
#include "../signals.hpp"
#include "../ways.hpp"

using namespace conformance;

namespace {

constexpr size_t kPage = 4096;

// A file in memory. What a library may know of its pages, it knows.
struct Mapped {
  Fd file{memfd_create("cut", MFD_CLOEXEC)};
  char* bytes = nullptr;
  size_t size;
  explicit Mapped(size_t pages) : size(pages * kPage) {
    REQUIRE(ftruncate(file, static_cast<off_t>(size)) == 0);
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    REQUIRE(at != MAP_FAILED);
    bytes = static_cast<char*>(at);
    std::memset(bytes, 'x', size);
  }
  ~Mapped() { munmap(bytes, size); }
  void cut(size_t to = 0) const { REQUIRE(ftruncate(file, static_cast<off_t>(to)) == 0); }
  void mend() const { REQUIRE(ftruncate(file, static_cast<off_t>(size)) == 0); }
  // An object in it.
  template <class T>
  T& as() const {
    return *reinterpret_cast<T*>(bytes);
  }
};

// Both directions, by memory that is there and then is not.
void used(const Pair& pair, const Mapped& memory) {
  send_all(pair.client, "used");
  arrived(pair.server, 4);
  REQUIRE(read(pair.server, memory.bytes, 4) == 4);
  REQUIRE(write(pair.server, memory.bytes, 4) == 4);
  REQUIRE(receive(pair.client, 4) == "used");
}

void fails_both_ways(const Pair& pair, const Mapped& memory) {
  send_all(pair.client, "hello");
  arrived(pair.server, 5);
  CHECK_FAILS(read(pair.server, memory.bytes, 5), EFAULT);
  CHECK_FAILS(write(pair.server, memory.bytes, 5), EFAULT);
  CHECK(receive(pair.server, 5) == "hello");
}

}  // namespace

TEST_CASE("every way to read: EFAULT from a file that was cut, and the bytes stay", EVERY_WAY_IN) {
  const auto pair = connected();
  const Mapped memory(1);
  used(pair, memory);
  for (const auto& way : ways_in()) {
    INFO(way.name);
    for (const size_t size : {5, 100, 1000, 4000}) {
      send_all(pair.client, pattern(size));
      arrived(pair.server, static_cast<int>(size));
      memory.cut();
      CHECK_FAILS(way.take(pair.server, memory.bytes, size), EFAULT);
      memory.mend();
      CHECK(way.take(pair.server, memory.bytes, size) == static_cast<ssize_t>(size));
      CHECK(std::string_view(memory.bytes, size) == pattern(size));
    }
  }
}

TEST_CASE("every way to write: EFAULT from a file that was cut, and nothing is sent", EVERY_WAY_OUT) {
  const auto pair = connected();
  const Mapped memory(2);
  used(pair, memory);
  for (const auto& way : ways_out()) {
    INFO(way.name);
    for (const size_t size : {5, 100, 1000, 4000}) {
      memory.cut();
      CHECK_FAILS(way.give(pair.client, memory.bytes, size), EFAULT);
      memory.mend();
      memory.cut(kPage);
      CHECK_FAILS(way.give(pair.client, memory.bytes + kPage - 3, size), EFAULT);
      memory.mend();
    }
  }
  send_all(pair.client, "end");
  CHECK(receive(pair.server, 3) == "end");
  CHECK(polled(pair.server, POLLIN) == 0);
}

TEST_CASE("readv, writev and kin: a piece in a file that was cut, after good ones",
          "[readv][writev][recvmsg][sendmsg]") {
  const auto pair = connected();
  const Mapped memory(1);
  used(pair, memory);
  memory.cut();
  char good[4] = {'0', '1', '2', '3'};
  iovec parts[] = {{good, 4}, {memory.bytes, 4}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  CHECK_FAILS(writev(pair.client, parts, 2), EFAULT);
  CHECK_FAILS(sendmsg(pair.client, &message, 0), EFAULT);
  send_all(pair.client, "0123");
  arrived(pair.server, 4);
  CHECK(readv(pair.server, parts, 2) == 4);
  send_all(pair.client, "456789");
  arrived(pair.server, 6);
  CHECK_FAILS(readv(pair.server, parts, 2), EFAULT);
  CHECK_FAILS(recvmsg(pair.server, &message, 0), EFAULT);
  CHECK(receive(pair.server, 6) == "456789");
  CHECK(polled(pair.server, POLLIN) == 0);
}

TEST_CASE("sendmsg: what is in front of a file that was cut may be sent, and is then counted", "[sendmsg][writev]") {
  const auto pair = connected();
  const Mapped memory(1);
  used(pair, memory);
  memory.cut();
  const auto text = pattern(100'000);
  iovec parts[] = {{const_cast<char*>(text.data()), text.size()}, {memory.bytes, 4}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  const auto sent = sendmsg(pair.client, &message, MSG_DONTWAIT);
  CHECK(sent > 0);
  CHECK(sent <= static_cast<ssize_t>(text.size()));
  CHECK(receive(pair.server, static_cast<size_t>(sent)) == text.substr(0, static_cast<size_t>(sent)));
  send_all(pair.client, "end");
  CHECK(receive(pair.server, 3) == "end");
}

TEST_CASE("read, write: EFAULT from a file that was cut, whatever the program does with SIGBUS",
          "[read][write][sigaction][signal]") {
  const auto pair = connected();
  const Mapped memory(1);
  used(pair, memory);
  memory.cut();
  handled = 0;
  for (auto* const handler : {SIG_DFL, SIG_IGN, count_signal}) {
    const Action bus(SIGBUS, handler), fault(SIGSEGV, handler);
    struct sigaction told {};
    REQUIRE(sigaction(SIGBUS, nullptr, &told) == 0);
    CHECK(told.sa_handler == handler);
    fails_both_ways(pair, memory);
  }
  const Action once(SIGBUS, count_signal, static_cast<int>(SA_RESETHAND));
  fails_both_ways(pair, memory);
  struct sigaction told {};
  REQUIRE(sigaction(SIGBUS, nullptr, &told) == 0);
  CHECK(told.sa_handler == count_signal);
  CHECK(handled == 0);
}

TEST_CASE(
    "read, write: EFAULT from a file that was cut, where SIGBUS is blocked, and what is sent of it stays "
    "pending",
    "[read][write][sigprocmask][pthread_sigmask][syscall]") {
  const auto pair = connected();
  const Mapped memory(1);
  used(pair, memory);
  handled = 0;
  const Action counted(SIGBUS, count_signal);
  sigset_t all, before;
  sigfillset(&all);
  const auto bus = only(SIGBUS);
  const std::vector<std::function<void()>> blocks{[&] { pthread_sigmask(SIG_BLOCK, &bus, &before); },
                                                  [&] { sigprocmask(SIG_SETMASK, &all, &before); },
                                                  [&] { syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &before, 8); },
                                                  [&] {
                                                    sigprocmask(SIG_SETMASK, nullptr, &before);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
                                                    sighold(SIGBUS);
#pragma GCC diagnostic pop
                                                  }};
  for (const auto& block : blocks) {
    fails_both_ways(pair, (memory.cut(), memory));
    memory.mend();
    CHECK(read(pair.server, memory.bytes, 0) == 0);
    used(pair, memory);
    memory.cut();
    sigemptyset(&before);
    block();
    fails_both_ways(pair, memory);
    CHECK(is_blocked(SIGBUS));
    CHECK_FALSE(is_pending(SIGBUS));
    pthread_kill(pthread_self(), SIGBUS);
    fails_both_ways(pair, memory);
    CHECK(is_pending(SIGBUS));
    CHECK(handled == 0);
    sigprocmask(SIG_SETMASK, &before, nullptr);
    CHECK(handled == 1);
    CHECK_FALSE(is_blocked(SIGBUS));
    handled = 0;
    memory.mend();
  }
}

TEST_CASE("read, write: SIGBUS sent to a process that blocks it is for whoever waits for it",
          "[read][write][sigprocmask]") {
  const auto pair = connected();
  const Mapped memory(1);
  used(pair, memory);
  memory.cut();
  handled = 0;
  const Action counted(SIGBUS, count_signal);
  const auto bus = only(SIGBUS);
  sigset_t before;
  REQUIRE(sigprocmask(SIG_BLOCK, &bus, &before) == 0);
  for (int round = 0; round < 3; ++round) {
    fails_both_ways(pair, memory);
    REQUIRE(kill(getpid(), SIGBUS) == 0);
    fails_both_ways(pair, memory);
    CHECK(is_pending(SIGBUS));
    siginfo_t sent{};
    const timespec soon{5, 0};
    CHECK(sigtimedwait(&bus, &sent, &soon) == SIGBUS);
    CHECK(sent.si_code == SI_USER);
  }
  REQUIRE(sigprocmask(SIG_SETMASK, &before, nullptr) == 0);
  CHECK(handled == 0);
}

TEST_CASE("execve, posix_spawn, system: a new program ignores SIGBUS where this one does",
          "[execve][posix_spawn][system][signal]") {
  const auto pair = connected();
  const Action ignored(SIGBUS, SIG_IGN);
  // Without its environment, which would preload what this one has. The digit of SIGBUS in the set.
  char grep[] = "/bin/grep", quiet[] = "-q", ignores[] = "SigIgn:.*[4-7c-f].$", status[] = "/proc/self/status";
  char* const arguments[] = {grep, quiet, ignores, status, nullptr};
  char* const environment[] = {nullptr};
  const auto found = [](pid_t child) {
    int end = -1;
    return waitpid(child, &end, 0) == child && end == 0;
  };
  pid_t child = fork();
  if (child == 0) {
    execve(grep, arguments, environment);
    _exit(9);
  }
  CHECK(found(child));
  child = vfork();
  if (child == 0) {
    execve("/nowhere", arguments, environment);
    execve(grep, arguments, environment);
    _exit(9);
  }
  CHECK(found(child));
  REQUIRE(posix_spawn(&child, grep, nullptr, nullptr, arguments, environment) == 0);
  CHECK(found(child));
  CHECK(system("env -i grep -q 'SigIgn:.*[4-7c-f].$' /proc/self/status") == 0);
  struct sigaction told {};
  REQUIRE(sigaction(SIGBUS, nullptr, &told) == 0);
  CHECK(told.sa_handler == SIG_IGN);
  const Action again(SIGBUS, SIG_DFL);
  CHECK(system("env -i grep -q 'SigIgn:.*[4-7c-f].$' /proc/self/status") == 1 << 8);
}

namespace {

const Pair* handlers_pair;
const Mapped* handlers_memory;
int handlers_error;

void write_in_handler(int) { handlers_error = write(handlers_pair->client, handlers_memory->bytes, 5) < 0 ? errno : 0; }

}  // namespace

TEST_CASE("write: EFAULT from a file that was cut, in a handler that no other interrupts", "[write][sigaction]") {
  const auto pair = connected();
  const Mapped memory(1);
  used(pair, memory);
  memory.cut();
  handlers_pair = &pair, handlers_memory = &memory, handlers_error = 0;
  struct sigaction action {
  }, before{};
  action.sa_handler = write_in_handler;
  sigfillset(&action.sa_mask);
  REQUIRE(sigaction(SIGUSR1, &action, &before) == 0);
  raise(SIGUSR1);
  CHECK(handlers_error == EFAULT);
  fails_both_ways(pair, memory);
  REQUIRE(sigaction(SIGUSR1, &before, nullptr) == 0);
}

TEST_CASE("write: EFAULT from a file that was cut, in a context that blocks SIGBUS",
          "[write][setcontext][swapcontext]") {
  const auto pair = connected();
  const Mapped memory(1);
  used(pair, memory);
  memory.cut();
  handlers_pair = &pair, handlers_memory = &memory, handlers_error = 0;
  static ucontext_t here, there;
  static char stack[64 << 10];
  REQUIRE(getcontext(&there) == 0);
  there.uc_stack = {stack, 0, sizeof stack};
  there.uc_link = nullptr;
  sigfillset(&there.uc_sigmask);
  makecontext(&there, reinterpret_cast<void (*)()>(+[] {
    write_in_handler(0);
    setcontext(&here);
  }),
              0);
  REQUIRE(swapcontext(&here, &there) == 0);
  CHECK(handlers_error == EFAULT);
  CHECK_FALSE(is_blocked(SIGBUS));
  fails_both_ways(pair, memory);
}

namespace {

sigjmp_buf past_fault;
void* where;

void leave_fault(int, siginfo_t* siginfo, void*) {
  where = siginfo->si_addr;
  siglongjmp(past_fault, 1);
}

}  // namespace

TEST_CASE("a program's own fault is its own, before and after a call met one", "[write][siglongjmp][sigaction]") {
  const auto pair = connected();
  const Mapped memory(1);
  used(pair, memory);
  memory.cut();
  struct sigaction action {
  }, before{};
  action.sa_sigaction = leave_fault;
  action.sa_flags = SA_SIGINFO;
  REQUIRE(sigaction(SIGBUS, &action, &before) == 0);
  const auto faults = [&] {
    where = nullptr;
    if (sigsetjmp(past_fault, 1) == 0) *static_cast<volatile char*>(memory.bytes + 7) = 1;
    CHECK(where == memory.bytes + 7);
  };
  faults();
  fails_both_ways(pair, memory);
  faults();
  fails_both_ways(pair, memory);
  REQUIRE(sigaction(SIGBUS, &before, nullptr) == 0);
}

TEST_CASE("poll, select, epoll and kin: EFAULT from a file that was cut",
          "[poll][ppoll][select][pselect][epoll_wait][epoll_pwait][epoll_ctl]") {
  const auto pair = connected();
  const Mapped memory(1);
  used(pair, memory);
  send_all(pair.client, "x");
  arrived(pair.server, 1);
  auto* const list = &memory.as<pollfd>();
  auto* const set = &memory.as<fd_set>();
  auto* const events = &memory.as<epoll_event>();
  for (const uint32_t how : {0u, uint32_t{EPOLLET}}) {
    const Fd epoll(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{};
    event.events = EPOLLIN | how;
    REQUIRE(epoll_ctl(epoll, EPOLL_CTL_ADD, pair.server, &event) == 0);
    CHECK_FAILS(epoll_ctl(epoll, EPOLL_CTL_MOD, pair.server, (memory.cut(), events)), EFAULT);
    memory.mend();
    *list = {pair.server, POLLIN, 0};
    CHECK(poll(list, 1, 0) == 1);
    memory.cut();
    CHECK_FAILS(poll(list, 1, 0), EFAULT);
    CHECK_FAILS(ppoll(list, 1, nullptr, nullptr), EFAULT);
    CHECK_FAILS(epoll_wait(epoll, events, 1, 0), EFAULT);
    CHECK_FAILS(epoll_pwait(epoll, events, 10, -1, nullptr), EFAULT);
    memory.mend();
    FD_ZERO(set);
    FD_SET(pair.server, set);
    timeval none{};
    CHECK(select(pair.server + 1, set, nullptr, nullptr, &none) == 1);
    memory.cut();
    CHECK_FAILS(select(pair.server + 1, set, nullptr, nullptr, nullptr), EFAULT);
    CHECK_FAILS(pselect(pair.server + 1, set, nullptr, nullptr, nullptr, nullptr), EFAULT);
    memory.mend();
    CHECK(epoll_wait(epoll, events, 1, 0) == 1);
  }
  memory.cut();  // libc's ppoll itself looks at a timeout
  pollfd one{pair.server, POLLIN, 0};
  CHECK_FAILS(ppoll(&one, 1, nullptr, &memory.as<sigset_t>()), EFAULT);
}

TEST_CASE("arrays, headers and options in a file that was cut: EFAULT",
          "[readv][writev][recvmsg][sendmsg][recvmmsg][sendmmsg][recvfrom][getsockopt][setsockopt][ioctl]") {
  const auto pair = connected();
  const Mapped memory(1);
  used(pair, memory);
  auto* const parts = &memory.as<iovec>();
  auto* const header = &memory.as<msghdr>();
  auto* const headers = &memory.as<mmsghdr>();
  auto* const number = &memory.as<int>();
  char byte = 'y';
  iovec part{&byte, 1};
  const auto wholesome = [&] {
    *header = {};
    header->msg_iov = &part;
    header->msg_iovlen = 1;
  };
  wholesome();
  REQUIRE(sendmsg(pair.client, header, 0) == 1);
  arrived(pair.server, 1);
  REQUIRE(recvmsg(pair.server, header, 0) == 1);
  send_all(pair.client, "xyz");
  arrived(pair.server, 3);
  memory.cut();
  CHECK_FAILS(readv(pair.server, parts, 1), EFAULT);
  CHECK_FAILS(writev(pair.server, parts, 1), EFAULT);
  CHECK_FAILS(recvmsg(pair.server, header, 0), EFAULT);
  CHECK_FAILS(sendmsg(pair.server, header, 0), EFAULT);
  CHECK_FAILS(recvmmsg(pair.server, headers, 1, 0, nullptr), EFAULT);
  CHECK_FAILS(sendmmsg(pair.server, headers, 1, 0), EFAULT);
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 1;
  CHECK_FAILS(recvmsg(pair.server, &message, 0), EFAULT);
  CHECK_FAILS(sendmsg(pair.server, &message, 0), EFAULT);
  CHECK_FAILS(ioctl(pair.server, FIONREAD, number), EFAULT);
  CHECK_FAILS(setsockopt(pair.server, SOL_SOCKET, SO_RCVLOWAT, number, sizeof *number), EFAULT);
  socklen_t size = sizeof *number;
  CHECK_FAILS(getsockopt(pair.server, SOL_SOCKET, SO_RCVLOWAT, number, &size), EFAULT);
  CHECK_FAILS(getsockopt(pair.server, SOL_SOCKET, SO_ERROR, &size, &memory.as<socklen_t>()), EFAULT);
  sockaddr_storage name;
  CHECK_FAILS(recvfrom(pair.server, &byte, 1, 0, reinterpret_cast<sockaddr*>(&name), &memory.as<socklen_t>()), EFAULT);
  CHECK(receive(pair.server, 2) == "yz");
  CHECK(polled(pair.client, POLLIN) == 0);
}

namespace {

constexpr auto kWhile = 2s;

// Cuts and mends all the time that it lives.
class Cutter {
 public:
  explicit Cutter(const Mapped& memory)
      : thread_([this, &memory] {
          for (unsigned round = 0; !over_; ++round) {
            (void)!ftruncate(memory.file, static_cast<off_t>(round % 5 * kPage));
            (void)!ftruncate(memory.file, static_cast<off_t>(memory.size));
            if (round % 8 == 0) std::this_thread::sleep_for(50us);
          }
        }) {}
  ~Cutter() {
    over_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> over_{false};
  std::thread thread_;
};

}  // namespace

// Each message has a head in good memory, which tells its number, and a body in a file that another thread
// cuts. Of every call it is known how many bytes it sent, so it is known where the heads are.
TEST_CASE("sendmsg: from a file that is cut at any time, what is counted is what is sent", "[sendmsg][writev]") {
  const auto pair = connected();
  const Mapped memory(12);
  std::string all;
  std::thread reader([&] {
    std::string some(1 << 16, 0);
    for (ssize_t got; (got = read(pair.server, some.data(), some.size())) > 0;)
      all.append(some, 0, static_cast<size_t>(got));
  });
  std::vector<size_t> sizes;
  size_t faults = 0;
  {
    const Cutter cutter(memory);
    const auto end = std::chrono::steady_clock::now() + kWhile;
    for (size_t n = 0; std::chrono::steady_clock::now() < end || faults == 0; ++n) {
      auto number = static_cast<uint32_t>(sizes.size());  // the head
      const size_t size = n % 3 == 0 ? 100 : n % 3 == 1 ? 5000 : memory.size;
      iovec parts[] = {{&number, sizeof number}, {memory.bytes, size}};
      const auto sent = writev(pair.client, parts, 2);
      if (sent < 0) {
        REQUIRE(errno == EFAULT);
        ++faults;
        continue;
      }
      sizes.push_back(static_cast<size_t>(sent));
    }
  }
  REQUIRE(shutdown(pair.client, SHUT_WR) == 0);
  reader.join();
  size_t at = 0;
  uint32_t expected = 0;
  for (const auto size : sizes) {
    REQUIRE(at + size <= all.size());
    REQUIRE(std::memcmp(all.data() + at, &expected, std::min(size, sizeof expected)) == 0);
    REQUIRE(all.find_first_not_of(std::string_view("x\0", 2), at + sizeof expected) >= at + size);
    at += size, ++expected;
  }
  CHECK(at == all.size());
  CHECK(faults > 0);
}

TEST_CASE("readv: into a file that is cut at any time, no byte is lost or comes twice", "[readv][read]") {
  const auto pair = connected();
  const Mapped memory(12);
  std::atomic<bool> over{false};
  std::thread writer([&] {
    for (uint32_t n = 0; !over;) {
      uint32_t some[256];
      for (auto& word : some) word = n++;
      send_all(pair.client, std::string_view(reinterpret_cast<char*>(some), sizeof some));
    }
    shutdown(pair.client, SHUT_WR);
  });
  size_t faults = 0, total = 0;
  uint64_t at = 0;  // in the stream
  bool right = true;
  {
    const Cutter cutter(memory);
    const auto end = std::chrono::steady_clock::now() + kWhile;
    for (size_t n = 0;; ++n) {
      // The head shows where in the stream the call began.
      uint32_t head[2] = {};
      iovec parts[] = {{head, sizeof head}, {memory.bytes, n % 2 ? 3000 : memory.size}};
      const auto got = readv(pair.server, parts, 2);
      if (got == 0) break;
      if (got < 0) {
        REQUIRE(errno == EFAULT);
        ++faults;
      } else {
        const auto shift = at % 4;
        if (got >= 8) {
          uint32_t word;
          std::memcpy(&word, reinterpret_cast<char*>(head) + (4 - shift) % 4, sizeof word);
          right = right && word == (at + 3) / 4;
        }
        at += static_cast<uint64_t>(got);
        total += static_cast<size_t>(got);
      }
      if (std::chrono::steady_clock::now() >= end && faults > 0) over = true;
    }
  }
  writer.join();
  CHECK(right);
  CHECK(total % 1024 == 0);
  CHECK(faults > 0);
}
