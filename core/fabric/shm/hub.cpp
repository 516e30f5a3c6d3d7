#include "core/fabric/shm/hub.hpp"

#include "core/fabric/shm/channel.hpp"

namespace rsock::fabric::shm {

int Hub::poll() {
  int found = 0;
  for (size_t i = 0; i < channels_.size(); ++i) found += channels_[i]->take();
  return found;
}

// Whoever posts from now on finds the word, or the caller's next poll() finds what was posted: see
// QueueWriter::must_wake().
void Hub::arm() {
  for (auto* channel : channels_) channel->sleep();
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

// An edge is a ring, or some, and is taken off the set here: what the sockets hold can wait.
void Hub::acknowledge() {
  constexpr int kMostHeard = 16;
  epoll_event rung[kMostHeard];
  const auto count = sys::epoll_poll(bells_.get(), rung, kMostHeard);
  for (int i = 0; count && i < *count; ++i) {
    auto& channel = *static_cast<Channel*>(rung[i].data.ptr);
    const bool ended = rung[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
    if (!ended && channel.hear()) continue;
    ignore(channel);
    channel.hang_up();
  }
}

Status Hub::enlist(Channel& channel) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
  event.data.ptr = &channel;
  const auto added = sys::epoll_ctl(bells_.get(), EPOLL_CTL_ADD, channel.bell().get(), &event);
  if (added) channels_.push_back(&channel);
  return added;
}

void Hub::strike(Channel& channel) {
  ignore(channel);
  std::erase(channels_, &channel);
}

void Hub::ignore(Channel& channel) {
  epoll_event none{};
  (void)sys::epoll_ctl(bells_.get(), EPOLL_CTL_DEL, channel.bell().get(), &none);
}

}  // namespace rsock::fabric::shm
