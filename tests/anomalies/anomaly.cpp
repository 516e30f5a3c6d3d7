// anomaly: runs a program whose preloaded library makes its system calls under supervision. One of them fails with an
// errno of choice, without being made; all others are the kernel's.
//
//   anomaly where LIBRARY REPORT PROGRAM...
//   anomaly run LIBRARY REPORT FIRST-LAST KINDS [KIND NUMBER ERRNO] -- PROGRAM...
//
// `where` writes FIRST-LAST, the addresses between which the code of the library lies (in hexadecimal), as they are at
// the end of the program. Address randomisation is off, so that they are the same the next time.
//
// `run` puts a filter of system calls (seccomp(2)) on the program before it begins: calls from those addresses, of the
// kinds in the file KINDS, come here first. Each of its lines is a kind: its name, a system call by number, and up to
// one condition: the index of an argument, a mask, a value. The first that fits a call is its kind. The call that is
// the NUMBER-th of KIND, counted over all threads and processes, gets ERRNO, and no other system call comes here;
// without that, all do.
//
// REPORT: `pid N` of the program; `call KIND NUMBER ADDRESS PID` of the one that failed, its address as in the file of
// the library; `unknown N` for a system call of no kind; `elsewhere PID` for a process where the library lies
// elsewhere; for each kind that came `count KIND N`; `status N` of the program, as wait(2) tells it; and `stays PID`
// for each process that it left and that did not end in time.
//
// Exit status: 0 when the program was run, whatever became of it, 2 when it could not be.

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/parcel.hpp"

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kLeaving = 15s;  // for the processes that the program left

struct Range {
  uint64_t first = 0, last = 0;  // [first, last)
  uint64_t offset = 0;           // of the first in the file
};

struct Kind {
  std::string name;
  int number = 0;
  int argument = -1;  // none
  uint64_t mask = 0, value = 0;
  uint64_t count = 0;

  bool fits(const seccomp_data& call) const {
    return call.nr == number && (argument < 0 || (call.args[argument] & mask) == value);
  }
};

struct Choice {
  std::string kind;
  uint64_t number = 0;
  int error = 0;
};

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "anomaly: %s: %s\n", what, std::strerror(errno));
  std::exit(2);
}
void must(bool holds, const char* what) {
  if (!holds) die(what);
}

// Where the code of the library is in this process; nowhere if it has none.
Range code_of(pid_t process, const std::string& library) {
  std::ifstream maps("/proc/" + std::to_string(process) + "/maps");
  for (std::string line; std::getline(maps, line);) {
    Range range;
    char rights[8] = {};
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64, &range.first, &range.last, rights,
                    &range.offset) == 4 &&
        std::string_view(rights) == "r-xp" && line.ends_with(library))
      return range;
  }
  return {};
}

sock_filter load(size_t offset) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset)); }
sock_filter answer(uint32_t verdict) { return BPF_STMT(BPF_RET | BPF_K, verdict); }
// Skips the next instruction if the comparison says so.
sock_filter skip_if(int comparison, uint64_t value, bool holds = true) {
  return BPF_JUMP(static_cast<uint16_t>(BPF_JMP | comparison | BPF_K), static_cast<uint32_t>(value),
                  static_cast<uint8_t>(holds), static_cast<uint8_t>(!holds));
}

// Tells of these calls from these addresses; of all calls, or from anywhere, if there are none.
std::vector<sock_filter> filter(const std::set<int>& numbers, const Range& range) {
  constexpr size_t kAddress = offsetof(seccomp_data, instruction_pointer);
  std::vector<sock_filter> program;
  const auto require = [&](size_t offset, sock_filter skips) {
    program.insert(program.end(), {load(offset), skips, answer(SECCOMP_RET_ALLOW)});
  };
  require(offsetof(seccomp_data, arch), skip_if(BPF_JEQ, AUDIT_ARCH_X86_64));
  if (range.last) {
    must(range.first >> 32 == (range.last - 1) >> 32, "the library lies across 4 GiB");
    require(kAddress + 4, skip_if(BPF_JEQ, range.first >> 32));
    require(kAddress, skip_if(BPF_JGE, range.first));
    require(kAddress, skip_if(BPF_JGE, range.last, false));
  }
  if (numbers.empty()) {
    program.push_back(answer(SECCOMP_RET_USER_NOTIF));
    return program;
  }
  program.push_back(load(offsetof(seccomp_data, nr)));
  for (const int number : numbers)
    program.insert(program.end(),
                   {skip_if(BPF_JEQ, static_cast<uint64_t>(number), false), answer(SECCOMP_RET_USER_NOTIF)});
  program.push_back(answer(SECCOMP_RET_ALLOW));
  return program;
}

// A signal does not take a call away from here once it was taken up: it would be made, and counted, again.
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

int install(std::vector<sock_filter> program) {
  const sock_fprog given{static_cast<uint16_t>(program.size()), program.data()};
  const auto set = [&](unsigned long flags) {
    return static_cast<int>(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &given));
  };
  const int fd = set(SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  return fd >= 0 || errno != EINVAL ? fd : set(SECCOMP_FILTER_FLAG_NEW_LISTENER);
}

struct Started {
  pid_t pid;
  int listener;
};

Started start(const std::string& library, char** program, const std::vector<sock_filter>& wanted) {
  int ends[2];
  must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
  const pid_t pid = fork();
  must(pid >= 0, "fork");
  if (pid == 0) {
    must(personality(ADDR_NO_RANDOMIZE) >= 0, "personality");
    if (geteuid() != 0) must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no new privileges");
    const int listener = install(wanted);
    must(listener >= 0, "seccomp");
    tests::Parcel parcel(listener);
    must(sendmsg(ends[1], &parcel.message, 0) == 1, "sendmsg");
    setenv("LD_PRELOAD", library.c_str(), 1);
    execv(program[0], program);
    die(program[0]);
  }
  close(ends[1]);
  tests::Parcel parcel;
  must(recvmsg(ends[0], &parcel.message, MSG_CMSG_CLOEXEC) == 1, "the program did not begin");
  close(ends[0]);
  return {pid, parcel.unpacked()};
}

