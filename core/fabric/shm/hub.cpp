#include "core/fabric/shm/hub.hpp"

#include "core/fabric/shm/channel.hpp"

namespace rsock::fabric::shm {

int Hub::poll() {
  int found = 0;
  for (size_t i = 0; i < channels_.size(); ++i) found += channels_[i]->take();
  return found;
}

// Whoever posts from now on finds the word, or the caller's next poll() finds what was posted: see QueueWriter::must_wake().
void Hub::arm() {
  for (auto* channel : channels_) channel->sleep();
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void Hub::acknowledge() {
  uint64_t count;
  (void)sys::read(bell_.get(), &count, sizeof count);
}

}  // namespace rsock::fabric::shm
