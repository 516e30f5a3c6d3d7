#include "core/fabric/verbs/device.hpp"

#include <fcntl.h>
#include <sys/epoll.h>

#include <algorithm>
#include <utility>

#include "core/base/kernel.hpp"
#include "core/base/log.hpp"
#include "core/base/own.hpp"
#include "core/fabric/verbs/queue_pair.hpp"

namespace rsock::fabric::verbs {
namespace {

constexpr int kBatch = 32;
constexpr uint32_t kFirstQueue = 2048;

}  // namespace

std::unique_ptr<Device> Device::make(const Library& library) {
  auto source = out_of_the_way([] { return sys::epoll_create(); });
  return source ? std::unique_ptr<Device>(new Device(library, std::move(*source))) : nullptr;
}

Device::~Device() { close(); }

bool Device::open(ibv_context* context, rdma_cm_id* witness) {
  auto* channel = library_.ibv_create_comp_channel(context);
  if (!channel) return false;
  (void)sys::fcntl(channel->fd, F_SETFL, O_NONBLOCK);
  (void)sys::fcntl(channel->fd, F_SETFD, FD_CLOEXEC);
  (void)sys::fcntl(context->async_fd, F_SETFL, O_NONBLOCK);
  for (int* fd : {&context->cmd_fd, &context->async_fd, &channel->fd}) adopt(*fd);
  epoll_event event{};
  event.events = EPOLLIN;
  (void)sys::epoll_ctl(source_.get(), EPOLL_CTL_ADD, channel->fd, &event);
  context_ = context;
  channel_ = channel;
  witness_ = witness;
  removed_ = !witness;  // it went while it was opened
  library_.ibv_query_device(context, &limits_);
  return true;
}

void Device::close() {
  if (vacant()) return;
  for (const auto& queue : queues_) library_.ibv_destroy_cq(queue.queue);
  queues_.clear();
  queue_pairs_.clear();
  own::forget(channel_->fd);
  library_.ibv_destroy_comp_channel(channel_);
  if (witness_) library_.rdma_destroy_id(witness_);
  context_ = nullptr;
}

void Device::let_go(int inert) {
  if (vacant() || !removed_) return;
  if (std::any_of(queue_pairs_.begin(), queue_pairs_.end(), [](const auto* pair) { return pair != nullptr; })) return;
  log::info("the device {} is let go of", context_->device->name);
  // rdma-core closes the context when it meets another device: from then on the numbers are nobody's. So they come
  // before the witness, whose end may be the occasion.
  const int descriptors[] = {context_->cmd_fd, context_->async_fd};
  auto* witness = std::exchange(witness_, nullptr);
  close();
  for (const int fd : descriptors) sys::duplicate_onto(inert, fd);
  if (witness) library_.rdma_destroy_id(witness);
}

int Device::poll() {
  int found = 0;
  ibv_wc completions[kBatch];
  for (size_t i = 0; i < queues_.size(); ++i) {
    const int count = ibv_poll_cq(queues_[i].queue, kBatch, completions);
    for (int at = 0; at < count; ++at) complete(completions[at]);
    found += std::max(count, 0);
  }
  return found;
}

void Device::complete(const ibv_wc& completion) {
  const WorkId id(completion.wr_id);
  if (auto* queue_pair = queue_pairs_[id.queue_pair()]) queue_pair->complete(id, completion);
}

void Device::arm() {
  for (const auto& queue : queues_) ibv_req_notify_cq(queue.queue, 0);
}

void Device::acknowledge() {
  if (vacant()) return;
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  while (library_.ibv_get_cq_event(channel_, &queue, &context) == 0) library_.ibv_ack_cq_events(queue, 1);
}

void Device::check_health() {
  if (vacant()) return;
  ibv_async_event event{};
  while (library_.ibv_get_async_event(context_, &event) == 0) {
    const auto kind = event.event_type;
    auto* queue_pair = event.element.qp;
    const int port = event.element.port_num;
    library_.ibv_ack_async_event(&event);
    log::info("asynchronous event {} of the device", static_cast<int>(kind));
    const bool one = kind == IBV_EVENT_QP_FATAL || kind == IBV_EVENT_QP_REQ_ERR || kind == IBV_EVENT_QP_ACCESS_ERR;
    const bool all = kind == IBV_EVENT_DEVICE_FATAL || kind == IBV_EVENT_CQ_ERR,
               whole_port = kind == IBV_EVENT_PORT_ERR;
    if (!one && !all && !whole_port) continue;
    for (size_t i = 0; i < queue_pairs_.size(); ++i) {
      auto* const known = queue_pairs_[i];
      if (known && (all || (whole_port && known->port() == port) || (one && known->is(queue_pair)))) known->broke();
    }
  }
}

ibv_cq* Device::reserve(uint32_t entries) {
  for (auto& queue : queues_)
    if (queue.entries - queue.reserved >= entries) {
      queue.reserved += entries;
      return queue.queue;
    }
  const auto most = static_cast<uint32_t>(limits_.max_cqe);
  const auto wanted = queues_.empty() ? kFirstQueue : queues_.back().entries * 4;
  const auto size = std::min(std::max(wanted, entries), most);
  if (size < entries) return nullptr;
  auto* queue = library_.ibv_create_cq(context_, static_cast<int>(size), nullptr, channel_, 0);
  if (!queue) return nullptr;
  ibv_req_notify_cq(queue, 0);  // the others may be armed already
  queues_.push_back({queue, size, entries});
  return queue;
}

void Device::give_back(ibv_cq* queue, uint32_t entries) {
  for (auto& known : queues_)
    if (known.queue == queue) known.reserved -= entries;
}

uint32_t Device::enlist(QueuePair& queue_pair) {
  queue_pairs_.push_back(&queue_pair);
  return static_cast<uint32_t>(queue_pairs_.size() - 1);
}

}  // namespace rsock::fabric::verbs
