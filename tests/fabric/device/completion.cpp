#include "tests/fabric/device/completion.hpp"

#include <cerrno>
#include <cstdio>

namespace fabric {

// What comes late makes all that follows late, too: and then they come together.
void Queue::push(const Completion& completion) {
  if (const auto pause = held_.empty() ? chance_.lateness() : Duration::zero(); pause != Duration::zero())
    loop_.after(pause, [queue = weak_from_this()] {
      if (const auto self = queue.lock()) self->release();
    });
  else if (held_.empty())
    return put(completion);
  held_.push_back(completion);
}

void Queue::release() {
  for (; !held_.empty(); held_.pop_front()) put(held_.front());
}

void Queue::put(const Completion& completion) {
  auto& ring = memory_.as<CompletionQueue>();
  const auto tail = ring.tail.load(std::memory_order_relaxed);
  if (tail - ring.head.load(std::memory_order_acquire) >= ring.size) {
    std::fprintf(stderr, "fabric: completion queue %llu has no room left\n", static_cast<unsigned long long>(number_));
    return overrun_();
  }
  ring.at(tail) = completion;
  ring.tail.store(tail + 1);
  if (ring.armed.exchange(0) == 0 || !told_) return;
  // EPIPE: the process is about to be gone.
  if (write(told_->get(), &number_, sizeof number_) < 0 && errno != EPIPE) std::perror("fabric: a completion channel");
}

}  // namespace fabric
