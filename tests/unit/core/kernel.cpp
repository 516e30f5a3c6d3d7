#include "core/base/kernel.hpp"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <vector>

#include "core/base/limit.hpp"
#include "core/base/unique_fd.hpp"

using namespace rsock;

namespace {

// What sys::random says in a process in which these calls are refused, with EPERM; -1 if the process does not answer.
int random_without(std::initializer_list<unsigned> refused) {
  const pid_t child = fork();
  if (child == 0) {
    std::vector<sock_filter> filter{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    for (const auto number : refused) {
      filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
      filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
    }
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
      _exit(200);
    alarm(10);
    uint64_t number[2]{};
    const auto made = sys::random(number, sizeof number);
    _exit(made && !(number[0] && number[1]) ? 201 : made.error());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_CASE("Random bytes come from where they may, or not at all", "[kernel]") {
  CHECK(random_without({}) == 0);
  CHECK(random_without({SYS_getrandom}) == 0);
  CHECK(random_without({SYS_getrandom, SYS_openat}) == EPERM);
}

TEST_CASE("A descriptor that is out of the program's way can be replaced", "[kernel]") {
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlimit few = before;
  few.rlim_cur = 100;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &few) == 0);
  const UniqueFd one(eventfd(0, EFD_NONBLOCK)), other(eventfd(5, EFD_NONBLOCK));
  const auto number = sys::duplicate_high(one.get());
  REQUIRE(number);
  const UniqueFd high(*number);
  if (before.rlim_max > 100) CHECK(high.get() >= 100);
  sys::duplicate_onto(other.get(), high.get());
  uint64_t count = 0;
  CHECK(sys::read(high.get(), &count, sizeof count));
  CHECK(count == 5);
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
}

TEST_CASE("The last quarter of the numbers is left to the program", "[kernel]") {
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  const UniqueFd one(eventfd(0, EFD_NONBLOCK));
  rlimit few = before;
  few.rlim_cur = 64;
  REQUIRE(setrlimit(RLIMIT_NOFILE, &few) == 0);
  CHECK(sys::soft_limit() == 64);
  CHECK(sys::has_spare_numbers());
  if (before.rlim_max > 64) {  // above the limit there are others
    const auto high = sys::duplicate_spare(one.get());
    REQUIRE(high);
    CHECK(*high >= 64);
    (void)sys::close(*high);
  }
  std::vector<UniqueFd> all;
  for (auto more = sys::fcntl(one.get(), F_DUPFD, 0); more; more = sys::fcntl(one.get(), F_DUPFD, 0))
    all.emplace_back(*more);
  CHECK_FALSE(sys::has_spare_numbers());
  all.resize(all.size() - 15);
  CHECK_FALSE(sys::has_spare_numbers());
  all.pop_back();
  CHECK(sys::has_spare_numbers());
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
}
