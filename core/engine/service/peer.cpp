#include "core/engine/service/peer.hpp"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <utility>

namespace rsock::engine {
namespace {

constexpr auto kFirstPause = milliseconds(2), kLongestPause = milliseconds(500);  // of a flow
constexpr auto kGap = milliseconds(2);  // between refused dials to one address
constexpr auto kPlainGap = milliseconds(1000);
constexpr auto kSweep = milliseconds(200);

}  // namespace

bool Peer::add(uint64_t flow, Time time) {
  if (waiting_.size() >= kMostWaiting) return false;
  waiting_.push_back({.flow = flow, .due = time, .pause = {kFirstPause, kLongestPause}});
  return true;
}

// Some wait.
size_t Peer::next() const {
  if (plain_) return waiting_.size() - 1;
  const auto is_sooner = [](const auto& a, const auto& b) { return a.due < b.due; };
  return static_cast<size_t>(std::min_element(waiting_.begin(), waiting_.end(), is_sooner) - waiting_.begin());
}

std::optional<Time> Peer::next_dial() const {
  if (dialling_ || waiting_.empty()) return {};
  return std::max(next_dial_, waiting_[next()].due);
}

Peer::Waiting Peer::take() {
  const auto at = waiting_.begin() + static_cast<std::ptrdiff_t>(next());
  const auto taken = *at;
  waiting_.erase(at);
  return taken;
}

void Peer::begin(const Waiting& waiting, Time ends) {
  assert(!dialling_);
  dialling_ = waiting;
  dial_ends_ = ends;
}

Peer::Waiting Peer::end() {
  const auto dialled = *dialling_;
  dialling_.reset();
  return dialled;
}

void Peer::wait_again(Waiting waiting, Time time) {
  waiting.due = time + waiting.pause.take();
  waiting_.push_back(waiting);
  space(time);
}

void Peer::space(Time time) {
  if (place_.lane == Lane::rdma) next_dial_ = time + (plain_ ? kPlainGap : kGap);
}

std::optional<Time> Peer::next_sweep() const { return waiting_.empty() ? std::nullopt : std::optional(next_sweep_); }

void Peer::swept(Time time) { next_sweep_ = time + kSweep; }

}  // namespace rsock::engine
