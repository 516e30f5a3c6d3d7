#include "core/engine/share.hpp"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <climits>

#include "core/base/kernel.hpp"

namespace rsock::engine {
namespace {

constexpr auto kPatience = milliseconds(2000);
constexpr auto kLook = milliseconds(50);  // whether the maker is alive

}  // namespace

void Share::begin(Place where) {
  place_.store(static_cast<uint32_t>(where), std::memory_order_relaxed);
  holders_.store(1, std::memory_order_release);
}

bool Share::move(Place from, Place to) {
  auto expected = static_cast<uint32_t>(from);
  return place_.compare_exchange_strong(expected, static_cast<uint32_t>(to), std::memory_order_acq_rel);
}

void Share::tell(Place where) {
  if (!move(Place::owned, where) && !move(Place::wanted, where)) return;
  kernel.syscall(SYS_futex, &place_, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void Share::wait(Duration most) const {
  const timespec time{0, static_cast<long>(most.count())};
  kernel.syscall(SYS_futex, &place_, FUTEX_WAIT, static_cast<uint32_t>(Place::wanted), &time, nullptr, 0);
}

std::unique_ptr<Family> Family::make(int process) {
  const auto memory = sys::map(sizeof(Memory), MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE);
  if (!memory) return nullptr;
  return std::unique_ptr<Family>(new Family(process, static_cast<Memory*>(*memory)));
}

// One that nobody holds any more, if it is found soon; else one that was never used.
Share* Family::new_share(Share::Place where) {
  constexpr size_t kLooks = 16;
  for (size_t looks = 0; looks < std::min(kLooks, used_); ++looks) {
    next_ = (next_ + 1) % used_;
    if (memory_->shares[next_].held()) continue;
    memory_->shares[next_].begin(where);
    return &memory_->shares[next_];
  }
  if (used_ == kShares) return nullptr;
  auto* share = &memory_->shares[used_++];
  share->begin(where);
  return share;
}

void Family::open_line() {
  int ends[2];
  if (!sys::socket_pair(SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, ends)) return;
  parents_end_ = UniqueFd(sys::move_high(ends[0]));
  line_ = UniqueFd(sys::move_high(ends[1]));
}

ExposedFd Family::parents_end() {
  line_.reset();
  return ExposedFd(std::move(parents_end_));
}

std::optional<Share::Place> Family::ask(Share& share) const {
  using Place = Share::Place;
  const auto begun = now();
  for (;;) {
    const auto place = share.place();
    if (place != Place::owned && place != Place::wanted) return place;
    const auto waited = now() - begun;
    if (waited >= kPatience) return {};
    if (place == Place::owned && !share.move(Place::owned, Place::wanted)) continue;
    // A sandbox may forbid the question: asked only when there is reason to.
    if (waited >= kLook && kernel.syscall(SYS_kill, process_, 0) != 0 && errno == ESRCH) {
      share.tell(Place::lost);  // unless it told where the flow is, at the last
      continue;
    }
    memory_->called.store(1, std::memory_order_release);
    const uint8_t call = 1;
    (void)sys::send(line_.get(), &call, sizeof call, MSG_DONTWAIT | MSG_NOSIGNAL);
    share.wait(kLook);
  }
}

}  // namespace rsock::engine
