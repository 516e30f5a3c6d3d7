#include "tools/require.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <stdexcept>

#include "core/base/proc.hpp"
#include "tools/evidence.hpp"
#include "tools/run.hpp"

namespace rsock::tools {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr auto kLook = milliseconds(50);
constexpr auto kGrace = milliseconds(5000);

/// Signals, taken one after the other by whoever waits for them, and not by handlers.
class Signals {
 public:
  Signals() {
    ::sigemptyset(&taken_);
    for (const int signal : {SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2}) ::sigaddset(&taken_, signal);
    ::sigprocmask(SIG_BLOCK, &taken_, &before_);
    struct sigaction usual {};
    usual.sa_handler = SIG_DFL;  // else the kernel might reap children by itself
    ::sigaction(SIGCHLD, &usual, &child_before_);
  }
  /// For the program: as this process found them.
  void give_back() const {
    ::sigaction(SIGCHLD, &child_before_, nullptr);
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  std::optional<siginfo_t> next(std::optional<Clock::duration> most) const {
    siginfo_t told{};
    if (!most) return ::sigwaitinfo(&taken_, &told) > 0 ? std::optional(told) : std::nullopt;
    const auto rest = std::max(*most, Clock::duration::zero());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(rest);
    const timespec limit{seconds.count(), std::chrono::nanoseconds(rest - seconds).count()};
    return ::sigtimedwait(&taken_, &told, &limit) > 0 ? std::optional(told) : std::nullopt;
  }

 private:
  sigset_t taken_{}, before_{};
  struct sigaction child_before_ {};
};

/// All processes that `ancestor` has started, and theirs.
std::vector<pid_t> descendants(pid_t ancestor) {
  std::multimap<pid_t, pid_t> children;
  for (const auto& name : sys::names_in("/proc"))
    if (const pid_t process = std::atoi(name.c_str()); process > 0) children.emplace(parent_of(process), process);
  std::vector<pid_t> found{ancestor};
  for (std::size_t i = 0; i < found.size(); ++i) {
    const auto [begin, end] = children.equal_range(found[i]);
    for (auto child = begin; child != end; ++child) found.push_back(child->second);
  }
  found.erase(found.begin());
  return found;
}

class Supervisor {
 public:
  Supervisor(const Requirement& requirement, const std::vector<std::string>& command)
      : requirement_(requirement), command_(command), evidence_(requirement.lane, ::getpid()) {}

  ExitStatus run() {
    // What the program leaves behind is our child then, and can be ended.
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    start();
    const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(requirement_.within);
    while (!ended()) {
      if (!there_) there_ = evidence_.look();
      const auto rest = deadline - Clock::now();
      if (!there_ && rest <= Clock::duration::zero()) return give_up();
      attend(there_ ? std::nullopt : std::optional(std::min<Clock::duration>(rest, kLook)));
    }
    return outcome();
  }

 private:
  void start() {
    program_ = ::fork();
    if (program_ < 0) throw std::runtime_error(fmt::format("no process for {}: {}", command_[0], std::strerror(errno)));
    if (program_ == 0) {
      signals_.give_back();
      ::_exit(become(command_));
    }
    evidence_.count(program_);
  }

  /// Waits for a signal, and hands it on. What a terminal sends it sends to the program, too.
  void attend(std::optional<Clock::duration> most) {
    const auto told = signals_.next(most);
    if (told && told->si_signo != SIGCHLD && told->si_code <= 0 && !status_) ::kill(program_, told->si_signo);
  }

  /// Whether the program has; what it left behind is reaped as well.
  bool ended() {
    int status = 0;
    pid_t process;
    while ((process = ::waitpid(-1, &status, WNOHANG)) > 0)
      if (process == program_) status_ = status;
    alone_ = process < 0 && errno == ECHILD;
    return status_.has_value();
  }

  ExitStatus outcome() {
    const int status = *status_;
    const bool signalled = WIFSIGNALED(status);
    const auto own = static_cast<ExitStatus>(signalled ? kSignalled + WTERMSIG(status) : WEXITSTATUS(status));
    // What cannot be run has said so.
    if (there_ || evidence_.read_statistics() || (!signalled && (own == kCannotRun || own == kNoSuchProgram)))
      return own;
    fmt::print(stderr, "rsock: {} ended before a flow of it got into {}\n{}", command_[0], lane(), evidence_.tell());
    return own == kSuccess ? kNoLane : own;
  }

  ExitStatus give_up() {
    signal_all(SIGTERM);
    signal_all(SIGCONT);
    const auto killing = Clock::now() + kGrace;
    for (bool killed = false; ended(), !alone_;) {
      killed = killed || Clock::now() >= killing;
      if (killed) signal_all(SIGKILL);
      attend(kLook);
    }
    evidence_.read_statistics();
    fmt::print(stderr, "rsock: no flow of {} got into {} within {} s\n{}", command_[0], lane(),
               requirement_.within.count(), evidence_.tell());
    return kNoLane;
  }

  static void signal_all(int signal) {
    for (const auto process : descendants(::getpid())) ::kill(process, signal);
  }

  std::string lane() const { return requirement_.lane == "auto" ? "a lane" : requirement_.lane; }

  static constexpr int kSignalled = 128;
  const Requirement& requirement_;
  const std::vector<std::string>& command_;
  Signals signals_;
  Evidence evidence_;
  pid_t program_ = -1;
  std::optional<int> status_;  // of the program, once it has ended
  bool alone_ = false;         // nothing that it started is left
  bool there_ = false;
};

}  // namespace

ExitStatus run_required(const Requirement& requirement, const std::vector<std::string>& command) {
  return Supervisor(requirement, command).run();
}

}  // namespace rsock::tools
