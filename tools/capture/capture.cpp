#include "tools/capture/capture.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cstring>
#include <list>
#include <utility>

#include "core/base/clock.hpp"
#include "tools/capture/connections.hpp"
#include "tools/capture/pcapng.hpp"
#include "tools/capture/tapped.hpp"

namespace rsock::tools {
namespace {

constexpr int kPause = 10;              // milliseconds, while nothing comes
constexpr std::size_t kTurn = 4 << 20;  // bytes of a process before it is another's turn
constexpr std::size_t kFull = 1 << 20;  // bytes that are written at once

volatile sig_atomic_t told_to_end = 0;

/// The first one ends the capture, the second the command.
void end_by_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { told_to_end = 1; };
  action.sa_flags = SA_RESETHAND;
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

/// The file, or whoever reads from us.
class Output {
 public:
  explicit Output(const std::string& file) {
    const bool standard = file.empty() || file == "-";
    fd_ = standard ? STDOUT_FILENO : ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd_ < 0) error_ = errno;
  }
  int error() const { return error_; }
  void flush() {
    for (std::size_t done = 0; done < bytes.size() && error_ == 0;) {
      const auto written = ::write(fd_, bytes.data() + done, bytes.size() - done);
      if (written > 0)
        done += static_cast<std::size_t>(written);
      else if (errno != EINTR)
        error_ = errno;
    }
    bytes.clear();
  }

  Pcapng::Bytes bytes;

 private:
  int fd_ = -1;
  int error_ = 0;
};

std::string_view plural(std::uint64_t count) { return count == 1 ? "" : "s"; }

class Session {
 public:
  Session(const CaptureArguments& how, Output& output) : how_(how), output_(output) {
    file_.section("rsock " RSOCK_VERSION);
    output_.flush();
  }

  void run(Finder& finder) {
    while (goes_on()) {
      finder.take_new(processes_);
      bool more = false;
      for (auto process = processes_.begin(); process != processes_.end() && goes_on();) {
        const bool gone = process->gone();  // asked first: then nothing comes behind what is there
        const auto drained = drain(*process, kTurn);
        more = more || drained == Tapped::Drained::more;
        const bool done = drained == Tapped::Drained::fault || (gone && drained == Tapped::Drained::empty);
        if (drained == Tapped::Drained::fault)
          fmt::print(stderr, "rsock: {}: its ring is not in order\n", process->process().name());
        if (done) end(*process), finder.forget(process->process().pid());
        done ? process = processes_.erase(process) : ++process;
      }
      output_.flush();
      if (!more && goes_on()) ::poll(nullptr, 0, kPause);
    }
    finder.take_new(processes_);
    for (auto& process : processes_) {
      (void)drain(process, process.size());  // what is there by now
      end(process);
    }
    processes_.clear();
    output_.flush();
  }

  void report() const {
    fmt::print(stderr, "rsock: {} packet{}, {} byte{} of {} connection{}; {} record{} lost ({} byte{})\n", packets_,
               plural(packets_), connections_.bytes(), plural(connections_.bytes()), connections_.count(),
               plural(connections_.count()), lost_, plural(lost_), lost_bytes_, plural(lost_bytes_));
  }

 private:
  bool enough() const { return how_.count != 0 && packets_ >= how_.count; }
  bool goes_on() const { return !told_to_end && !enough() && output_.error() == 0; }

  Tapped::Drained drain(Tapped& process, std::size_t most) {
    current_ = &process;
    return process.drain(most, [&](const auto& record, auto bytes) {
      connections_.take(interface_of(process), record, bytes);
      if (output_.bytes.size() >= kFull) output_.flush();
    });
  }
  std::uint32_t interface_of(Tapped& process) {
    if (!process.interface) process.interface = file_.interface(process.process().name());
    return *process.interface;
  }
  void emit(std::uint64_t time, bool outgoing, std::span<const std::uint8_t> head, std::span<const std::byte> data) {
    if (enough()) return;
    file_.packet(*current_->interface, time, outgoing, head, data);
    ++packets_, ++current_->packets;
  }
  void end(Tapped& process) {
    const auto lost = process.lost_records();
    lost_ += lost, lost_bytes_ += process.lost_bytes();
    file_.statistics(interface_of(process), time_of_day(), process.packets, lost);
  }

  const CaptureArguments& how_;
  Output& output_;
  Pcapng file_{output_.bytes};
  std::list<Tapped> processes_;
  Tapped* current_ = nullptr;
  Connections connections_{
      [this](std::uint32_t, auto time, auto outgoing, auto head, auto data) { emit(time, outgoing, head, data); }};
  std::uint64_t packets_ = 0, lost_ = 0, lost_bytes_ = 0;
};

}  // namespace

ExitStatus capture(const OperateArguments& whose, const CaptureArguments& how) {
  if (::geteuid() != 0) {
    fmt::print(stderr, "rsock: only root may capture: it shows what programs say to each other\n");
    return kFailure;
  }
  if (how.file.empty() && ::isatty(STDOUT_FILENO)) {
    fmt::print(stderr, "rsock: a capture is nothing for a terminal: -w FILE, or a pipe\n");
    return kUsage;
  }
  end_by_signals();
  Finder finder(whose, how.buffer);
  if (!finder.look()) {
    if (whose.selection.pid) return nobody(whose.selection);
    fmt::print(stderr, "rsock: waits for processes\n");
  }
  Output output(how.file);
  if (output.error() == 0) {
    Session session(how, output);
    finder.go_on();
    session.run(finder);
    session.report();
  }
  if (output.error() == 0) return kSuccess;
  fmt::print(stderr, "rsock: {}: {}\n", how.file.empty() ? "standard output" : how.file, std::strerror(output.error()));
  return kFailure;
}

}  // namespace rsock::tools
