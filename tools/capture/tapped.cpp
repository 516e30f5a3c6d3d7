#include "tools/capture/tapped.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>

#include <bit>
#include <utility>

#include "core/base/clock.hpp"

namespace rsock::tools {
namespace {

using wire::CaptureReader;

constexpr auto kLookForMore = std::chrono::seconds(1);
constexpr int kTick = 10;  // milliseconds

}  // namespace

Tapped::Tapped(Process process, SealedMemory memory)
    : process_(std::move(process)), memory_(std::move(memory)), reader_({memory_.base(), memory_.size()}) {
  reader_.open();
}

Finder::Finder(const OperateArguments& whose, std::uint64_t buffer)
    : whose_(whose), ring_(std::bit_ceil(buffer << 20)) {
  whose_.selection.which = [this](pid_t process) { return !knows(process); };
}

Finder::~Finder() {
  ended_ = true;
  if (thread_.joinable()) thread_.join();
}

bool Finder::look() {
  auto found = Process::find(whose_.selection);
  for (auto& process : found) begin(std::move(process));
  return !found.empty();
}

void Finder::go_on() {
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] {
    for (auto next = now() + kLookForMore; !ended_; ::poll(nullptr, 0, kTick))
      if (now() >= next) (void)look(), next = now() + kLookForMore;
  });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Finder::take_new(std::list<Tapped>& processes) {
  const std::lock_guard guard(lock_);
  processes.splice(processes.end(), new_);
}

void Finder::forget(pid_t process) {
  const std::lock_guard guard(lock_);
  known_.erase(process);
}

bool Finder::knows(pid_t process) {
  const std::lock_guard guard(lock_);
  return known_.contains(process);
}

/// What cannot be captured is said once, and asked again: somebody else's capture may end.
void Finder::begin(Process process) {
  if (knows(process.pid())) return;
  auto handed = process.capture(whose_.port, ring_);
  const std::lock_guard guard(lock_);
  const bool news = refused_.insert(process.pid()).second;
  if (!handed) {
    if (news && !process.gone()) (void)silent(process);  // it may just have ended
    return;
  }
  auto memory = handed->memory
                    ? SealedMemory::open(handed->memory.get(), wire::kCaptureRing + wire::kCaptureLeast,
                                         wire::kCaptureRing + wire::kCaptureMost, SealedMemory::Pages::at_once)
                    : Errno{EPROTO};
  if (handed->answer.refused || !memory || !CaptureReader::fits(memory->size())) {
    const auto why = handed->answer.refused ? on_one_line(handed->answer.complaint) : "hands over no ring";
    if (news) fmt::print(stderr, "rsock: {}: {}\n", process.name(), why);
    return;
  }
  refused_.erase(process.pid());
  known_.insert(process.pid());
  const auto& begun = new_.emplace_back(std::move(process), std::move(*memory));
  fmt::print(stderr, "rsock: captures {}\n", begun.process().name());  // from now on
}

}  // namespace rsock::tools
