#include "core/fabric/shm/hub.hpp"

#include <algorithm>
#include <array>

#include "core/fabric/shm/channel.hpp"

namespace rsock::fabric::shm {
namespace {

constexpr size_t kInPassing = 4;      // quiet ones that a glance looks at
constexpr uint32_t kPatience = 4096;  // looks: as many as a spinning thread takes within some tenths of a millisecond

}  // namespace

// Whoever posted to a channel that was told to ring has rung before it went on.
bool Hub::listen() { return quiet_.size() > few_ && hear(); }

int Hub::poll() { return look_at_quiet(quiet_.size() > few_ ? kInPassing : quiet_.size()) + look_at_awake(); }

int Hub::glance() { return look_at_quiet(kInPassing) + look_at_awake(); }

int Hub::look_everywhere() { return look_at_quiet(quiet_.size()) + look_at_awake(); }

// A handler of what is found may post, and so rouse others, which come behind those that are here.
int Hub::look_at_awake() {
  int found = 0;
  for (size_t i = 0; i < awake_.size(); ++i) {
    const auto taken = awake_[i]->take();
    auto& seat = awake_[i]->seat;
    seat.in_vain = taken > 0 ? 0 : seat.in_vain + 1;
    found += taken;
  }
  if (crowded()) settle_down();
  return found;
}

// One that is roused leaves its place to the last of the list: whoever goes from the back to the front misses none.
int Hub::look_at_quiet(size_t most) {
  int found = 0;
  if (most >= quiet_.size()) next_ = 0;
  for (; most > 0 && !quiet_.empty(); --most) {
    next_ = (next_ == 0 || next_ > quiet_.size() ? quiet_.size() : next_) - 1;
    auto& channel = *quiet_[next_];
    const auto taken = channel.take();
    if (taken > 0) rouse(channel);
    found += taken;
  }
  return found;
}

void Hub::settle_down() {
  bool armed = false;
  for (size_t i = awake_.size(); i-- > 0;) {
    auto& channel = *awake_[i];
    auto& seat = channel.seat;
    if (seat.armed && seat.in_vain > 0) {
      unseat(channel);
      this->seat(quiet_, channel);
    } else if (seat.in_vain > kPatience) {
      channel.sleep();
      armed = seat.armed = true;
    }
  }
  if (armed) std::atomic_thread_fence(std::memory_order_seq_cst);
}

// Whoever posts from now on finds the word, or the caller's next poll() finds what was posted: see
// QueueWriter::must_wake(). Those that are quiet were told.
void Hub::arm() {
  for (auto* channel : awake_) {
    channel->sleep();
    channel->seat.armed = true;
    channel->seat.in_vain = 0;
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

// An edge is a ring, or some, and is taken off the set here: what the sockets hold can wait. True if there was any.
bool Hub::hear() {
  constexpr int kAtOnce = 64, kMostRounds = 64;
  std::array<epoll_event, kAtOnce> rung;
  bool any = false;
  for (int rounds = 0; rounds < kMostRounds; ++rounds) {
    const auto count = sys::epoll_poll(bells_.get(), rung.data(), kAtOnce);
    if (!count || *count == 0) break;
    any = true;
    for (int i = 0; i < *count; ++i) {
      auto& channel = *static_cast<Channel*>(rung[static_cast<size_t>(i)].data.ptr);
      const bool ended = rung[static_cast<size_t>(i)].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
      rouse(channel);
      if (!ended && channel.hear()) continue;
      ignore(channel);
      channel.hang_up();
    }
    if (*count < kAtOnce) break;
  }
  return any;
}

Status Hub::enlist(Channel& channel) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
  event.data.ptr = &channel;
  const auto added = sys::epoll_ctl(bells_.get(), EPOLL_CTL_ADD, channel.bell().get(), &event);
  if (added) seat(awake_, channel);
  return added;
}

void Hub::strike(Channel& channel) {
  ignore(channel);
  unseat(channel);
}

// What was in its memory stays, and a word that still says "ring" costs the peer a ring.
void Hub::rouse(Channel& channel) {
  if (!channel.seat.awake) {
    unseat(channel);
    seat(awake_, channel);
  }
  channel.seat.armed = false;
  channel.seat.in_vain = 0;
}

void Hub::seat(List& list, Channel& channel) {
  channel.seat.at = list.size();
  channel.seat.awake = &list == &awake_;
  list.push_back(&channel);
}

// Nothing to do for one that has no seat.
void Hub::unseat(Channel& channel) {
  auto& list = channel.seat.awake ? awake_ : quiet_;
  const auto at = channel.seat.at;
  if (at >= list.size() || list[at] != &channel) return;
  list[at] = list.back();
  list[at]->seat.at = at;
  list.pop_back();
}

void Hub::ignore(Channel& channel) {
  epoll_event none{};
  (void)sys::epoll_ctl(bells_.get(), EPOLL_CTL_DEL, channel.bell().get(), &none);
}

}  // namespace rsock::fabric::shm
