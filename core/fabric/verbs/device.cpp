#include "core/fabric/verbs/device.hpp"

#include <fcntl.h>

#include <algorithm>

#include "core/base/kernel.hpp"
#include "core/base/log.hpp"
#include "core/base/own.hpp"
#include "core/fabric/verbs/queue_pair.hpp"

namespace rsock::fabric::verbs {
namespace {

constexpr int kBatch = 32;
constexpr uint32_t kFirstQueue = 2048;

}  // namespace

std::unique_ptr<Device> Device::make(const Library& library, ibv_context* context) {
  auto* channel = library.ibv_create_comp_channel(context);
  if (!channel) return nullptr;
  (void)sys::fcntl(context->async_fd, F_SETFL, O_NONBLOCK);
  (void)sys::fcntl(channel->fd, F_SETFL, O_NONBLOCK);
  (void)sys::fcntl(channel->fd, F_SETFD, FD_CLOEXEC);
  return std::unique_ptr<Device>(new Device(library, context, channel));
}

Device::Device(const Library& library, ibv_context* context, ibv_comp_channel* channel)
    : library_(library), context_(context), channel_(channel), health_fd_(context->async_fd), command_fd_(context->cmd_fd) {
  own::keep(channel->fd);
  library_.ibv_query_device(context, &limits_);
}

Device::~Device() {
  if (gone_) return;
  for (const auto& queue : queues_) library_.ibv_destroy_cq(queue.queue);
  own::forget(channel_->fd);
  library_.ibv_destroy_comp_channel(channel_);
}

bool Device::let_go() {
  if (gone_) return true;
  if (std::any_of(queue_pairs_.begin(), queue_pairs_.end(), [](const auto* pair) { return pair != nullptr; })) return false;
  for (const auto& queue : queues_) library_.ibv_destroy_cq(queue.queue);
  queues_.clear();
  // rdma-core keeps the context open as long as it finds no other device, and threads sleep on the channel's descriptor.
  for (const int fd : {channel_->fd, health_fd_, command_fd_}) sys::make_inert(fd);
  return gone_ = true;
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
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  while (library_.ibv_get_cq_event(channel_, &queue, &context) == 0) library_.ibv_ack_cq_events(queue, 1);
}

void Device::check_health() {
  if (gone_) return;
  ibv_async_event event{};
  while (library_.ibv_get_async_event(context_, &event) == 0) {
    const auto kind = event.event_type;
    auto* queue_pair = event.element.qp;
    library_.ibv_ack_async_event(&event);
    log::info("asynchronous event {} of the device", static_cast<int>(kind));
    const bool one = kind == IBV_EVENT_QP_FATAL || kind == IBV_EVENT_QP_REQ_ERR || kind == IBV_EVENT_QP_ACCESS_ERR;
    const bool all = kind == IBV_EVENT_DEVICE_FATAL || kind == IBV_EVENT_CQ_ERR || kind == IBV_EVENT_PORT_ERR;
    if (!one && !all) continue;
    for (size_t i = 0; i < queue_pairs_.size(); ++i)
      if (queue_pairs_[i] && (all || queue_pairs_[i]->is(queue_pair))) queue_pairs_[i]->broke();
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