// Answers the calls of the program, and of the processes that it makes.
class Supervisor {
 public:
  template <class Answer>
  Supervisor(Started program, std::FILE* report, Answer answer) : program_(program) {
    std::fprintf(report, "pid %d\n", program.pid);
    std::fflush(report);
    auto deadline = Clock::time_point::max();
    for (bool ended = false; Clock::now() < deadline;) {
      pollfd one{program.listener, POLLIN, 0};
      must(poll(&one, 1, 20) >= 0 || errno == EINTR, "poll");
      if (one.revents & POLLIN) serve(answer);
      if (!ended && (ended = waitpid(program.pid, &status_, WNOHANG) == program.pid))
        deadline = Clock::now() + kLeaving;
      if (one.revents & POLLHUP && ended) break;  // no process has the filter any more
    }
    std::fprintf(report, "status %d\n", status_);
  }

 private:
  template <class Answer>
  void serve(Answer answer) {
    seccomp_notif call{};
    if (ioctl(program_.listener, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) return;  // a signal ended it
    seccomp_notif_resp response{call.id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    if (const int error = answer(call)) response.error = -error, response.flags = 0;
    ioctl(program_.listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
  }

  Started program_;
  int status_ = 0;
};

int where(const std::string& library, std::FILE* report, char** program) {
  Range range;
  pid_t first = 0;
  Supervisor(start(library, program, filter({SYS_exit_group}, {})), report, [&](const seccomp_notif& call) {
    if (first == 0) range = code_of(static_cast<pid_t>(call.pid), library), first = static_cast<pid_t>(call.pid);
    return 0;
  });
  must(range.last != 0, "the program has no such library");
  std::fprintf(report, "where %" PRIx64 "-%" PRIx64 "\n", range.first, range.last);
  return 0;
}

std::vector<Kind> kinds_of(const char* path) {
  std::vector<Kind> kinds;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    Kind kind;
    words >> kind.name >> kind.number;
    must(!words.fail(), "a kind");
    words >> kind.argument >> kind.mask >> kind.value;
    if (words.fail()) kind.argument = -1;
    kinds.push_back(kind);
  }
  return kinds;
}

void tell_those_that_stay(std::FILE* report, pid_t program) {
  // They are this process's children since their own parent ended.
  std::ifstream children("/proc/self/task/" + std::to_string(getpid()) + "/children");
  for (pid_t child; children >> child;)
    if (child != program && waitpid(child, nullptr, WNOHANG) != child) std::fprintf(report, "stays %d\n", child);
}

int run(const std::string& library, std::FILE* report, const Range& range, std::vector<Kind> kinds,
        const Choice& choice, char** program) {
  std::set<int> numbers, unknown;
  for (const auto& kind : kinds)
    if (kind.name == choice.kind) numbers.insert(kind.number);
  std::map<pid_t, Range> places;
  const auto started = start(library, program, filter(numbers, range));
  Supervisor(started, report, [&](const seccomp_notif& call) {
    const auto process = static_cast<pid_t>(call.pid);
    const auto [place, is_new] = places.try_emplace(process);
    if (is_new) place->second = code_of(process, library);
    if (is_new && place->second.first != range.first) std::fprintf(report, "elsewhere %d\n", process);
    for (auto& kind : kinds) {
      if (!kind.fits(call.data)) continue;
      if (++kind.count != choice.number || kind.name != choice.kind) return 0;
      std::fprintf(report, "call %s %" PRIu64 " %" PRIx64 " %d\n", kind.name.c_str(), kind.count,
                   static_cast<uint64_t>(call.data.instruction_pointer) - range.first + place->second.offset, process);
      std::fflush(report);
      return choice.error;
    }
    if (!choice.number && unknown.insert(call.data.nr).second) std::fprintf(report, "unknown %d\n", call.data.nr);
    return 0;
  });
  for (const auto& kind : kinds)
    if (kind.count) std::fprintf(report, "count %s %" PRIu64 "\n", kind.name.c_str(), kind.count);
  tell_those_that_stay(report, started.pid);
  return 0;
}

}  // namespace

int main(int count, char** words) {
  const std::string_view verb = count > 4 ? words[1] : "";
  if (verb != "where" && verb != "run") {
    std::fputs(
        "usage: anomaly where LIBRARY REPORT PROGRAM...\n"
        "       anomaly run LIBRARY REPORT FIRST-LAST KINDS [KIND NUMBER ERRNO] -- PROGRAM...\n",
        stderr);
    return 2;
  }
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  std::FILE* const report = std::fopen(words[3], "we");
  must(report != nullptr, words[3]);
  if (verb == "where") return where(words[2], report, words + 4);
  const bool chosen = count > 9 && std::string_view(words[9]) == "--";
  char** const program = words + (chosen ? 10 : 7);
  Range range;
  errno = EINVAL;
  must(count > 7 && (chosen || std::string_view(words[6]) == "--") && program[0], "what to run");
  must(std::sscanf(words[4], "%" SCNx64 "-%" SCNx64, &range.first, &range.last) == 2, "FIRST-LAST");
  const Choice choice = chosen ? Choice{words[6], std::strtoull(words[7], nullptr, 10), std::atoi(words[8])} : Choice{};
  return run(words[2], report, range, kinds_of(words[5]), choice, program);
}
