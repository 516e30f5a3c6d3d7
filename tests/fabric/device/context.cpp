#include "tests/fabric/device/context.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace fabric {

Answer Context::answer(const Request& request, Descriptors descriptors) {
  if (makes(request.verb) && wire_.chance.refuses()) return {.error = wire_.chance.refusal()};
  Answer answer;
  answer.handle = ++last_;
  switch (request.verb) {
    case Verb::create_domain: domains_.insert(last_); break;
    case Verb::destroy_domain: domains_.erase(request.handle); break;
    case Verb::create_region:
      if (!domains_.contains(request.domain)) return {.error = EINVAL};
      memory_->add({request.domain, request.address, request.size, request.access}, answer);
      break;
    case Verb::destroy_region: memory_->remove(request.handle); break;
    case Verb::create_completion_channel:
      if (descriptors.empty()) return {.error = EINVAL};
      channels_[last_] = std::make_shared<Descriptor>(std::move(descriptors.front()));
      break;
    case Verb::destroy_completion_channel: channels_.erase(request.handle); break;
    case Verb::create_queue: create_queue(request, descriptors, answer); break;
    case Verb::destroy_queue: queues_.erase(request.handle); break;
    case Verb::create_queue_pair: create_queue_pair(request, descriptors, answer); break;
    case Verb::destroy_queue_pair: queue_pairs_.erase(request.handle); break;
    case Verb::query_queue_pair: query_queue_pair(request, answer); break;
    default: answer.error = ENOSYS;
  }
  return answer;
}

void Context::bell() {
  for (const auto& [number, queue_pair] : queue_pairs_) queue_pair->rung();
  at_random();
}

void Context::at_random() {
  constexpr uint64_t kOtherPort = 2;
  if (wire_.chance.tells_of_port()) {
    tell(IBV_EVENT_PORT_ERR, kOtherPort);
    tell(IBV_EVENT_PORT_ACTIVE, kOtherPort);
  }
  if (wire_.chance.dies()) {
    tell(IBV_EVENT_DEVICE_FATAL, 0);
    break_all();
  }
}

void Context::tell(ibv_event_type type, uint64_t handle) {
  const AsyncEvent event{.type = static_cast<uint32_t>(type), .handle = handle};
  if (write(events_.get(), &event, sizeof event) < 0 && errno != EPIPE) std::perror("fabric: an asynchronous event");
}

size_t Context::break_all() {
  for (const auto& [number, queue_pair] : queue_pairs_) queue_pair->break_off();
  return queue_pairs_.size();
}

size_t Context::mute(Duration pause) {
  for (const auto& [number, queue_pair] : queue_pairs_) queue_pair->mute(pause);
  return queue_pairs_.size();
}

void Context::create_queue(const Request& request, const Descriptors& descriptors, Answer& answer) {
  const auto channel = channels_.find(request.queues[0]);
  auto memory = descriptors.empty()
                    ? Mapping()
                    : Mapping(descriptors.front(), CompletionQueue::bytes(static_cast<uint32_t>(request.size)));
  if (!memory || (request.queues[0] != 0 && channel == channels_.end())) {
    answer.error = EINVAL;
    return;
  }
  queues_[last_] = std::make_shared<Queue>(loop_, wire_.chance, last_, std::move(memory),
                                           channel == channels_.end() ? nullptr : channel->second,
                                           [this, number = last_] { overrun(number); });
}

// The program's own mistake: it never polled as much as it asked for.
void Context::overrun(uint64_t queue) {
  tell(IBV_EVENT_CQ_ERR, queue);
  loop_.soon([this, lives = std::weak_ptr(lives_)] {
    if (!lives.expired()) break_all();
  });
}

void Context::create_queue_pair(const Request& request, const Descriptors& descriptors, Answer& answer) {
  const auto sends = queues_.find(request.queues[0]), receives = queues_.find(request.queues[1]);
  auto work = descriptors.empty() ? Mapping()
                                  : Mapping(descriptors.front(), WorkQueues::bytes(request.sends, request.receives));
  const auto most_inline = wire_.chance.largest_inline();
  if (!work || !domains_.contains(request.domain) || sends == queues_.end() || receives == queues_.end() ||
      request.largest_inline > most_inline) {
    answer.error = EINVAL;
    return;
  }
  auto& made = queue_pairs_[last_];
  made = std::make_unique<QueuePair>(
      wire_,
      QueuePair::Parts{memory_, request.domain, std::move(work), sends->second, receives->second, request.access != 0,
                       [this](ibv_event_type type, uint32_t number) { tell(type, number); }});
  answer.number = made->number();
  answer.largest_inline = std::min(most_inline, std::max(request.largest_inline, 64u));
}

void Context::query_queue_pair(const Request& request, Answer& answer) const {
  const auto found = queue_pairs_.find(request.handle);
  if (found == queue_pairs_.end()) {
    answer.error = EINVAL;
    return;
  }
  answer.handle = static_cast<uint64_t>(found->second->state());
  answer.number = found->second->peer();
}

}  // namespace fabric
